"""The run folder: what is written whole, who may write, what is refused, and reading beside a writer."""

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfglab.errors import InputError, MachineError
from cfglab.experiments.analysis.scores import Scores
from cfglab.experiments.spec.difference import describe_difference
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage import files
from cfglab.experiments.storage.files import write_whole
from cfglab.experiments.storage.results import Result, ResultRow
from cfglab.experiments.storage.store import Store
from cfglab.metrics.estimate import Estimate
from tests.experiments.examples import SMALL

EXPERIMENT = Experiment.from_yaml(SMALL)
ROOT = Path(__file__).parents[2]


def row(position: int, cell: str = "c", **fields: object) -> ResultRow:
    standard = {
        "setting": "constant",
        "prompt": "a cat",
        "seed": position,
        "torch_seed": EXPERIMENT.torch_seeds()[position % 4],
        "status": "done",
        "image": "images/c.png",
    }
    return ResultRow(result=Result(cell=cell, position=position, **{**standard, **fields}), settled=True, sha256="0")  # type: ignore[arg-type]


def test_what_is_recorded_is_read_back_in_order(tmp_path: Path) -> None:
    with Store.create(tmp_path / "run", EXPERIMENT) as store:
        store.record([row(1, "b", metrics={"contrast": 0.5}), row(0, "a", error="bad", status="failed", image=None)])
        store.record_metrics({"b": {"alignment": 1.0}})
        store.record_set_metrics({"constant": {"kid": Estimate(value=0.1, low=0.0, high=0.2, n=128)}})
        store.record_set_metrics({"constant": {"fid": Estimate(value=3.0, n=128)}})
    with Store.open(tmp_path / "run") as store:
        first, second = store.results()
        assert (first.cell, first.status, first.error, first.image) == ("a", "failed", "bad", None)
        assert second == row(1, "b", metrics={"contrast": 0.5, "alignment": 1.0}).result
        assert store.set_metrics() == {"constant": {"fid": Estimate(value=3.0, n=128)}}
        assert store.experiment == EXPERIMENT
    assert Experiment.from_yaml(tmp_path / "run" / "experiment.yaml") == EXPERIMENT


def test_another_picture_takes_the_old_metrics_with_it_and_the_same_one_keeps_them(tmp_path: Path) -> None:
    with Store.create(tmp_path, EXPERIMENT) as store:
        store.record([row(0, metrics={"contrast": 0.5})])
        store.record_metrics({"c": {"clip_score": 31.0}})
        store.record_set_metrics({"constant": {"kid_dinov2": Estimate(value=0.1, n=128)}})
        store.record([row(0, metrics={"contrast": 0.5})])
        assert store.results()[0].metrics == {"clip_score": 31.0, "contrast": 0.5}
        assert store.set_metrics()
        store.record([row(0, metrics={"contrast": 0.7}).model_copy(update={"sha256": "1"})])
        assert store.results()[0].metrics == {"contrast": 0.7}
        assert store.set_metrics() == {}


def test_what_could_not_be_measured_is_not_there(tmp_path: Path) -> None:
    with Store.create(tmp_path, EXPERIMENT) as store:
        store.record([row(0, metrics={"contrast": float("nan"), "saturation": 0.5})])
        store.record_metrics({"c": {"clip_score": float("inf")}})
        assert store.results()[0].metrics == {"saturation": 0.5}


@pytest.mark.parametrize("read", [Store.rows, Store.results, lambda store: Scores.of(store, "contrast")])
def test_a_reader_sees_one_moment_of_a_writer_at_work(tmp_path: Path, read: Callable[[Store], Any]) -> None:
    with Store.create(tmp_path, EXPERIMENT) as writer, Store.open(tmp_path) as reader:
        writer.record([row(0, metrics={"contrast": 0.5})])
        before, select, count = read(reader), reader.select, [0]

        def beside(query: str, *values: object) -> list[sqlite3.Row]:
            found = select(query, *values)
            count[0] += 1
            writer.record([row(count[0], f"c{count[0]}", metrics={"contrast": 0.5, f"more{count[0]}": 1.0})])
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader, "select", beside)
            assert str(read(reader)) == str(before)
        assert count[0] > 1
        assert len(reader.results()) == count[0] + 1


def test_the_csv_has_a_line_for_each_cell_and_no_traceback(tmp_path: Path) -> None:
    with Store.create(tmp_path, EXPERIMENT) as store:
        store.record([row(0, metrics={"contrast": 0.5}), row(1, "b", prompt='a "cat", or two', image=None)])
        store.record([row(2, "d", status="failed", error="Traceback:\n  line\nRuntimeError: no memory\n", image=None)])
        lines = store.write_csv().read_text().splitlines()
    assert lines[0].startswith("position,setting,group,guidance,prompt,seed,torch_seed,status,image,error,cell,")
    assert lines[0].endswith("rows_run,rows_saved,contrast")
    assert lines[1].startswith("0,constant,baseline,7.5,a cat,0,0,done,images/c.png,,c,0.0,0.0,0.5")
    assert '"a ""cat"", or two"' in lines[2]
    assert "RuntimeError: no memory" in lines[3]
    assert len(lines) == 4


def test_another_experiment_is_refused_with_both_names(tmp_path: Path) -> None:
    Store.create(tmp_path / "run", EXPERIMENT).close()
    before = (tmp_path / "run" / "experiment.yaml").read_text()
    for attempt in (Store.create, Store.check):
        with pytest.raises(InputError, match=r"run: holds the experiment 'small', not 'scale'; choose another --out\."):
            attempt(tmp_path / "run", Experiment.preset("scale"))
        with pytest.raises(InputError, match=r"'small' with seeds 0\.\.1, not 0\.\.3; choose another --out"):
            attempt(tmp_path / "run", Experiment.from_yaml(SMALL, seeds="0..3"))
    assert (tmp_path / "run" / "experiment.yaml").read_text() == before
    assert Store.check(tmp_path / "run", EXPERIMENT) is True
    assert Store.check(tmp_path / "new", EXPERIMENT) is False
    assert not (tmp_path / "new").exists()


def test_settings_in_another_order_are_named() -> None:
    text = (
        "{name: x, prompts: [a], baseline: {name: c, guidance: 7}, groups: [{name: w, guidance: '{w}', axes: {w: %s}}]}"
    )
    stored, requested = (Experiment.from_yaml(text % values) for values in ("[1, 2]", "[2, 1]"))
    assert describe_difference(stored, requested).endswith(
        "(the same ones in another order: 'w w=1' is before 'w w=2' there, and after it now)"
    )
    other = stored.model_copy(update={"settings": tuple(s.model_copy(update={"group": "g"}) for s in stored.settings)})
    assert describe_difference(stored, other).endswith("('c' has group baseline, not g)")


def test_words_that_are_not_of_the_identity_follow_the_last_run(tmp_path: Path) -> None:
    Store.create(tmp_path / "run", EXPERIMENT).close()
    with Store.create(tmp_path / "run", EXPERIMENT.model_copy(update={"title": "Hello"})) as store:
        assert store.experiment.title == "Hello"
    with Store.open(tmp_path / "run") as store:
        assert store.experiment.title == "Hello"
    assert "title: Hello" in (tmp_path / "run" / "experiment.yaml").read_text(encoding="utf-8")


def test_folders_with_other_things_and_files_in_the_way_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files and no run; choose another --out"):
        Store.create(tmp_path, EXPERIMENT)
    with pytest.raises(InputError, match="a run is a folder, but this is a file"):
        Store.create(tmp_path / "notes.txt", EXPERIMENT)
    with pytest.raises(InputError, match="a run is a folder, but there is a file in the way"):
        Store.create(tmp_path / "notes.txt" / "run", EXPERIMENT)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_without_a_run_and_damaged_results_are_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no run, there is no results\.sqlite; give a folder that `cfglab run`"):
        Store.open(tmp_path)
    (tmp_path / "results.sqlite").write_bytes(b"not a database, but long enough to look like one" * 40)
    for attempt in (lambda: Store.open(tmp_path), lambda: Store.create(tmp_path, EXPERIMENT)):
        with pytest.raises(InputError, match=r"results\.sqlite: is not a run's results"):
            attempt()
    (tmp_path / "results.sqlite").unlink()
    Store.create(tmp_path / "run", EXPERIMENT).close()
    with sqlite3.connect(tmp_path / "run" / "results.sqlite") as database:
        database.execute("UPDATE meta SET value = '{}' WHERE key = 'experiment'")
    database.close()
    with pytest.raises(InputError, match="the experiment in it cannot be read"):
        Store.open(tmp_path / "run")


def test_a_second_writer_is_refused_and_readers_are_not(tmp_path: Path) -> None:
    with Store.create(tmp_path, EXPERIMENT) as store:
        with pytest.raises(InputError, match=rf"process {os.getpid()} is writing there; one writer a run"):
            Store.create(tmp_path, EXPERIMENT)
        store.record([row(0)])
        with Store.open(tmp_path) as one, Store.open(tmp_path) as two:
            assert one.results() == two.results() == [row(0).result]
            store.record([row(1)])
            assert len(one.results()) == len(two.results()) == 2
    Store.create(tmp_path, EXPERIMENT).close()  # the lock went with the first writer


def test_a_crashed_writer_leaves_no_lock_and_whole_transactions(tmp_path: Path) -> None:
    code = f"""
import os
from cfglab.experiments.storage.store import Store
from tests.experiments.test_store import EXPERIMENT, row
store = Store.create({str(tmp_path)!r}, EXPERIMENT)
store.record([row(0), row(1)])
transaction = store._transaction()
database = transaction.__enter__()
database.execute("INSERT INTO meta VALUES ('half', 'written')")
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 9
    with Store.create(tmp_path, EXPERIMENT) as store:
        assert [it.position for it in store.results()] == [0, 1]
        assert store.meta("half") is None


def test_torn_files_of_a_crash_are_swept_and_never_seen(tmp_path: Path) -> None:
    Store.create(tmp_path, EXPERIMENT).close()
    torn = [tmp_path / ".results.csv.abc.tmp", tmp_path / "images" / ".c.png.abc.tmp"]
    for path in torn:
        path.write_bytes(b"half")
    with Store.create(tmp_path, EXPERIMENT) as store:
        assert store.results() == []
    assert not any(path.exists() for path in torn)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (errno.ENOSPC, MachineError, "the disk is full; free some space and run again"),
        (
            errno.EACCES,
            MachineError,
            r"cannot be written \(Permission denied\); make its folder writable, or use another",
        ),
        (errno.EIO, MachineError, "cannot be written"),
    ],
)
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception], words: str
) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, b"before")

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(files.os, step, fail)  # type: ignore[attr-defined]
            with pytest.raises(error, match=words) as caught:
                write_whole(path, b"after")
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == b"before"
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(
        MachineError, match=r"new: cannot be written \(Permission denied\); make its folder writable, or use another"
    ):
        Store.create(tmp_path / "new", EXPERIMENT)


def test_a_full_disk_under_the_database_is_the_machines_fault(tmp_path: Path) -> None:
    with Store.create(tmp_path, EXPERIMENT) as store:
        store._database.execute("PRAGMA max_page_count = 1")
        with pytest.raises(MachineError, match="the disk is full"):
            store.record([row(index, f"{index}" * 4000) for index in range(40)])
        store._database.execute("PRAGMA max_page_count = 100000")
        assert store.results() == []


def test_results_that_cannot_be_begun_leave_nothing_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(
            "cfglab.experiments.storage.database._SCHEMA", "CREATE TABLE meta (key); INSERT INTO nowhere VALUES (1);"
        )
        with pytest.raises(MachineError, match="nowhere"):
            Store.create(tmp_path / "run", EXPERIMENT)
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == [".lock"]
    with Store.create(tmp_path / "run", EXPERIMENT) as store:
        assert store.experiment == EXPERIMENT


def test_a_run_on_a_read_only_medium_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(tmp_path, EXPERIMENT) as store:
        store.record([row(0)])
    real: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect(address: str, **options: object) -> sqlite3.Connection:
        if "immutable" not in address:
            return real(":memory:")  # has no tables, as a WAL database without its index cannot be read
        return real(address, **options)

    monkeypatch.setattr(sqlite3, "connect", connect)
    with Store.open(tmp_path) as store:
        assert len(store.results()) == 1


def test_versions_are_noted_once_for_each_change(tmp_path: Path) -> None:
    with Store.create(tmp_path, EXPERIMENT) as store:
        for torch in ("1", "1", "2"):
            store.note_versions({"torch": torch})
    assert (tmp_path / "versions.json").read_text().count("torch") == 2
