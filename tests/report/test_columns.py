"""Every cell in columns says what the results say one by one."""

from pathlib import Path

import numpy as np
import pytest

from cfglab.errors import InputError
from cfglab.experiments.analysis.compare import compare
from cfglab.experiments.analysis.paired import mean_interval
from cfglab.experiments.analysis.scores import Scores
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.results import Result, ResultRow
from cfglab.experiments.storage.store import Store
from cfglab.metrics import METRICS
from cfglab.report.summary.columns import Columns
from cfglab.report.summary.estimates import means_of
from tests.report.runs import experiment, make


def uneven(_: Setting, prompt: str, seed: int) -> dict[str, float]:
    """Not every image has every metric, and one is no number."""
    found = {"contrast": seed / 10, "saturation": float("inf") if seed == 2 else 0.5}
    return found | ({"alignment": 1.0} if prompt == "a dog" else {})


@pytest.mark.parametrize("score", [None, uneven])
def test_columns_hold_what_the_results_say(tmp_path: Path, score: object) -> None:
    of = experiment(prompts=["a dog", "a cat"], seeds="0..3")
    folder = make(tmp_path / "run", of, fail=(3, 20), stop=50, score=score)  # type: ignore[arg-type]
    with Store.open(folder) as store:
        columns, results = Columns.read(store), store.results()
    assert columns.shape == (7, 2, 4)
    assert [place for place, cell in enumerate(columns.cells) if cell] == list(range(50))
    assert dict(columns.errors) == dict.fromkeys((3, 20), "RuntimeError: out of memory")
    assert columns.done.sum() == 48
    assert columns.failed.sum() == 2
    assert set(columns.scores) == {name for result in results for name in result.metrics}
    for result in results:
        at = np.unravel_index(result.position, columns.shape)
        assert columns.position(*map(int, at)) == result.position
        assert columns.where(result.position) == (int(at[0]), result.prompt, result.seed)
        assert (columns.cells[result.position], columns.images[result.position]) == (result.cell, result.image)
        for name, values in columns.scores.items():
            expected = result.metrics.get(name, np.nan)
            assert values[at] == pytest.approx(expected if np.isfinite(expected) else np.nan, nan_ok=True)


def test_a_cell_that_two_settings_ask_for_counts_in_both(tmp_path: Path) -> None:
    of = experiment(seeds=0)
    result = Result(
        cell="one", position=1, setting="k-decay k=0.3", prompt=of.prompts[0], seed=0, status="done", image="i.png"
    )
    twice = [result.model_copy(update={"position": place, "metrics": {"contrast": 0.25}}) for place in (1, 4)]
    with Store.create(tmp_path / "run", of) as store:
        store.record([ResultRow(result=it, settled=True) for it in twice])
    with Store.open(tmp_path / "run") as store:
        values = Columns.read(store).scores["contrast"]
    assert np.flatnonzero(np.isfinite(values)).tolist() == [1, 4]
    assert values[1] == values[4] == 0.25


def test_comparisons_and_means_are_those_of_the_results(tmp_path: Path) -> None:
    of = experiment(prompts=["a frog", "a dog", "a cat"], seeds="3..6")
    with Store.open(make(tmp_path / "run", of, fail=(5,), stop=70)) as store:
        columns, results = Columns.read(store), store.results()
        for name in ("alignment", "contrast"):
            assert compare(columns.of(name), name, "constant") == compare(results, name, "constant")
            for setting, number in zip(of.settings, means_of(columns, METRICS[name]), strict=True):
                own = {
                    (it.prompt, it.seed): it.metrics[name]
                    for it in results
                    if it.setting == setting.name and it.metrics
                }
                expected = mean_interval(own)
                assert (number is None) == (expected is None)
                if number and expected:
                    assert (number.value, number.n) == (pytest.approx(expected.value), expected.n)
                    assert number.low == pytest.approx(max(0, expected.low) if name == "alignment" else expected.low)  # type: ignore[type-var]


def test_scores_of_another_metric_are_refused(tmp_path: Path) -> None:
    with Store.open(make(tmp_path / "run", experiment(seeds=0))) as store:
        columns = Columns.read(store)
    with pytest.raises(InputError, match="these scores are of 'contrast', not of 'alignment'"):
        Scores.of(columns.of("contrast"), "alignment")


def test_nothing_drawn_yet(tmp_path: Path) -> None:
    of = Experiment.preset("k-decay", seeds=0)
    with Store.open(make(tmp_path / "run", of, stop=0)) as store:
        columns = Columns.read(store)
    assert columns.scores == {}
    assert not columns.done.any()
    assert columns.cells == [None] * 21
