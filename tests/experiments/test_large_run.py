"""A large run is read by columns: few queries, rows of one metric, no object an image. Counted, not timed."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from benchmarks.large_run import make
from cfglab.experiments import Store
from cfglab.experiments.analysis.compare import compare
from cfglab.experiments.analysis.scores import Scores
from cfglab.experiments.analysis.split_choice import best_on_split


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    folder = tmp_path_factory.mktemp("large") / "run"
    return folder, make(folder, 1200, prompts=6, seeds=4)


class Counter:
    """The queries that reach a store's database, and the rows that come back."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queries, self.rows, self.checks = 0, 0, 0
        store._database.set_trace_callback(self._count)
        select = store.select

        def counted(query: str, *values: object) -> list[sqlite3.Row]:
            rows = select(query, *values)
            self.rows += len(rows)
            return rows

        monkeypatch.setattr(store, "select", counted)

    def _count(self, query: str) -> None:
        if any(
            words in query for words in ("NOT ifnull(", "sqlite_master", "max(position)", "DISTINCT setting")
        ):  # once a table
            self.checks += 1
        else:
            self.queries += query.strip() not in ("BEGIN", "ROLLBACK")


@pytest.mark.parametrize("metric", ["alignment", "kid", "choose"])
def test_comparing_reads_one_metric_and_makes_no_object_a_picture(
    large: tuple[Path, int], metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cells = large
    with Store.open(folder) as store:
        settings = len(store.experiment.settings)
        assert settings == 50
        for name in ("results", "rows"):
            monkeypatch.setattr(store, name, lambda: pytest.fail("all results were read"))
        counter = Counter(store, monkeypatch)
        if metric == "choose":
            best_on_split(store, "alignment", "constant")
        else:
            assert len(compare(store, metric, "constant").rows) == settings - 1
    assert counter.queries <= 5
    assert counter.checks <= 8, "once a table, and the names and places in it"
    assert counter.rows <= 2 * cells + 20  # an image's place and its one value; the names of the metrics


def test_listing_asks_four_times_and_reads_no_name_twice(
    large: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cells = large
    with Store.open(folder) as store:
        counter = Counter(store, monkeypatch)
        assert len(store.results()) == cells
    assert counter.queries == 4
    assert counter.rows == 7 + cells + 7 * cells + cells  # metrics, cells, values, results


def test_a_column_is_what_the_results_say(tmp_path: Path) -> None:
    make(tmp_path, 60, prompts=6, seeds=2)
    with Store.create(tmp_path, Store.open(tmp_path).experiment) as store:
        results = store.results()
        of = store.rows()[7]
        failed = of.result.model_copy(update={"status": "failed", "metrics": {}, "image": None, "error": "no"})
        store.record([of.model_copy(update={"result": failed})])
        store._database.execute("DELETE FROM results WHERE position = 9")
        read, gathered = Scores.of(store, "saturation"), Scores.of(store.results(), "saturation")
    assert (read.settings, read.prompts, read.seeds) == (gathered.settings, gathered.prompts, gathered.seeds)
    assert np.array_equal(read.values, gathered.values, equal_nan=True)
    assert np.array_equal(read.failed, gathered.failed)
    assert read.failed.sum() == 1
    assert np.isnan(read.values).sum() == 2
    assert read.measured == gathered.measured == set(results[0].metrics)
