"""Paired statistics: enumeration, scipy.stats, hand-made tables and simulations are the oracles."""

import itertools

import numpy as np
import pytest
from scipy import stats

from cfglab.experiments.analysis.paired import (
    Difference,
    Key,
    holm,
    interval,
    mean_interval,
    paired,
    resampled,
    smallest_p,
)
from cfglab.experiments.analysis.variance_components import spread


def pictures(values: np.ndarray) -> dict[Key, float]:
    """(prompts, seeds) -> {(prompt, seed): value}"""
    return {(f"prompt {i}", j): float(values[i, j]) for i in range(values.shape[0]) for j in range(values.shape[1])}


def zero(values: np.ndarray) -> dict[Key, float]:
    return pictures(np.zeros_like(values))


def test_the_difference_is_paired_and_its_interval_smaller_than_unpaired() -> None:
    random = np.random.default_rng(0)
    shared = random.normal(size=(20, 4))  # what prompt and seed do to both settings
    a = shared + 0.3 + 0.1 * random.normal(size=shared.shape)
    b = shared + 0.1 * random.normal(size=shared.shape)
    found = paired(pictures(a), pictures(b))
    assert found.difference == pytest.approx((a - b).mean())
    assert (found.n_prompts, found.n, found.dropped, found.resampled) == (20, 80, 0, "prompts")
    assert found.low is not None
    assert found.high is not None
    assert 0.2 < found.low < 0.3 < found.high < 0.4
    shuffled = {(prompt, seed): a[(int(prompt.split()[1]) + 7) % 20, (seed + 1) % 4] for prompt, seed in pictures(a)}
    unpaired = paired(shuffled, pictures(b))
    assert unpaired.difference == pytest.approx(found.difference)
    assert unpaired.low is not None
    assert unpaired.high is not None
    assert unpaired.high - unpaired.low > 4 * (found.high - found.low)


def test_the_order_of_the_pictures_does_not_matter_and_the_seed_repeats_all() -> None:
    random = np.random.default_rng(1)
    a, b = pictures(random.normal(size=(16, 3))), pictures(random.normal(size=(16, 3)))
    backwards = paired(dict(reversed(a.items())), dict(reversed(b.items())))
    assert paired(a, b) == backwards
    assert paired(a, b, seed=1).p != backwards.p  # 2^16 flips are drawn, not enumerated


def test_missing_and_infinite_values_drop_their_pair_and_are_counted() -> None:
    a = pictures(np.arange(12.0).reshape(3, 4))
    b = zero(np.zeros((3, 4)))
    del a["prompt 0", 0]
    a["prompt 1", 1] = float("nan")
    b["prompt 2", 3] = float("inf")
    found = paired(a, b)
    assert (found.n, found.n_prompts, found.dropped) == (9, 3, 3)
    assert found.difference == pytest.approx((66 - 0 - 5 - 11) / 9)


def test_pairs_weigh_alike_however_many_a_prompt_has() -> None:
    values = {("a", 0): 1.0, ("a", 1): 1.0, ("a", 2): 1.0, ("b", 0): 5.0}
    found = mean_interval(values)
    assert found is not None
    assert found.value == 2.0
    assert found.n == 4


def test_one_prompt_resamples_seeds_and_one_picture_says_nothing() -> None:
    one_prompt = {("p", seed): float(value) for seed, value in enumerate(np.random.default_rng(2).normal(size=16))}
    found = paired(one_prompt, dict.fromkeys(one_prompt, 0.0))
    assert (found.resampled, found.n_prompts, found.n) == ("seeds", 1, 16)
    assert found.low is not None
    assert found.p is not None
    alone = paired({("p", 0): 1.0}, {("p", 0): 0.5})
    assert alone.model_dump() == {
        **{"n_prompts": 1, "n": 1, "dropped": 0, "resampled": None, "difference": 0.5},
        **{"low": None, "high": None, "p": None, "p_holm": None, "smallest_detectable": None},
        **{"n_seeds": 1, "moving": 1, "moving_prompts": 1, "degrees": None, "variance": None},
        **{"effective_prompts": 1.0, "effective_seeds": 1.0, "independent": None},
    }
    nothing = paired({("p", 0): 1.0}, {("q", 0): 0.5})
    assert (nothing.n, nothing.dropped, nothing.difference, nothing.p) == (0, 2, None, None)
    assert mean_interval({}) is None
    assert resampled({("p", 0): 1.0, ("q", 0): 1.0}) == "prompts"


@pytest.mark.parametrize("prompts", [5, 64])
def test_the_interval_is_students_t_of_the_prompts_where_they_differ(prompts: int) -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=(prompts, 1)) + 0.5 * random.normal(size=(prompts, 4))
    found = paired(pictures(values), zero(values))
    expected = stats.ttest_1samp(values.mean(axis=1), 0).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert found.degrees == prompts - 1


def test_prompts_that_agree_more_than_their_pictures_allow_do_not_narrow_the_interval() -> None:
    """Every prompt has the same mean: by the prompts alone nothing would be uncertain."""
    values = np.tile([[1.0, 0.0, -1.0, 2.0]], (6, 1))
    found = paired(pictures(values), zero(values))
    half = stats.t.ppf(0.975, 23) * np.sqrt(((values - 0.5) ** 2).sum() / (24 - 6) / 24)
    assert (found.low, found.high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    assert found.variance is not None
    assert (found.variance.prompts, found.variance.seeds, found.variance.rest) == (0.0, None, 1.0)


@pytest.mark.parametrize(("prompts", "trials"), [(4, 600), (8, 600), (64, 400)])
@pytest.mark.parametrize("kind", ["normal", "share"])
def test_intervals_cover_the_truth(prompts: int, trials: int, kind: str) -> None:
    """Prompts differ in what a setting does to them; `share` are differences of 0/1 scores, as alignment gives.

    The trials make the simulation's own error about one percent, a third of the room that the bounds leave.
    """
    random = np.random.default_rng(prompts)
    hits, without = 0, 0
    for trial in range(trials):
        effect = 0.15 + 0.2 * random.normal(size=(prompts, 1))
        if kind == "normal":
            a, b = effect + random.normal(size=(prompts, 8)), 0.5 * random.normal(size=(prompts, 8))
            truth = 0.15
        else:
            share = random.uniform(0.3, 0.6, size=(prompts, 1))
            lift = random.choice([0.0, 0.3], size=(prompts, 1))
            a, b = (random.random((2, prompts, 8)) < np.stack([share + lift, share])).astype(float)
            truth = 0.15
        found = paired(pictures(a), pictures(b), draws=50, seed=trial)
        if found.low is None or found.high is None:
            without += 1  # all prompts with the same share: no interval is claimed
        else:
            hits += found.low <= truth <= found.high
    few = prompts < 8  # the variance is never below that of the rest: wider than needed where prompts hardly differ
    assert 0.92 <= hits / (trials - without) <= (0.99 if few else 0.98)
    assert without < 0.02 * trials


def test_resampling_pictures_instead_of_prompts_would_cover_too_little() -> None:
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(100):
        values = random.normal(size=(16, 1)) + 0.3 * random.normal(size=(16, 8))
        loose = {(f"{prompt} {seed}", 0): value for (prompt, seed), value in pictures(values).items()}
        found = mean_interval(loose)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0 <= found.high
    assert hits < 70


def crossed_pictures(prompts: int, seeds: int, random: np.random.Generator) -> np.ndarray:
    """Prompts and seeds of equal weight, less of the rest: (prompts, seeds)."""
    return (
        random.normal(size=(prompts, 1)) + random.normal(size=(1, seeds)) + 0.5 * random.normal(size=(prompts, seeds))
    )


def test_the_crossed_interval_is_that_of_the_mean_squares_of_two_way_analysis_of_variance() -> None:
    values = crossed_pictures(6, 5, np.random.default_rng(20))
    rows, columns, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    between = 5 * rows.var(ddof=1), 6 * columns.var(ddof=1)
    rest = ((values - rows[:, None] - columns + mean) ** 2).sum() / 20
    assert min(between) > rest
    variance = (between[0] + between[1] - rest) / 30
    degrees = (30 * variance) ** 2 / (between[0] ** 2 / 5 + between[1] ** 2 / 4 + rest**2 / 20)
    found = paired(pictures(values), zero(values), crossed=True)
    expected = stats.t.interval(0.95, degrees, mean, np.sqrt(variance))
    assert (found.low, found.high) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    assert found.degrees == pytest.approx(degrees)
    assert found.resampled == "prompts and seeds"
    assert (found.n_prompts, found.n_seeds, found.n) == (6, 5, 30)
    assert (found.effective_prompts, found.effective_seeds) == (pytest.approx(6), pytest.approx(5))
    assert found.variance is not None
    shares = [found.variance.prompts, found.variance.seeds, found.variance.rest]
    assert shares == pytest.approx(
        [(between[0] - rest) / 30 / variance, (between[1] - rest) / 30 / variance, rest / 30 / variance]
    )
    t_test = 2 * stats.t.sf(abs(mean) / np.sqrt(variance), degrees)
    assert found.p == pytest.approx(max(t_test, paired(pictures(values), zero(values)).p or 0.0))


def test_variance_components_of_a_crossed_design_with_holes_are_right_on_average() -> None:
    """Henderson's equations hold for any pattern: prompts 1, seeds 0.25, rest 0.5."""
    random = np.random.default_rng(21)
    holes = random.random((12, 6)) < 0.25
    values = (
        random.normal(size=(3000, 12, 1))
        + 0.5 * random.normal(size=(3000, 1, 6))
        + np.sqrt(0.5) * random.normal(size=(3000, 12, 6))
    )
    values[:, holes] = np.nan
    found = spread(values, crossed=True)
    there = ~holes
    n = there.sum()
    expected = ((there.sum(1) ** 2).sum() + 0.25 * (there.sum(0) ** 2).sum() + 0.5 * n) / n**2
    assert found.variance.mean() == pytest.approx(expected, rel=0.05)
    assert np.nanmean(values, axis=(1, 2)).var() == pytest.approx(expected, rel=0.1)
    assert found.prompts.mean() == pytest.approx((there.sum(1) ** 2).sum() / n**2, rel=0.1)


@pytest.mark.parametrize(("crossed", "level"), [(True, 0.93), (False, 0.93)])
def test_intervals_cover_the_mean_over_other_seeds_where_seeds_matter(crossed: bool, level: float) -> None:
    """64 prompts and 8 seeds near 90 % right, with a true effect and seeds that are lucky or not."""
    random = np.random.default_rng(22)
    differences, truth = scored(1500, 64, 8, crossed, random)
    of = spread(differences, crossed)
    low, high = interval(of)
    assert level <= ((low <= truth) & (truth <= high)).mean() <= 0.98
    if crossed:  # what prompts alone say covers far less
        low, high = interval(spread(differences, crossed=False))
        assert ((low <= truth) & (truth <= high)).mean() < 0.85


def test_p_keeps_its_level_where_seeds_matter() -> None:
    random = np.random.default_rng(23)
    differences, _ = scored(250, 64, 8, True, random, effect=0.0)
    found = [paired_of(one, crossed=True).p for one in differences]
    assert np.mean([p is not None and p < 0.05 for p in found]) < 0.07
    naive = [paired_of(one, crossed=False).p for one in differences]
    assert np.mean([p is not None and p < 0.05 for p in naive]) > 0.09


def paired_of(values: np.ndarray, *, crossed: bool) -> Difference:
    return paired(pictures(values), zero(values), crossed=crossed, draws=300)


def scored(
    trials: int, prompts: int, seeds: int, crossed: bool, random: np.random.Generator, effect: float = 0.04
) -> tuple[np.ndarray, float]:
    """Differences (trials, prompts, seeds) of 0/1 scores near 90 % right, and their true mean: a threshold on a normal
    quality to which prompt, noise and rest add; prompts and noises also differ in what the setting does to them."""
    noises = 1 if crossed else prompts
    common = (
        np.sqrt(0.35) * random.normal(size=(trials, prompts, 1))
        + np.sqrt(0.15) * random.normal(size=(trials, noises, seeds))
        + np.sqrt(0.5) * random.normal(size=(trials, prompts, seeds))
    )
    gain = 0.25 * random.normal(size=(trials, prompts, 1)) + 0.35 * random.normal(size=(trials, noises, seeds))
    gain = gain + 0.3 * random.normal(size=(trials, prompts, seeds))
    width = np.sqrt(1 + 0.25**2 + 0.35**2 + 0.3**2)
    better = common + gain + stats.norm.ppf(0.9 + effect) * width > 0
    return better.astype(float) - (common + stats.norm.ppf(0.9) > 0), effect


def test_one_seed_of_a_crossed_run_speaks_of_its_prompts_and_one_prompt_of_its_seeds() -> None:
    values = np.random.default_rng(24).normal(size=(9, 1))
    one_seed = paired(pictures(values), zero(values), crossed=True)
    assert one_seed == paired(pictures(values), zero(values)).model_copy(update={"effective_seeds": 1.0})
    assert (one_seed.resampled, one_seed.n_seeds, one_seed.variance) == ("prompts", 1, None)
    one_prompt = paired(pictures(values.T), zero(values.T), crossed=True)
    assert (one_prompt.resampled, one_prompt.n_prompts) == ("seeds", 1)
    assert one_prompt.low == pytest.approx(stats.ttest_1samp(values[:, 0], 0).confidence_interval(0.95).low)


def test_a_crossed_run_without_any_seed_in_common_counts_prompts_and_seeds_in_full() -> None:
    values = {(f"prompt {i}", i): float(i % 3) for i in range(9)}
    found = paired(values, dict.fromkeys(values, 0.0), crossed=True)
    error = np.std(list(values.values()), ddof=1) / 3
    assert found.high == pytest.approx(1.0 + stats.t.ppf(0.975, 8) * error * np.sqrt(2))
    assert found.variance is None


def test_few_pairs_that_differ_are_counted_and_interval_and_p_are_seen_to_part() -> None:
    values = np.zeros((48, 4))
    values[[3, 11, 20, 31, 40], [0, 1, 2, 3, 0]] = 1.0  # 5 of 192 pairs
    found = paired(pictures(values), zero(values))
    assert (found.moving, found.moving_prompts, found.n) == (5, 5, 192)
    assert found.p == 2 / 2**5
    assert found.low is not None
    assert found.low > 0
    assert found.parts
    values[:20] = 1.0
    assert not paired(pictures(values), zero(values)).parts


def test_p_of_small_cases_by_enumeration() -> None:
    random = np.random.default_rng(6)
    for prompts, seeds in ((2, 3), (5, 1), (9, 2)):
        values = random.normal(size=(prompts, seeds)) + 0.4
        sums = values.sum(axis=1)
        flips = [abs(np.dot(sums, signs)) for signs in itertools.product((1, -1), repeat=prompts)]
        expected = np.mean([flip >= abs(sums.sum()) - 1e-9 for flip in flips])
        assert paired(pictures(values), zero(values)).p == pytest.approx(expected)
        oracle = stats.permutation_test((sums,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert expected == pytest.approx(oracle.pvalue)


def test_p_with_ties_as_shares_give_them() -> None:
    signs = np.array([1, 1, 1, -1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0.0])[:, None]
    found = paired(pictures(signs), zero(signs))  # six prompts move, one against five: both tails of binomial(6, 1/2)
    assert found.p == pytest.approx(stats.binomtest(1, 6).pvalue)
    thirds = np.array([0.1, 0.2, -0.3, 0.3, 0.3, 0.6])[:, None]  # sums that differ only by rounding are ties
    tenths = [abs(np.dot([1, 2, -3, 3, 3, 6], flip)) >= 12 for flip in itertools.product((1, -1), repeat=6)]
    assert paired(pictures(thirds), zero(thirds)).p == pytest.approx(np.mean(tenths))
    assert paired(zero(signs), zero(signs)).p == 1.0


def test_monte_carlo_p_is_near_the_exact_one_and_never_zero() -> None:
    values = np.random.default_rng(7).normal(size=(12, 1)) + 0.5
    exact = paired(pictures(values), zero(values))  # 2^12 flips
    drawn = paired(pictures(values), zero(values), draws=4000)
    assert exact.p is not None
    assert drawn.p == pytest.approx(exact.p, abs=4 * np.sqrt(exact.p * (1 - exact.p) / 4000))
    clear = np.full((40, 2), 1.0)
    assert paired(pictures(clear), zero(clear)).p == pytest.approx(1 / 10_001)


def test_p_is_uniform_without_a_difference() -> None:
    random = np.random.default_rng(8)
    found = []
    for trial in range(400):
        a, b = random.normal(size=(2, 20, 3)) + random.normal(size=(20, 1))
        found.append(paired(pictures(a), pictures(b), draws=999, seed=trial).p)
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_the_smallest_detectable_effect_is_found_eight_times_in_ten() -> None:
    random = np.random.default_rng(9)
    spread, prompts, seeds = 0.5, 24, 4
    noise = random.normal(size=(2000, prompts, seeds)) + spread * random.normal(size=(2000, prompts, 1))
    errors = noise.mean(axis=2).std(axis=1, ddof=1) / np.sqrt(prompts)
    typical = noise[np.argsort(errors)[1000]]
    effect = paired(pictures(typical), zero(typical)).smallest_detectable
    assert effect is not None
    quantiles = stats.t.ppf(0.975, prompts - 1) + stats.t.ppf(0.8, prompts - 1)
    assert effect == pytest.approx(quantiles * np.sort(errors)[1000])
    power = (stats.ttest_1samp(noise.mean(axis=2) + effect, 0, axis=1).pvalue < 0.05).mean()
    assert power == pytest.approx(0.8, abs=0.05)


def test_no_spread_gives_no_interval_and_no_detectable_effect() -> None:
    same = np.ones((10, 3))
    found = paired(pictures(same), pictures(same))
    assert (found.difference, found.low, found.high, found.p, found.smallest_detectable) == (0.0, None, None, 1.0, None)
    tenths = pictures(0.1 * same)  # 0.1 + 0.1 + 0.1 is not 0.3, yet these are all alike
    found = paired(tenths, zero(same))
    assert (found.low, found.smallest_detectable) == (None, None)
    assert found.p == 2 / 1024
    all_right = mean_interval(pictures(np.ones((1, 16))))
    assert all_right is not None
    assert (all_right.value, all_right.low, all_right.n) == (1.0, None, 16)


def test_holm_by_hand() -> None:
    # sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, made monotone: .02 .03 .06 .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_smallest_p() -> None:
    assert [smallest_p(n) for n in (2, 5, 13)] == [0.5, 2 / 32, 2 / 8192]
    assert smallest_p(14) == 1 / 10_001
    for prompts in (2, 5):
        clear = np.full((prompts, 2), 3.0)
        assert paired(pictures(clear), zero(clear)).p == smallest_p(prompts)
