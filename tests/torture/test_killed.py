"""`cfglab run` killed, starved and damaged, and run again: what is there at the end is what one quiet run leaves.

The short form is part of `make test`; `make torture` runs the full one as well.
"""

import random
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_pipeline
from tests.torture.sweep import Server, Sweep, Where, contents

WRITE = "cfglab.experiments.storage.files:write_whole"
STORE = "cfglab.experiments.storage.store:Store."
CACHE = "cfglab.experiments.storage.feature_cache:FeatureCache."
KILLS: tuple[Where, ...] = (
    {"kill": "cfglab.experiments.storage.database:begin", "nth": 1},
    {"kill": STORE + "_prepare", "nth": 1},
    {"kill": "cfglab.experiments.backends.pipeline:PipelineBackend.generate", "nth": 2},
    {"kill": WRITE, "nth": 3, "ends": ".png"},
    {"kill": "os:replace", "nth": 5, "ends": ".png"},
    {"kill": STORE + "record", "nth": 2},
    {"kill": "cfglab.experiments.storage.store:_insert_metrics", "nth": 3},
    {"kill": STORE + "record", "nth": 1, "after": True},
    {"kill": CACHE + "put", "nth": 1, "after": True},
    {"kill": STORE + "record_metrics", "nth": 1, "after": True},
    {"kill": STORE + "record_set_metrics", "nth": 1},
    {"kill": STORE + "set_meta", "nth": 1, "ends": "scored"},
    {"kill": STORE + "write_csv", "nth": 1},
    {"kill": "os:replace", "nth": 1, "ends": "results.csv"},
    {"kill": "os:replace", "nth": 1, "ends": "report.json"},
    {"kill": WRITE, "nth": 1, "ends": "report.html"},
)
SHORT = (1, 3, 6, 9, 14)  # begun, between images and rows, in a row's transaction, while scoring, in the report


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as warm:
        yield warm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with warnings.catch_warnings():  # diffusers on the scheduler's steps_offset
        warnings.simplefilter("ignore", FutureWarning)
        return tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny", factor=4)


@pytest.fixture(scope="module")
def quiet(server: Server, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one run leaves that nothing happens to: 24 images in four batches."""
    sweep = Sweep(server, tmp_path_factory.mktemp("quiet"), model, seeds="0..1")
    assert sweep.go() == {"code": 0, "calls": 0}
    found = contents(sweep.run)
    assert sum(name.endswith(".png") for name in found) == 24
    assert {"results.csv", "results.sqlite", "features.sqlite", "report.html", "report.json"} <= set(found)
    return found


@pytest.fixture
def sweep(server: Server, model: Path, tmp_path: Path) -> Sweep:
    return Sweep(server, tmp_path, model, seeds="0..1")


def killed(sweep: Sweep, where: Where) -> None:
    assert sweep.go(where)["code"] == -9, f"nothing was killed at {where}: {sweep.said}"


def ends_as(sweep: Sweep, expected: dict[str, Any]) -> None:
    """One more run is whole, and everything is byte for byte what it should be."""
    assert sweep.go()["code"] == 0, sweep.said
    found = contents(sweep.run)
    assert set(found) == set(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


def test_killed_where_it_hurts_a_sweep_ends_as_if_nothing_had_been(sweep: Sweep, quiet: dict[str, Any]) -> None:
    for number in SHORT:
        killed(sweep, KILLS[number])
    ends_as(sweep, quiet)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(KILLS)))
def test_killed_at_any_point_alone(number: int, sweep: Sweep, quiet: dict[str, Any]) -> None:
    killed(sweep, KILLS[number])
    ends_as(sweep, quiet)


@pytest.mark.slow
def test_killed_25_times_at_random_moments(server: Server, model: Path, tmp_path: Path) -> None:
    """A moment is a call of any function in the process, drawn from all those of a whole run (about two million)."""
    whole = Sweep(server, tmp_path / "whole", model)
    calls = whole.go({"kill": "calls", "nth": -1})["calls"]
    expected = contents(whole.run)
    sweep = Sweep(server, tmp_path / "killed", model)
    rng, kills = random.Random(20221125), 0
    while kills < 25:
        code = sweep.go({"kill": "calls", "nth": rng.randrange(1, calls // 3)})["code"]
        assert code in (0, -9), sweep.said
        kills += code == -9
        if code == 0:  # it got to its end before its moment came: go on with every third row missing
            with closing(sqlite3.connect(sweep.run / "results.sqlite")) as database:
                database.execute("DELETE FROM results WHERE position % 3 = 1")
                database.commit()
    ends_as(sweep, expected)


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def remove(*paths: Path) -> None:
    for path in paths:
        path.unlink()


def rows(run: Path, query: str) -> None:
    with closing(sqlite3.connect(run / "results.sqlite")) as database:
        database.execute(query)
        database.commit()


def picture(run: Path, number: int) -> Path:
    return sorted((run / "images").glob("*.png"))[number]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a torn image": lambda run: cut(picture(run, 0), 0.5),
    "an empty image": lambda run: cut(picture(run, 1), 0),
    "a flipped bit": lambda run: flip(picture(run, 2)),
    "a lost image": lambda run: picture(run, 3).unlink(),
    "a lost row": lambda run: rows(run, "DELETE FROM results WHERE position = 5"),
    "a torn row": lambda run: rows(run, "UPDATE results SET sha256 = substr(sha256, 1, 9) WHERE position = 9"),
    "a row without its image": lambda run: rows(run, "UPDATE results SET image = NULL WHERE position = 11"),
    "a lost cache": lambda run: (run / "features.sqlite").unlink(),
    "lost files for people": lambda run: remove(run / "results.csv", run / "experiment.yaml"),
}


def test_damaged_between_runs_a_sweep_is_mended(sweep: Sweep, quiet: dict[str, Any]) -> None:
    assert sweep.go()["code"] == 0
    for harm in DAMAGE.values():
        harm(sweep.run)
    ends_as(sweep, quiet)


@pytest.mark.parametrize("share", [0.3, pytest.param(0.8, marks=pytest.mark.slow)])
def test_a_log_torn_by_a_crash_loses_whole_batches_only(share: float, sweep: Sweep, quiet: dict[str, Any]) -> None:
    killed(sweep, {"kill": STORE + "record", "nth": 4})
    log = sweep.run / "results.sqlite-wal"
    for torn in (log, log.with_name("results.sqlite-shm")):
        cut(torn, share if torn == log else 0)
    rows = sweep.count()
    assert rows == 0 or rows % 6 == 3  # the first batch is one prompt and seed, each later one two
    assert sweep.count() < 18
    ends_as(sweep, quiet)


@pytest.mark.parametrize(("nth", "drawn"), [pytest.param(2, 0, marks=pytest.mark.slow), (10, 9)])
def test_a_full_disk_is_one_line_and_what_was_drawn_is_kept(
    nth: int, drawn: int, sweep: Sweep, quiet: dict[str, Any]
) -> None:
    assert sweep.go({"full": WRITE, "nth": nth, "ends": ".png"})["code"] == 1
    assert sweep.said.startswith("cfglab: run")
    assert sweep.said.endswith("the disk is full; free some space and run again.\n")
    assert sweep.said.count("\n") == 1
    assert sweep.count() == drawn
    assert not [path for path in sweep.run.rglob("*") if path.name.endswith(".tmp")]
    ends_as(sweep, quiet)


@pytest.mark.slow
def test_a_disk_that_is_really_full_every_few_pictures(model: Path, tmp_path: Path, quiet: dict[str, Any]) -> None:
    """A tmpfs of 100 kB that grows by half whenever a run has stopped for want of room, in a namespace of its own."""
    try:
        server = Server(alone=True)
    except (AssertionError, ValueError, OSError):
        pytest.skip("no mount namespace here")
    with server:
        disk = tmp_path / "disk"
        disk.mkdir()
        size = 100
        if server.ask(sh=f"mount -t tmpfs -o size={size}k tmpfs {disk}")["code"]:
            pytest.skip("nothing can be mounted here")
        sweep = Sweep(server, tmp_path / "sweep", model, seeds="0..1")
        sweep.command[-1] = str(disk / "run")
        stops = 0
        while (code := sweep.go()["code"]) != 0:
            assert code == 1
            *before, last = sweep.said.splitlines()
            assert last.startswith("cfglab: ")
            assert "disk" in last
            assert before == [] or before[0].endswith(" images drawn, 24 in the run"), (
                before
            )  # the report was short of room
            stops, size = stops + 1, size * 3 // 2
            server.ask(sh=f"mount -o remount,size={size}k {disk}")
        assert stops >= 5
        assert server.ask(sh=f"cp -r {disk / 'run'} {tmp_path / 'copy'}") == {"code": 0}
    found = contents(tmp_path / "copy")
    assert {name: found[name] for name in found if not name.startswith("report")} == {
        name: quiet[name] for name in quiet if not name.startswith("report")
    }


def test_two_at_once_readers_meanwhile_and_a_kill_that_frees_the_folder(
    server: Server, sweep: Sweep, quiet: dict[str, Any]
) -> None:
    held = sweep.go({"hold": STORE + "record", "nth": 3})
    assert held["held"]
    before = contents(sweep.run)
    assert sweep.go()["code"] == 2
    assert sweep.said == (
        f"cfglab: run: process {held['pid']} is writing there; one writer a run: wait for it, or choose another "
        "--out.\n"
    )
    assert contents(sweep.run) == before
    assert sweep.go(command=["compare", "run", "--metric", "contrast"])["code"] == 0
    assert "falling k=1" in sweep.said
    shutil.copytree(sweep.run, sweep.folder / "copy")
    assert sweep.go(command=["report", "copy"])["code"] == 0
    assert server.ask(end=held["pid"]) == {"code": -9}
    ends_as(sweep, quiet)
