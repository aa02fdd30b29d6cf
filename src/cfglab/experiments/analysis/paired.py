"""Paired statistics for images that share prompt and seed.

A claim about a setting is a claim about prompts and starting noises other than those of the run, so both are random.
Where every (prompt, seed) has its own noise (`nested`), prompts are the clusters. Where all prompts share the noises of
the seeds (`crossed`), prompts and seeds both count: eight seeds are eight noises, however many prompts there are.
Intervals are Student's t on the variance components (`analysis.variance_components`). With a single prompt every number
speaks about that prompt only. There is no interval with a single image, and none where all differences are alike:
sixteen right images of sixteen do not make 100 % certain.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.special import stdtr, stdtrit

from cfglab.experiments.analysis import resampling
from cfglab.experiments.analysis.resampling import DRAWS
from cfglab.experiments.analysis.resampling import smallest_p as smallest_p
from cfglab.experiments.analysis.variance_components import Spread, spread
from cfglab.metrics.estimate import Estimate

FloatArray = NDArray[np.float64]
Key = tuple[str, int]  # prompt, seed


class Variance(BaseModel):
    """Shares of the variance of a mean difference; they add up to 1.

    Attributes:
        prompts: other prompts would have given another mean.
        seeds: other starting noises would have; None where every pair has its own, which `rest` then includes.
        rest: what is left of single pairs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: float
    seeds: float | None
    rest: float


Resampled = Literal["prompts and seeds", "prompts", "seeds"]


class Difference(BaseModel):
    """Mean of a - b over pairs, its 95 % interval, and what the data could have shown.

    Attributes:
        difference: the mean of a - b, in the unit of the metric; None without a pair.
        low, high: the interval; None where the spread is unknown, with one pair or with pairs all alike.
        n_prompts: prompts with at least one pair.
        n: pairs.
        n_seeds: seeds with at least one pair.
        moving: pairs whose two values differ; `moving_prompts` is how many prompts those are of.
        dropped: (prompt, seed) that only one side has.
        resampled: what the interval treats as random samples; None with a single pair.
        p: two-sided. From sign flips of whole prompts (of images, with one prompt); where noises are crossed it is
            the larger of that and of the t test with the interval's standard error. None with a single cluster.
        p_holm: p, corrected by Holm's method over the comparisons of one table; None where nothing was corrected.
        smallest_detectable: the true difference that a test at the 5 % level (before any correction) would find in
            80 of 100 such experiments, (t(.975) + t(.8)) standard errors; None where the spread is unknown.
        degrees: degrees of freedom of the interval.
        effective_prompts, effective_seeds: how many prompts and starting noises stand behind the mean; fewer than
            there are where some have fewer pairs than others.
        independent: how many independent pairs would leave the mean as uncertain.
        variance: what the variance of the mean is made of; None where that cannot be told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_prompts: int
    n: int
    dropped: int = 0
    resampled: Resampled | None = None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None = None
    smallest_detectable: float | None
    n_seeds: int | None = None
    moving: int | None = None
    moving_prompts: int | None = None
    degrees: float | None = None
    effective_prompts: float | None = None
    effective_seeds: float | None = None
    independent: float | None = None
    variance: Variance | None = None

    @property
    def clusters(self) -> int:
        """The number of independent units of intervals and p: prompts, or the images of a single prompt."""
        return self.n_prompts if self.n_prompts > 1 else self.n

    @property
    def significant(self) -> bool:
        """Whether p after Holm's correction is below 0.05."""
        return self.p_holm is not None and self.p_holm < 0.05

    @property
    def parts(self) -> bool:
        """Whether interval and p part: only one of them keeps away from no difference at the 5 % level."""
        if self.low is None or self.high is None or self.p is None:
            return False
        return (self.low > 0 or self.high < 0) != (self.p < 0.05)


def paired(
    values_a: Mapping[Key, float],
    values_b: Mapping[Key, float],
    *,
    crossed: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """The difference a - b over the (prompt, seed) that both sides have; values that are not finite count as missing.

    All pairs have the same weight.

    Args:
        values_a: (prompt, seed) -> the value of a.
        values_b: (prompt, seed) -> the value of b.
        crossed: whether pairs of one seed share their starting noise.
        draws: the number of Monte Carlo permutations, where the sign flips cannot be enumerated.
        seed: the seed of the permutations; the same seed gives the same numbers.
    """
    grid = ScoreGrid({*values_a, *values_b})
    a, b = grid.of(values_a), grid.of(values_b)
    dropped = np.logical_xor(np.isfinite(a), np.isfinite(b)).sum()
    return differences((a - b)[None], [int(dropped)], crossed=crossed, draws=draws, seed=seed)[0]


def mean_interval(values: Mapping[Key, float], *, crossed: bool = False) -> Estimate | None:
    """Mean over images with its 95 % interval, as in `paired`; None without any finite value."""
    return means(ScoreGrid(values).of(values)[None], crossed=crossed)[0]


def differences(
    values: FloatArray, dropped: Sequence[int], *, crossed: bool = False, draws: int = DRAWS, seed: int = 0
) -> list[Difference]:
    """Return the Difference of each setting, all at once.

    Args:
        values: a - b, (settings, prompts, seeds), float64; NaN where there is no pair.
        dropped: the number of dropped pairs of each setting.
        crossed: whether all prompts share the starting noises of a seed.
        draws: the number of Monte Carlo permutations, where the sign flips cannot be enumerated.
        seed: the seed of the permutations.
    """
    if not len(values):
        return []
    values = np.ascontiguousarray(values)  # sums in one order, whatever the layout
    present = np.isfinite(values)
    components = spread(values, crossed)
    low, high = interval(components)
    moving = present & (values != 0)
    columns = {
        "difference": components.mean,
        "low": low,
        "high": high,
        "p": _p(values, components, draws, seed),
        "smallest_detectable": (stdtrit(components.degrees, 0.975) + stdtrit(components.degrees, 0.8))
        * components.error,
        "degrees": components.degrees,
        "effective_prompts": components.effective_prompts,
        "effective_seeds": components.effective_seeds,
        "independent": components.independent,
    }
    numbers = {name: _plain(column) for name, column in columns.items()}
    shares = [
        _plain(column / components.variance) for column in (components.prompts, components.seeds, components.rest)
    ]
    counts = {
        "n_prompts": present.any(axis=2).sum(axis=1),
        "n_seeds": present.any(axis=1).sum(axis=1),
        "n": present.sum(axis=(1, 2)),
        "moving": moving.sum(axis=(1, 2)),
        "moving_prompts": moving.any(axis=2).sum(axis=1),
    }
    results = []
    for row in range(len(values)):
        prompts, seeds, rest = (share[row] for share in shares)
        separable = prompts is not None and rest is not None
        results.append(
            Difference(
                dropped=dropped[row],
                resampled=_resampled(present[row], bool(components.crossed[row])),
                variance=Variance(prompts=prompts, seeds=seeds, rest=rest) if separable else None,
                **{name: int(column[row]) for name, column in counts.items()},
                **{name: column[row] for name, column in numbers.items()},
            )
        )
    return results


def means(values: FloatArray, *, crossed: bool = False) -> list[Estimate | None]:
    """`mean_interval` of each setting, all at once: `values` (settings, prompts, seeds), NaN where missing."""
    if not len(values):
        return []
    components = spread(np.ascontiguousarray(values), crossed)
    columns = zip(
        *(_plain(column) for column in (components.mean, *interval(components))),
        np.isfinite(values).sum(axis=(1, 2)),
        strict=True,
    )
    return [None if mean is None else Estimate(value=mean, low=a, high=b, n=int(n)) for mean, a, b, n in columns]


def interval(components: Spread) -> tuple[FloatArray, FloatArray]:
    """The ends of 95 % intervals, Student's t; NaN where the spread is not known."""
    half = stdtrit(components.degrees, 0.975) * components.error
    return components.mean - half, components.mean + half


def resampled(keys: Iterable[Key], *, crossed: bool = False) -> Resampled | None:
    """What counts as a random sample among these images; None for one image."""
    keys = set(keys)
    if not keys:
        return None
    present = np.isfinite(ScoreGrid(keys).of(dict.fromkeys(keys, 0.0)))
    both = crossed and min(present.any(axis=1).sum(), present.any(axis=0).sum()) > 1
    return _resampled(present, bool(both))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given: the family-wise error stays below the level whatever the
    dependence between tests (Holm, Scand. J. Statist. 6, 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in corrected]


class ScoreGrid:
    """Prompts × seeds, each sorted: where every (prompt, seed) of some results has its place."""

    def __init__(self, keys: Iterable[Key]) -> None:
        keys = set(keys)
        self.prompts = {prompt: i for i, prompt in enumerate(sorted({prompt for prompt, _ in keys}))}
        self.seeds = {seed: i for i, seed in enumerate(sorted({seed for _, seed in keys}))}

    def of(self, values: Mapping[Key, float]) -> FloatArray:
        """The values as (prompts, seeds), NaN where there is none or it is not finite."""
        array = np.full((len(self.prompts), len(self.seeds)), np.nan)
        for (prompt, seed), value in values.items():
            array[self.prompts[prompt], self.seeds[seed]] = value
        array[~np.isfinite(array)] = np.nan
        return array


def _resampled(present: NDArray[np.bool_], both: bool) -> Resampled | None:
    if both:
        return "prompts and seeds"
    if present.any(axis=1).sum() > 1:
        return "prompts"
    return "seeds" if present.sum() > 1 else None


def _plain(column: FloatArray) -> list[float | None]:
    return [value if isfinite(value) else None for value in column.tolist()]


def _p(values: FloatArray, components: Spread, draws: int, seed: int) -> FloatArray:
    """Sign flips of whole clusters; where noises are crossed not less than the t test, which knows about seeds."""
    p_values = np.full(len(values), np.nan)
    alike: dict[int, list[int]] = {}  # number of clusters -> settings
    sums = [_clusters(row) for row in values]
    for setting, clusters in enumerate(sums):
        alike.setdefault(len(clusters), []).append(setting)
    for count, settings in alike.items():
        if count > 1:
            p_values[settings] = resampling.sign_flip_p(np.stack([sums[setting] for setting in settings]), draws, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        t_test = 2 * stdtr(components.degrees, -np.abs(components.mean) / components.error)
    return np.where(components.crossed, np.fmax(p_values, t_test), p_values)


def _clusters(values: FloatArray) -> FloatArray:
    """The sum of each cluster of one setting: its prompts, or the images of its one prompt."""
    present = np.isfinite(values)
    counts = present.sum(axis=1)
    if (counts > 0).sum() <= 1:
        return values[present]
    return np.where(present, values, 0.0).sum(axis=1)[counts > 0]
