"""Intervals of set metrics: the fast path equals the slow one, and the intervals cover."""

import numpy as np
import pytest

from cfglab.errors import InputError
from cfglab.metrics import distances
from cfglab.metrics.byprompt import Reference, set_metrics
from cfglab.metrics.jackknife import Jackknife, delete_one_prompt, half_samples
from cfglab.metrics.registry import METRICS
from cfglab.metrics.sets import density_coverage, fid, frechet, kid, mean_pairwise_distance, precision_recall, vendi

SLOW = {
    "kid": kid,
    "fid": fid,
    "precision": lambda real, rows: precision_recall(real, rows, 3)[0],
    "recall": lambda real, rows: precision_recall(real, rows, 3)[1],
    "density": lambda real, rows: density_coverage(real, rows, 3)[0],
    "coverage": lambda real, rows: density_coverage(real, rows, 3)[1],
}


def pictures(prompts: int, sizes: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    """Images of one prompt are near one another, so leaving a prompt out moves the neighbours."""
    random = np.random.default_rng(seed)
    return {
        f"prompt {i}": 0.8 * random.normal(size=(1, 4)) + 0.5 * random.normal(size=(sizes[i % len(sizes)], 4))
        for i in range(prompts)
    }


def test_a_mean_gives_the_textbook_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=12)
    found = delete_one_prompt(
        {f"p{i:02}": [[value]] for i, value in enumerate(values)}, lambda rows: float(rows.mean())
    )
    error = values.std(ddof=1) / np.sqrt(12)
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(error)
    assert found.high == pytest.approx(values.mean() + 2.200985 * error, rel=1e-6)  # t(.975, 11)
    assert found.low == pytest.approx(values.mean() - 2.200985 * error, rel=1e-6)


@pytest.mark.parametrize("block_rows", [None, 7])
@pytest.mark.parametrize("sizes", [(4,), (1, 5, 3)])
def test_the_fast_path_equals_leaving_out_one_by_one(
    sizes: tuple[int, ...], block_rows: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = np.random.default_rng(1).normal(size=(50, 4))
    features = pictures(9, sizes)
    if block_rows:
        monkeypatch.setattr(distances, "BLOCK_BYTES", 8 * 30 * block_rows)
    fast = set_metrics(features, Reference.of(real, k=3))
    assert set(fast) == {name for name, metric in METRICS.items() if metric.of != "image" and not metric.model}
    for name, metric in SLOW.items():
        slow = delete_one_prompt(features, lambda rows, metric=metric: metric(real, rows))
        assert fast[name].value == pytest.approx(slow.value, rel=1e-9), name
        assert fast[name].without == pytest.approx(slow.without, rel=1e-9), name
        assert (fast[name].prompts, fast[name].n) == (slow.prompts, slow.n)
    assert len(set(fast["recall"].without)) > 2


def test_diversity_is_a_mean_over_prompts_that_have_two_pictures() -> None:
    features = pictures(6, (1, 5, 3))
    found = set_metrics(features, Reference.of(np.random.default_rng(1).normal(size=(50, 4))))
    several = [rows for rows in features.values() if len(rows) > 1]
    for name, measure in (("vendi", vendi), ("pairwise_distance", mean_pairwise_distance)):
        values = np.array([measure(rows) for rows in several])
        assert found[name].value == pytest.approx(values.mean())
        assert found[name].standard_error == pytest.approx(values.std(ddof=1) / 2)
        assert found[name].n == sum(map(len, several))


def test_too_little_gives_no_name_or_no_interval() -> None:
    reference = Reference.of(np.random.default_rng(1).normal(size=(50, 4)))
    one = set_metrics(pictures(1, (16,)), reference)
    assert set(one) == {name for name, metric in METRICS.items() if metric.of != "image" and not metric.model}
    assert all(found.without == () and found.low is None and found.estimate.high is None for found in one.values())
    assert set(set_metrics(pictures(1, (4,)), reference)) == {"kid", "fid", "vendi", "pairwise_distance"}
    assert set_metrics(pictures(1, (1,)), reference) == {}
    two = set_metrics(pictures(2, (4,)), reference)  # eight images have neighbours, the four that stay have not
    assert two["recall"].low is None
    assert two["kid"].low is not None


def test_a_recall_of_nothing_is_no_sure_zero() -> None:
    far = {prompt: rows + 50 for prompt, rows in pictures(9, (4,)).items()}
    found = set_metrics(far, Reference.of(np.random.default_rng(1).normal(size=(50, 4))))
    assert (found["recall"].value, found["recall"].low, found["recall"].high) == (0.0, None, None)
    assert found["kid"].low is not None


def test_a_shared_part_drops_out_of_a_difference() -> None:
    features = pictures(20, (4,))
    nearly = {prompt: rows + 0.01 for prompt, rows in features.items()}
    reference = Reference.of(np.random.default_rng(1).normal(size=(200, 4)))
    a, b = (set_metrics(side, reference)["kid"] for side in (features, nearly))
    difference = a - b
    assert difference.value == pytest.approx(a.value - b.value)
    assert difference.standard_error is not None
    assert a.standard_error is not None
    assert difference.standard_error < 0.1 * a.standard_error
    with pytest.raises(
        InputError, match="20 and 19 prompts that are not the same: a difference needs the same prompts"
    ):
        a - set_metrics(dict(list(features.items())[1:]), reference)["kid"]


def test_intervals_cover_what_many_repetitions_average_to() -> None:
    """Images of one prompt are alike: treating images as independent would cover far less."""
    random = np.random.default_rng(3)
    reference = Reference.of(1.1 * random.normal(size=(200, 4)))
    found: dict[str, list[Jackknife]] = {}
    loose: list[Jackknife] = []
    for trial in range(150):
        centres = 0.3 + 0.8 * random.normal(size=(30, 1, 4))
        features = {f"{i:02}": centre + 0.5 * random.normal(size=(4, 4)) for i, centre in enumerate(centres)}
        for name, one in set_metrics(features, reference).items():
            found.setdefault(name, []).append(one)
        if trial % 3:
            continue
        rows = np.concatenate(list(features.values()))
        loose.append(_fid_only({f"{i:03}": row[None] for i, row in enumerate(rows)}, reference))
    for name in ("kid", "fid", "recall", "density", "coverage", "vendi", "pairwise_distance"):
        assert 0.90 <= _covered(found[name]) <= 1.0, name
    assert _covered(loose) < 0.80


def _fid_only(features: dict[str, np.ndarray], reference: Reference) -> Jackknife:
    return delete_one_prompt(
        features, lambda rows: frechet(reference.mean, reference.covariance, rows.mean(axis=0), np.cov(rows.T))
    )


def _covered(found: list[Jackknife]) -> float:
    truth = np.mean([one.value for one in found])
    return float(
        np.mean([one.low <= truth <= one.high for one in found if one.low is not None and one.high is not None])
    )


def test_half_samples_of_a_mean_agree_with_the_textbook_and_use_no_picture_twice() -> None:
    values = np.random.default_rng(0).normal(size=30)
    seen: list[int] = []

    def mean(rows: np.ndarray) -> float:
        seen.append(len(np.unique(rows)))
        return float(rows.mean())

    found = half_samples({f"p{i:02}": [[value]] for i, value in enumerate(values)}, mean, draws=4000)
    assert set(seen) == {15, 30}
    assert found.high is not None
    textbook = 2.04523 * values.std(ddof=1) / np.sqrt(30)  # t(.975, 29)
    assert found.high - found.value == pytest.approx(textbook, rel=0.04)
    few = values[:5]  # halves of two: two against three
    odd = half_samples({f"p{i:02}": [[value]] for i, value in enumerate(few)}, lambda rows: rows.mean(), draws=4000)
    assert odd.high is not None
    assert odd.high - odd.value == pytest.approx(2.77645 * few.std(ddof=1) / np.sqrt(5), rel=0.04)
    assert half_samples({"only": [[1.0], [2.0]]}, mean).low is None


def test_no_prompts_and_mixed_widths_are_refused() -> None:
    with pytest.raises(InputError, match="no prompts: features of at least one prompt are needed"):
        delete_one_prompt({}, lambda _: 0.0)
    with pytest.raises(InputError, match=r"features of \[2, 3\] dimensions: all prompts must have the same"):
        delete_one_prompt({"a": np.zeros((2, 2)), "b": np.zeros((2, 3))}, lambda _: 0.0)


def test_a_jackknife_of_one_prompt_says_nothing_about_the_spread() -> None:
    found = Jackknife(0.5, (), ("only",), 8)
    assert found.standard_error is None
    assert str(found.estimate) == "0.5 (n = 8, no interval)"
