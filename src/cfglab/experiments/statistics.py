"""Paired statistics for pictures that share prompt and seed. numpy and scipy.special only.

What is resampled is the *cluster*: the prompt, because two pictures of one prompt are not independent and a claim
about a setting is a claim about prompts. With a single prompt the cluster is the picture, and every number then
speaks about that prompt only. With a single picture there is no interval and no p, and no interval either where
all clusters are exactly alike: sixteen right pictures of sixteen do not make 100 % certain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.special import ndtr, stdtrit

from cfglab.metrics.estimate import Estimate

FloatArray = NDArray[np.float64]
Key = tuple[str, int]  # prompt, seed

DRAWS = 10_000
SMALLEST_BOOTSTRAP = 8  # clusters; below, a Student t interval
_CHUNK = 2_000_000  # numbers drawn at a time


class Difference(BaseModel):
    """Mean of a - b over pairs, its 95 % interval, and what the data could have shown.

    Attributes:
        low, high: the interval; None where the spread is unknown, with one cluster or with clusters all alike.
        n_prompts: prompts with at least one pair.
        n: pairs.
        dropped: (prompt, seed) that only one side has.
        resampled: what the interval and p treat as independent; None with a single pair.
        p: two-sided, from sign flips of whole clusters; None with a single cluster.
        smallest_detectable: the true difference that a test at the 5 % level (before any correction) would find in
            80 of 100 such experiments, (t(.975) + t(.8)) standard errors; None where the spread is unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_prompts: int
    n: int
    dropped: int = 0
    resampled: Literal["prompts", "seeds"] | None
    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    smallest_detectable: float | None


def paired(
    values_a: Mapping[Key, float], values_b: Mapping[Key, float], *, draws: int = DRAWS, seed: int = 0
) -> Difference:
    """The difference a - b over the (prompt, seed) that both sides have; values that are not finite count as missing.

    `mean` weights pairs alike. `draws` and `seed` belong to the bootstrap and the Monte Carlo permutations; the same
    seed gives the same numbers.
    """
    a, b = _finite(values_a), _finite(values_b)
    pairs = {key: a[key] - b[key] for key in sorted(a.keys() & b.keys())}
    dropped = len(a.keys() ^ b.keys())
    if not pairs:
        empty = {"mean": None, "low": None, "high": None, "p": None, "smallest_detectable": None}
        return Difference(n_prompts=0, n=0, dropped=dropped, resampled=None, **empty)
    clusters = _clusters(pairs)
    low, high = _interval(clusters, draws, seed)
    return Difference(
        n_prompts=len({prompt for prompt, _ in pairs}),
        n=len(pairs),
        dropped=dropped,
        resampled=resampled(pairs),
        mean=clusters.mean,
        low=low,
        high=high,
        p=_sign_flip_p(clusters.sums, draws, seed) if len(clusters.sums) > 1 else None,
        smallest_detectable=_smallest_detectable(clusters),
    )


def mean_interval(values: Mapping[Key, float], *, draws: int = DRAWS, seed: int = 0) -> Estimate | None:
    """Mean over pictures with its 95 % interval, clusters as in `paired`; None without any finite value."""
    finite = _finite(values)
    if not finite:
        return None
    clusters = _clusters(finite)
    low, high = _interval(clusters, draws, seed)
    return Estimate(value=clusters.mean, low=low, high=high, n=len(finite))


def resampled(keys: Mapping[Key, float]) -> Literal["prompts", "seeds"] | None:
    """What counts as independent among these pictures: several prompts, else seeds; None for one picture."""
    if len({prompt for prompt, _ in keys}) > 1:
        return "prompts"
    return "seeds" if len(keys) > 1 else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given: the family-wise error stays below the level whatever the
    dependence between tests (Holm, Scand. J. Statist. 6, 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in corrected]


def smallest_p(clusters: int) -> float:
    """The smallest two-sided p that sign flips of this many clusters can give."""
    return 2.0 / 2**clusters if 2**clusters <= DRAWS else 1.0 / (DRAWS + 1)


@dataclass(frozen=True, slots=True)
class _Clusters:
    """Sum and count of the values of each cluster, and one number: the mean that weights values alike."""

    sums: FloatArray
    counts: FloatArray

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum())

    @property
    def standard_error(self) -> float:
        """Of the mean, from the clusters' residuals (linearised ratio; for equal counts sd of the means / sqrt G)."""
        groups = len(self.sums)
        residuals = self.sums - self.counts * self.mean
        return float(np.sqrt(groups / (groups - 1) * (residuals**2).sum()) / self.counts.sum())

    @property
    def spread(self) -> bool:
        """False for one cluster and for clusters that are all alike: then nothing is known about the spread."""
        means = self.sums / self.counts
        return len(means) > 1 and bool(np.ptp(means) > 1e-12 * np.abs(means).max())


def _finite(values: Mapping[Key, float]) -> dict[Key, float]:
    return {key: float(value) for key, value in values.items() if np.isfinite(value)}


def _clusters(values: Mapping[Key, float]) -> _Clusters:
    by_prompt = resampled(values) == "prompts"
    grouped: dict[Key | str, list[float]] = {}
    for key in sorted(values):
        grouped.setdefault(key[0] if by_prompt else key, []).append(values[key])
    sums = np.array([sum(group) for group in grouped.values()])
    return _Clusters(sums, np.array([float(len(group)) for group in grouped.values()]))


def _interval(clusters: _Clusters, draws: int, seed: int) -> tuple[float | None, float | None]:
    """95 %: a cluster bootstrap of the mean from eight clusters on, Student's t below, None without spread.

    The bootstrap's percentiles are widened for few clusters, from 2.5 % to Phi(-sqrt(G / (G - 1)) t(G - 1, .975)):
    the expanded percentile interval of Hesterberg, The American Statistician 69 (2015), 1411.5279. The plain one is
    too narrow by a factor sqrt((G - 1) / G) and by the ratio of normal to t quantiles.
    """
    if not clusters.spread:
        return None, None
    groups = len(clusters.sums)
    t = float(stdtrit(groups - 1, 0.975))
    if groups < SMALLEST_BOOTSTRAP:
        half = t * clusters.standard_error
        return clusters.mean - half, clusters.mean + half
    random = np.random.default_rng(seed)
    means = []
    for size in _chunks(draws, groups):
        chosen = random.integers(groups, size=(size, groups))
        means.append(clusters.sums[chosen].sum(axis=1) / clusters.counts[chosen].sum(axis=1))
    tail = float(ndtr(-np.sqrt(groups / (groups - 1)) * t))
    low, high = np.quantile(np.concatenate(means), [tail, 1.0 - tail])
    return float(low), float(high)


def _sign_flip_p(sums: FloatArray, draws: int, seed: int) -> float:
    """Two-sided p of the mean under sign flips of whole clusters.

    Exact by enumeration where 2^G <= `draws`, else Monte Carlo with (hits + 1) / (draws + 1). A cluster that sums to 0
    flips to itself and is left out, which changes nothing.
    """
    moving = sums[sums != 0]
    if len(moving) == 0:
        return 1.0
    observed = abs(moving.sum()) - 1e-12 * np.abs(moving).sum()  # rounding must not break a tie
    if 2 ** len(moving) <= draws:
        codes = np.arange(2 ** len(moving))
        signs = 1.0 - 2.0 * ((codes[:, None] >> np.arange(len(moving))) & 1)
        return float((np.abs(signs @ moving) >= observed).mean())
    random = np.random.default_rng(seed)
    hits = 0
    for size in _chunks(draws, len(moving)):
        signs = 1.0 - 2.0 * random.integers(2, size=(size, len(moving)))
        hits += int((np.abs(signs @ moving) >= observed).sum())
    return (hits + 1) / (draws + 1)


def _smallest_detectable(clusters: _Clusters) -> float | None:
    if not clusters.spread:
        return None
    groups = len(clusters.sums)
    return float(stdtrit(groups - 1, 0.975) + stdtrit(groups - 1, 0.8)) * clusters.standard_error


def _chunks(draws: int, width: int) -> list[int]:
    size = max(1, min(draws, _CHUNK // width))
    return [size] * (draws // size) + ([draws % size] if draws % size else [])
