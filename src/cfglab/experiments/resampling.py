"""Intervals and sign flips of many settings at once: one set of random draws serves all that have as many clusters.

A row of `sums` and `counts`, both (settings, clusters), holds of one setting the sum and the number of the values in
each cluster; its one number is the mean that weights values alike. numpy and scipy.special only.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

FloatArray = NDArray[np.float64]

DRAWS = 10_000
SMALLEST_BOOTSTRAP = 8  # clusters; below, a Student t interval
_CHUNK = 2_000_000  # numbers held at a time


def mean(sums: FloatArray, counts: FloatArray) -> FloatArray:
    """The mean over values, (settings,)."""
    return sums.sum(axis=1) / counts.sum(axis=1)


def standard_error(sums: FloatArray, counts: FloatArray) -> FloatArray:
    """Of the mean, from the clusters' residuals (linearised ratio; for equal counts sd of the means / sqrt G)."""
    groups = sums.shape[1]
    residuals = sums - counts * mean(sums, counts)[:, None]
    return np.sqrt(groups / (groups - 1) * (residuals**2).sum(axis=1)) / counts.sum(axis=1)


def spread(sums: FloatArray, counts: FloatArray) -> NDArray[np.bool_]:
    """False for one cluster and for clusters that are all alike: then nothing is known about the spread."""
    means = sums / counts
    return np.ptp(means, axis=1) > 1e-12 * np.abs(means).max(axis=1)


def interval(sums: FloatArray, counts: FloatArray, draws: int, seed: int) -> FloatArray:
    """95 % intervals, (settings, 2): a bootstrap of clusters from eight on, Student's t below, NaN without spread.

    The bootstrap's percentiles are widened for few clusters, from 2.5 % to Phi(-sqrt(G / (G - 1)) t(G - 1, .975)):
    the expanded percentile interval of Hesterberg, The American Statistician 69 (2015), 1411.5279. The plain one is
    too narrow by a factor sqrt((G - 1) / G) and by the ratio of normal to t quantiles.
    """
    found = np.full((len(sums), 2), np.nan)
    known = spread(sums, counts)
    if not known.any():
        return found
    sums, counts, groups = sums[known], counts[known], sums.shape[1]
    t = float(stdtrit(groups - 1, 0.975))
    if groups < SMALLEST_BOOTSTRAP:
        half = t * standard_error(sums, counts)
        found[known] = mean(sums, counts)[:, None] + np.outer(half, [-1.0, 1.0])
        return found
    random = np.random.default_rng(seed)
    means = np.empty((draws, len(sums)))
    for rows in _chunks(draws, max(groups, len(sums))):
        size = rows.stop - rows.start
        chosen = random.integers(groups, size=(size, groups)) + groups * np.arange(size)[:, None]
        times = np.bincount(chosen.ravel(), minlength=size * groups).reshape(size, groups).astype(np.float64)
        means[rows] = (times @ sums.T) / (times @ counts.T)
    tail = float(ndtr(-np.sqrt(groups / (groups - 1)) * t))
    found[known] = np.quantile(means, [tail, 1.0 - tail], axis=0).T
    return found


def sign_flip_p(sums: FloatArray, draws: int, seed: int) -> FloatArray:
    """Two-sided p of each mean under sign flips of whole clusters, (settings,): `scipy.stats.permutation_test` with
    `permutation_type="samples"`, for all settings with the same flips, which takes a hundredth of the time.

    Exact by enumeration where 2^G <= `draws`, else Monte Carlo with (hits + 1) / (draws + 1). A cluster that sums to 0
    flips to itself and is left out of G, which changes nothing.
    """
    found = np.ones(len(sums))
    drawn = []
    for i, row in enumerate(sums):
        moving = row[row != 0]
        if 2 ** len(moving) > draws:
            drawn.append(i)
        elif len(moving):
            codes = np.arange(2 ** len(moving))
            signs = 1.0 - 2.0 * ((codes[:, None] >> np.arange(len(moving))) & 1)
            found[i] = (np.abs(signs @ moving) >= _observed(row)).mean()
    if not drawn:
        return found
    several = sums[drawn]
    observed = np.array([_observed(row) for row in several])
    random = np.random.default_rng(seed)
    hits = np.zeros(len(drawn))
    for rows in _chunks(draws, max(several.shape)):
        signs = 1.0 - 2.0 * random.integers(2, size=(rows.stop - rows.start, several.shape[1]))
        hits += (np.abs(signs @ several.T) >= observed).sum(axis=0)
    found[drawn] = (hits + 1) / (draws + 1)
    return found


def smallest_p(clusters: int) -> float:
    """The smallest two-sided p that sign flips of this many clusters can give."""
    return 2.0 / 2**clusters if 2**clusters <= DRAWS else 1.0 / (DRAWS + 1)


def smallest_detectable(sums: FloatArray, counts: FloatArray) -> FloatArray:
    """(t(.975) + t(.8)) standard errors, (settings,); NaN without spread."""
    known = spread(sums, counts)
    found = np.full(len(sums), np.nan)
    if known.any():
        degrees = sums.shape[1] - 1
        quantiles = float(stdtrit(degrees, 0.975) + stdtrit(degrees, 0.8))
        found[known] = quantiles * standard_error(sums[known], counts[known])
    return found


def _observed(sums: FloatArray) -> float:
    """|sum|, a little less: rounding must not break a tie."""
    return float(abs(sums.sum()) - 1e-12 * np.abs(sums).sum())


def _chunks(draws: int, width: int) -> Iterator[slice]:
    size = max(1, min(draws, _CHUNK // width))
    for start in range(0, draws, size):
        yield slice(start, min(start + size, draws))
