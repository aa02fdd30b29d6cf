"""The results file of a run: there whole or not at all, refused when newer, and damaged in one line."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cfglab.cli import call
from cfglab.errors import InputError, MachineError
from cfglab.experiments.execution.run import Run
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.feature_cache import FeatureCache, ImageFeatures
from cfglab.experiments.storage.store import Store
from cfglab.metrics.estimate import Estimate
from cfglab.report import report
from tests.experiments.examples import SMALL
from tests.experiments.test_store import row
from tests.small_run import small_run

EXPERIMENT = Experiment.from_yaml(SMALL)
ROOT = Path(__file__).parents[2]
CRASH = """
import os, sqlite3, sys
from pathlib import Path
from cfglab.experiments.storage import database
from cfglab.experiments.storage.store import Store
from tests.experiments.test_database import EXPERIMENT
if sys.argv[2] == "rename":
    database.os.replace = lambda *_: os._exit(9)
else:
    class Connection(sqlite3.Connection):
        def execute(self, query, *values):
            if sys.argv[2] in query:
                super().execute("PRAGMA cache_spill = 1")
                os._exit(9)
            return super().execute(query, *values)
    real = sqlite3.connect
    database.sqlite3.connect = lambda *a, **k: real(*a, factory=Connection, **k)
Store.create(Path(sys.argv[1]), EXPERIMENT)
"""


def damage(folder: Path, query: str) -> None:
    with closing(sqlite3.connect(folder / "results.sqlite")) as database:
        database.execute(query)
        database.commit()


def finished(folder: Path) -> Path:
    """A run with forty results, closed: no log is left beside the database."""
    with Store.create(folder, EXPERIMENT) as store:
        store.record([row(index, f"cell {index}" * 20) for index in range(40)])
    return folder


@pytest.mark.parametrize("at", ["INSERT INTO meta", "COMMIT", "rename"])
def test_a_run_killed_while_it_is_begun_is_begun_again(tmp_path: Path, at: str) -> None:
    folder = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", CRASH, str(folder), at], check=False, cwd=ROOT)
    assert done.returncode == 9
    assert any(path.name.startswith(".results.sqlite.tmp") for path in folder.iterdir())
    assert not (folder / "results.sqlite").exists()
    assert Store.check(folder, EXPERIMENT) is False
    with Store.create(folder, EXPERIMENT) as store:
        assert store.experiment == EXPERIMENT
    assert not any(path.name.endswith(("tmp", "tmp-journal")) for path in folder.iterdir())


def test_a_run_of_a_newer_cfglab_is_refused_and_untouched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished(tmp_path / "run")
    damage(folder, "PRAGMA user_version = 2")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    words = (
        r"run: a newer cfglab wrote this run \(format 2, this one knows 1\); update cfglab, or choose another folder"
    )
    for attempt in (Store.create, Store.check):
        with pytest.raises(InputError, match=words):
            attempt(folder, EXPERIMENT)
    for command in (["report"], ["compare"]):
        assert call([*command, str(folder)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "a newer cfglab wrote this run" in err
    now = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert {name: now[name] for name in before} == before
    assert set(now) - set(before) <= {"results.sqlite-wal", "results.sqlite-shm"}  # of readers, empty


def test_a_run_of_before_formats_were_numbered_is_read_and_continued(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    damage(folder, "PRAGMA user_version = 0")
    damage(folder, "DROP TABLE traces")
    with Store.create(folder, EXPERIMENT) as store:
        assert len(store.results()) == 40


def test_a_truncated_database_is_one_line(tmp_path: Path) -> None:
    path = finished(tmp_path / "run") / "results.sqlite"
    whole = path.read_bytes()
    for size in (100, len(whole) // 2, len(whole) - 4096):
        path.write_bytes(whole[:size])
        with (
            pytest.raises((InputError, MachineError), match=r"results\.sqlite: ") as caught,
            Store.create(path.parent, EXPERIMENT) as store,
        ):
            store.results()
        assert "\n" not in str(caught.value)
        assert "choose another --out" in str(caught.value) or "run again with another --out" in str(caught.value)


def test_a_damaged_row_is_one_line(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    damage(folder, "UPDATE results SET status = 'do' WHERE position = 7")
    with (
        Store.open(folder) as store,
        pytest.raises(InputError, match=r"a row is damaged \(status 'do'\); restore the file"),
    ):
        store.results()


def test_a_damaged_cache_says_that_it_may_be_deleted(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        cache.put("judge", {"picture": ImageFeatures(np.ones(3, np.float32), {})})
    content = cache.path.read_bytes()
    cache.path.write_bytes(content[:4096] + b"x" * (len(content) - 4096))
    with (
        FeatureCache(tmp_path) as cache,
        pytest.raises(MachineError, match=r"features\.sqlite: .*; delete the file, it only keeps what can be"),
    ):
        cache.get("judge", ["picture"])


@pytest.mark.parametrize(
    "query",
    [
        "UPDATE results SET position = -1 WHERE position = 1",
        "UPDATE results SET setting = 'text'",
        "UPDATE results SET image = x'00'",
        "UPDATE metrics SET value = 'text'",
        "UPDATE OR IGNORE metrics SET metric = x'0001'",
        "UPDATE set_metrics SET value = 'text'",
        "UPDATE set_metrics SET high = 9e999",
        "UPDATE set_metrics SET n = 1.5",
        "INSERT INTO traces VALUES ('c', 7)",
    ],
)
def test_a_value_of_another_kind_is_one_line_for_every_reader(tmp_path: Path, query: str) -> None:
    folder = small_run(tmp_path / "run")
    with Store.open(folder) as store:
        experiment = store.experiment
    with Store.create(folder, experiment) as store:
        store.record_set_metrics({"constant": {"kid": Estimate(value=0.1, low=0.0, high=0.2, n=128)}})
    damage(folder, query)
    for read in (report, lambda it: str(Run(it).compare("alignment")), lambda it: Store.open(it).rows()):
        with pytest.raises(
            InputError, match=r"results\.sqlite: a row is damaged \(.*delete it and run again"
        ) as caught:
            read(folder)
        assert "\n" not in str(caught.value)


def test_a_result_beyond_the_experiment_is_one_line(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")
    damage(folder, "UPDATE results SET position = 1000000 WHERE position = 1")
    for read in (report, lambda it: str(Run(it).compare("alignment"))):
        with pytest.raises(InputError, match="position 1000000, and there are 36 cells"):
            read(folder)
