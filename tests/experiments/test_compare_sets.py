"""Differences of set metrics: recomputed from the features, simulated, and read back from a store."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cfglab.errors import InputError
from cfglab.experiments import Experiment, Store
from cfglab.experiments.analysis.compare import compare, table
from cfglab.experiments.scoring.scorer import record_sets
from cfglab.metrics.byprompt import Reference
from cfglab.metrics.jackknife import delete_one_prompt, half_samples
from cfglab.metrics.sets import kid, mean_pairwise_distance

WIDTH, SEEDS = 6, 4
Features = dict[str, np.ndarray]


def experiment(prompts: int) -> Experiment:
    settings = [{"name": name, "group": "g", "guidance": w} for name, w in (("far", 3), ("same", 2), ("lone", 1))]
    document = {"prompts": f"scenes:{prompts}", "seeds": "0..3", "baseline": {"guidance": 5}, "settings": settings}
    return Experiment.from_yaml("name: sets", set=document)


def draw(of: Experiment, random: np.random.Generator, shift: float = 0.0, spread: float = 1.0) -> Features:
    return {
        prompt: shift + random.normal(size=(1, WIDTH)) + spread * random.normal(size=(SEEDS, WIDTH))
        for prompt in of.prompts
    }


def measured(folder: Path, of: Experiment, sets: dict[str, Features], real: np.ndarray) -> Store:
    store = Store.create(folder, of)
    record_sets(store, sets, Reference.of(real), 8)
    return store


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, WIDTH)) * np.sqrt(2)


def test_the_difference_is_the_jackknife_of_the_difference(tmp_path: Path, real: np.ndarray) -> None:
    of, random = experiment(12), np.random.default_rng(1)
    base, far = draw(of, random), draw(of, random, 0.8)
    same = {prompt: rows + 0.05 * random.normal(size=rows.shape) for prompt, rows in base.items()}
    floor = draw(of, random)
    with measured(tmp_path, of, {"real": floor, "baseline": base, "far": far, "same": same}, real) as store:
        found = compare(store, "kid", "baseline")
    assert [row.setting for row in found.rows] == ["same", "far"]  # lower is better
    row = found.rows[1]
    by_hand = delete_one_prompt(far, lambda rows: kid(real, rows)) - delete_one_prompt(
        base, lambda rows: kid(real, rows)
    )
    error = by_hand.standard_error
    assert error is not None
    assert row.mean == pytest.approx(kid(real, np.concatenate(list(far.values()))))
    assert (row.difference, row.low, row.high) == pytest.approx((by_hand.value, by_hand.low, by_hand.high))
    assert row.p == pytest.approx(2 * stats.t.sf(abs(by_hand.value) / error, 11))
    assert row.p_holm == pytest.approx(min(1, 2 * row.p))
    assert row.smallest_detectable == pytest.approx((stats.t.ppf(0.975, 11) + stats.t.ppf(0.8, 11)) * error)
    assert (row.n, row.n_prompts) == (48, 12)
    halves = half_samples(
        {p: np.hstack([far[p], base[p]]) for p in of.prompts},
        lambda rows: kid(real, rows[:, :WIDTH]) - kid(real, rows[:, WIDTH:]),
    )
    assert halves.high is not None
    assert halves.low is not None
    assert row.high is not None
    assert row.low is not None
    assert halves.high - halves.low == pytest.approx(row.high - row.low, rel=0.35)
    assert found.floor is not None
    assert found.floor.value == pytest.approx(kid(real, np.concatenate(list(floor.values()))))
    lines = table(found)
    assert [line[0] for line in lines[1:]] == ["baseline (baseline)", "same", "far", "real against real (floor)"]
    for words in (
        "delete-one jackknife of the difference",
        "Student's t",
        "family of these 2",
        "not better than real",
        "curse",
    ):
        assert words in found.note


def test_within_a_prompt_prompts_are_paired_as_pictures_are(tmp_path: Path, real: np.ndarray) -> None:
    of, random = experiment(10), np.random.default_rng(2)
    base, far = draw(of, random), draw(of, random, spread=1.5)
    with measured(tmp_path, of, {"baseline": base, "far": far}, real) as store:
        row = compare(store, "pairwise_distance", "baseline").rows[0]
    gaps = [mean_pairwise_distance(far[p]) - mean_pairwise_distance(base[p]) for p in of.prompts]
    oracle = stats.permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert row.difference == pytest.approx(np.mean(gaps))
    assert row.p == pytest.approx(oracle.pvalue)
    assert (row.n, row.n_prompts) == (40, 10)


def test_precision_has_no_p_and_few_or_other_prompts_no_interval(tmp_path: Path, real: np.ndarray) -> None:
    of, random = experiment(9), np.random.default_rng(3)
    base, far = draw(of, random), draw(of, random, 1.5)
    lone = dict(list(draw(of, random).items())[:8])
    with measured(tmp_path / "a", of, {"baseline": base, "far": far, "lone": lone}, real) as store:
        precision = compare(store, "precision", "baseline")
        rows = {row.setting: row for row in compare(store, "recall", "baseline").rows}
    assert {row.p for row in precision.rows} == {None}
    assert [row.low is None for row in precision.rows] == [True, False]  # lone, far
    assert "No p: near 1" in precision.note
    assert rows["far"].p is not None
    assert (rows["lone"].low, rows["lone"].p, rows["lone"].n_prompts) == (None, None, 8)
    assert rows["lone"].difference is not None
    few = experiment(7)
    with measured(tmp_path / "b", few, {"baseline": draw(few, random), "far": draw(few, random)}, real) as store:
        found = compare(store, "kid", "baseline")
    assert (found.rows[0].low, found.rows[0].p) == (None, None)
    assert "No interval where fewer than 8 prompts" in found.note
    assert found.floor is None
    assert "floor" not in found.note
    assert "A setting has 32 to 36 images, for some failed or are missing" in precision.note


def test_a_run_scored_by_an_older_version_gives_values_without_intervals(tmp_path: Path, real: np.ndarray) -> None:
    of, random = experiment(9), np.random.default_rng(4)
    with measured(tmp_path, of, {"baseline": draw(of, random), "far": draw(of, random, 1)}, real) as store:
        store._database.execute("DROP TABLE set_parts")
        row = compare(store, "kid", "baseline").rows[0]
        assert row.difference is not None
        assert row.low is None
        assert compare(store, "vendi", "baseline").rows[0].low is None


def test_what_sets_are_refused_for(tmp_path: Path, real: np.ndarray) -> None:
    of, random = experiment(9), np.random.default_rng(5)
    with measured(tmp_path, of, {"baseline": draw(of, random), "far": draw(of, random)}, real) as store:
        with pytest.raises(InputError, match="baseline 'faar' is no setting of this run; did you mean 'far'"):
            compare(store, "kid", "faar")
        with pytest.raises(InputError, match="baseline 'lone' has no kid: none of its images was measured"):
            compare(store, "kid", "lone")
        store._database.execute("DELETE FROM set_metrics WHERE metric = 'coverage'")
        words = "metric 'coverage' needs real images to be held against and was not measured in this run"
        with pytest.raises(InputError, match=re.escape(words)) as refused:
            compare(store, "coverage", "baseline")
        assert str(refused.value).endswith(
            "128 images a setting. Metrics of sets here: density, fid, kid, pairwise_distance, precision, recall, vendi"
        )
        with pytest.raises(InputError, match="metric 'alignment' was not measured"):
            compare(store, "alignment", "baseline")


def test_p_of_a_set_metric_is_no_smaller_than_it_says(real: np.ndarray, tmp_path: Path) -> None:
    """Two settings of one law, whose images share what their prompt does: at 5 % about one in twenty is called."""
    of, random, reference = experiment(16), np.random.default_rng(6), Reference.of(real)
    found: dict[str, list[float]] = {"kid": [], "fid": [], "recall": [], "density": []}
    with Store.create(tmp_path, of) as store:
        for _ in range(120):
            shared = draw(of, random, spread=0.0)
            sets = {
                name: {prompt: rows + random.normal(size=rows.shape) for prompt, rows in shared.items()}
                for name in ("baseline", "far")
            }
            record_sets(store, sets, reference, 8)
            for metric, values in found.items():
                values += [p for row in compare(store, metric, "baseline").rows if (p := row.p) is not None]
    for values in found.values():
        assert len(values) > 100
        assert np.mean(np.array(values) < 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(values))
