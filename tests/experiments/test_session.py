"""What a run notes of itself in its folder, the time left, and a stop that another process requests."""

from pathlib import Path

import pytest

from cfglab.errors import InputError
from cfglab.experiments.storage.files import LOCK, SESSION, STOP, is_locked, only_writer
from cfglab.experiments.storage.results import ResultRow
from cfglab.experiments.storage.session import (
    Session,
    SessionRecord,
    StopRequested,
    WorkerState,
    read_session,
    request_stop,
)
from cfglab.experiments.storage.store import Store
from tests.quick_run import contents, quick, run_quickly


class Clock:
    """Seconds that only a test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(folder: Path) -> SessionRecord:
    session = read_session(folder)
    assert session is not None
    return session


def test_a_run_notes_how_far_it_is_and_how_it_ended(tmp_path: Path) -> None:
    phases: list[tuple[str, int, int, bool]] = []

    def before(_batch: int) -> None:
        session = record(tmp_path / "run")
        phases.append((session.phase, session.done, session.total, is_locked(tmp_path / "run")))

    run_quickly(tmp_path / "run", before)
    assert phases[0] == ("generating", 0, 8, True)
    assert {phase for phase, *_ in phases} == {"generating"}
    assert (record(tmp_path / "run").phase, record(tmp_path / "run").done) == ("finished", 8)
    assert not is_locked(tmp_path / "run")


@pytest.mark.parametrize(
    ("error", "phase", "words"),
    [
        (KeyboardInterrupt(), "stopped", ""),
        (InputError("w: is wrong;\nwrite 7.5."), "failed", "w: is wrong; write 7.5."),
        (ValueError("a\x1b[2Jb"), "failed", r"ValueError: a\x1b[2Jb"),
    ],
)
def test_a_session_that_an_error_ends_says_which(error: BaseException, phase: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(type(error)), Session(tmp_path):
        raise error
    assert (record(tmp_path).phase, record(tmp_path).error) == (phase, words)


def test_a_requested_stop_comes_between_two_batches_and_the_run_continues_to_the_same_end(tmp_path: Path) -> None:
    folder, batches = tmp_path / "run", list[int]()

    def before(number: int) -> None:
        batches.append(number)
        if number == 1:
            request_stop(folder)

    with pytest.raises(StopRequested):
        run_quickly(folder, before)
    assert batches == [0, 1]  # the batch that was being generated is kept
    with Store.open(folder) as store:
        assert store.counts()["done"] == 4
    assert record(folder).phase == "stopped"
    assert not (folder / STOP).exists()
    run_quickly(folder)
    run_quickly(tmp_path / "whole")
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_request_for_an_earlier_session_stops_no_later_one(tmp_path: Path) -> None:
    def leave(number: int) -> None:
        if number == 1:
            (tmp_path / "run" / STOP).write_text("of an earlier session\n")

    try:
        assert run_quickly(tmp_path / "run", leave).drawn == 8
    except StopRequested:  # which would end all tests, as Ctrl-C does
        pytest.fail("it stopped")
    assert not (tmp_path / "run" / STOP).exists()


def test_a_stop_without_a_run_that_looks_for_it_is_one_line(tmp_path: Path) -> None:
    run_quickly(tmp_path / "run")
    with pytest.raises(InputError, match="no process is writing there"):
        request_stop(tmp_path / "run")
    with only_writer(tmp_path / "run"), pytest.raises(InputError, match="press Ctrl-C where it runs"):
        request_stop(tmp_path / "run")  # a writer of another kind: `cfglab score`
    assert not (tmp_path / "run" / STOP).exists()


def test_the_time_left_is_that_of_this_session_alone(tmp_path: Path) -> None:
    clock = Clock()
    with Session(tmp_path, clock) as session:
        assert record(tmp_path).seconds_left(clock.now) is None  # the model is loading
        clock.now += 50
        session.update(40, 100)  # 40 were there before
        assert record(tmp_path).seconds_left(clock.now) is None
        clock.now += 20
        session.update(50, 100)
        assert record(tmp_path).seconds_left(clock.now) == pytest.approx(20 / 10 * 50)
        assert record(tmp_path).seconds_left(clock.now + 30) == pytest.approx(70)
        session.scoring()
        assert record(tmp_path).seconds_left(clock.now) is None


def test_notes_of_one_phase_are_written_once_a_second(tmp_path: Path) -> None:
    clock = Clock()
    with Session(tmp_path, clock) as session:
        session.update(0, 100)
        clock.now += 0.4
        session.update(1, 100)
        assert record(tmp_path).done == 0
        clock.now += 0.7
        session.update(2, 100, [WorkerState(number=1, state="working")])
        assert (record(tmp_path).done, record(tmp_path).workers[0].state) == (2, "working")
        session.update(100, 100)
        assert record(tmp_path).done == 100


def test_a_note_that_cannot_be_written_or_read_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "run" / SESSION).mkdir(parents=True)
    (tmp_path / "run" / STOP).mkdir()
    assert run_quickly(tmp_path / "run").drawn == 8
    assert read_session(tmp_path / "run") is None
    for text in ("", "[]", '{"id": 3}', "\0", "x" * 2_000_000):
        (tmp_path / SESSION).write_text(text)
        assert read_session(tmp_path) is None


def test_a_lock_that_a_reader_looked_at_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import lock_descriptor

    tries: list[int] = []

    def taken_once(file: int, *, blocking: bool) -> bool:
        tries.append(file)
        return len(tries) > 1 and lock_descriptor(file, blocking=blocking)

    monkeypatch.setattr("filelock.lock_descriptor", taken_once)
    with only_writer(tmp_path):
        assert len(tries) == 2
    assert not is_locked(tmp_path / "nowhere")
    assert (tmp_path / LOCK).is_file()


def test_the_latest_images_and_the_failed_cells_are_read_in_the_plans_order(tmp_path: Path) -> None:
    run_quickly(tmp_path / "run")
    with Store.open(tmp_path / "run") as store:
        latest = [(cell.prompt, cell.seed, cell.setting) for cell in store.latest(3)]
        assert latest == [("a dog", 1, "more"), ("a dog", 1, "constant"), ("a dog", 0, "more")]
        assert all(cell.image and cell.image.startswith("images/") for cell in store.latest(100))
        assert len(store.latest(100)) == 8
        assert store.failures(5) == []
        first = store.results()[0]
    failed = first.model_copy(update={"status": "failed", "image": None, "error": "Traceback\nValueError: no"})
    with Store.create(tmp_path / "run", quick()) as store:
        store.record([ResultRow(result=failed, settled=False)])
        (cell,) = store.failures(5)
        assert (cell.setting, cell.prompt, cell.seed, cell.error) == ("constant", "a cat", 0, "ValueError: no")
        assert len(store.latest(100)) == 7
