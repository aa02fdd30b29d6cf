"""A run's first look: a report after one image of every setting, newer ones later, the plan of its folder."""

from itertools import count
from pathlib import Path

import pytest

from cfglab.cli.live_report import SHARE, LiveReport
from cfglab.experiments.execution import run as running
from cfglab.experiments.execution.run import RunProgress
from cfglab.experiments.spec.batching import batches
from cfglab.experiments.storage.store import Store
from tests.quick_run import FACTS, contents, quick, run_quickly
from tests.small_run import small_run


def stop_at(batch: int) -> object:
    """A function that interrupts a run before one of its batches."""

    def stop(number: int) -> None:
        if number == batch:
            raise KeyboardInterrupt

    return stop


def test_a_run_keeps_the_plan_that_it_was_begun_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions: list[str] = []

    def planned(cells: object, factor: int, version: str = "2") -> object:
        versions.append(version)
        return batches(cells, factor, version)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "batches", planned)
    with pytest.raises(KeyboardInterrupt):
        run_quickly(tmp_path / "new", stop_at(1))  # type: ignore[arg-type]
    with Store.open(tmp_path / "new") as store:
        assert store.meta("plan") == "2"
    with Store.create(tmp_path / "old", quick()) as store:  # begun before there were versions
        store._database.execute("DELETE FROM meta WHERE key = 'plan'")
    versions.clear()
    run_quickly(tmp_path / "new")
    assert versions == ["2"]
    versions.clear()
    run_quickly(tmp_path / "old")
    assert versions == ["1"]
    run_quickly(tmp_path / "whole")
    assert contents(tmp_path / "new") == contents(tmp_path / "whole")


def test_the_progress_counts_from_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress: list[tuple[int, int, int]] = []
    begin = running.run

    def watched(*arguments: object, **options: object) -> object:
        return begin(
            *arguments,  # type: ignore[arg-type]
            **options,  # type: ignore[arg-type]
            watch=lambda now: progress.append((now.done, now.total, now.first_pass)),
        )

    monkeypatch.setattr(running, "run", watched)
    with pytest.raises(KeyboardInterrupt):
        run_quickly(tmp_path / "run", stop_at(2))  # type: ignore[arg-type]
    assert progress == [(0, 8, 2), (2, 8, 2), (4, 8, 2)]
    progress.clear()
    run_quickly(tmp_path / "run")
    assert progress == [(4, 8, 2), (6, 8, 2), (8, 8, 2)]
    assert FACTS.factor == 4


def test_the_report_is_written_after_the_first_pass_and_then_only_when_it_is_cheap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []
    now = [0.0]

    def report(_folder: Path, live: bool) -> Path:
        assert live
        written.append(now[0])
        now[0] += 1  # it takes a second
        return tmp_path / "report.html"

    monkeypatch.setattr("cfglab.report.report", report)
    lines: list[str] = []
    watch = LiveReport(lines.append, lambda: now[0])
    watch(RunProgress(tmp_path, 0, 100, 4))
    for done in count(2, 2):
        now[0] += 5
        if done > 20:
            break
        watch(RunProgress(tmp_path, done, 100, 4))
    assert written[0] == 10  # not before four images are there
    assert len(written) == 3
    assert written[1] - written[0] >= SHARE
    assert lines[0] == "100 images to generate; the first report comes after 4, an image of every setting"
    assert "4 of 100 images; about 4 min left" in lines[1]
    assert len(lines) == 2


def test_the_finished_run_and_a_run_in_one_batch_get_no_live_report(tmp_path: Path) -> None:
    watch = LiveReport(lambda _line: None)
    folder = small_run(tmp_path / "run")
    watch(RunProgress(folder, 0, 36, 3))
    watch(RunProgress(folder, 36, 36, 3))
    assert not (folder / "report.html").exists()


def test_a_report_that_cannot_be_written_stops_no_run(tmp_path: Path) -> None:
    lines: list[str] = []
    watch = LiveReport(lines.append)
    watch(RunProgress(tmp_path / "nothing", 0, 36, 3))
    watch(RunProgress(tmp_path / "nothing", 3, 36, 3))
    assert len(lines) == 1
