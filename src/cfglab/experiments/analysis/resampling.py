"""Sign flips of many settings at once: one set of random draws serves all that have as many clusters.

A row of `sums`, (settings, clusters), holds the sum of the values in each cluster of one setting.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

DRAWS = 10_000
_CHUNK = 2_000_000  # numbers held at a time


def sign_flip_p(sums: FloatArray, draws: int, seed: int) -> FloatArray:
    """Return the two-sided p of each mean under sign flips of whole clusters.

    It equals `scipy.stats.permutation_test` with `permutation_type="samples"`, for all settings with the same flips,
    which takes a hundredth of the time. Exact by enumeration where 2^G <= `draws`, else Monte Carlo with
    (hits + 1) / (draws + 1). A cluster that sums to 0 flips to itself and is left out of G, which changes nothing.

    Args:
        sums: (settings, clusters), the sum of the values in each cluster.
        draws: the number of Monte Carlo draws.
        seed: the seed of the draws.

    Returns:
        (settings,).
    """
    p_values = np.ones(len(sums))
    sampled = []
    for i, row in enumerate(sums):
        moving = row[row != 0]
        if 2 ** len(moving) > draws:
            sampled.append(i)
        elif len(moving):
            codes = np.arange(2 ** len(moving))
            signs = 1.0 - 2.0 * ((codes[:, None] >> np.arange(len(moving))) & 1)
            p_values[i] = (np.abs(signs @ moving) >= _observed(row)).mean()
    if not sampled:
        return p_values
    several = sums[sampled]
    observed = np.array([_observed(row) for row in several])
    random = np.random.default_rng(seed)
    hits = np.zeros(len(sampled))
    for rows in _chunks(draws, max(several.shape)):
        signs = 1.0 - 2.0 * random.integers(2, size=(rows.stop - rows.start, several.shape[1]))
        hits += (np.abs(signs @ several.T) >= observed).sum(axis=0)
    p_values[sampled] = (hits + 1) / (draws + 1)
    return p_values


def smallest_p(clusters: int) -> float:
    """The smallest two-sided p that sign flips of this many clusters can give."""
    return 2.0 / 2**clusters if 2**clusters <= DRAWS else 1.0 / (DRAWS + 1)


def _observed(sums: FloatArray) -> float:
    """|sum|, a little less: rounding must not break a tie."""
    return float(abs(sums.sum()) - 1e-12 * np.abs(sums).sum())


def _chunks(draws: int, width: int) -> Iterator[slice]:
    size = max(1, min(draws, _CHUNK // width))
    for start in range(0, draws, size):
        yield slice(start, min(start + size, draws))
