"""Variance components of a mean over prompts and seeds, in closed form, for many settings at once. numpy only.

Values are (settings, prompts, seeds), NaN where there is none. Two designs:

nested    every (prompt, seed) has a starting noise of its own: value = mean + prompt + rest
crossed   all prompts of a seed share its noise:                value = mean + prompt + seed + rest

All terms are random. The components are estimated by analysis of variance: with missing values by Henderson's method I
(Biometrics 9, 1953), which for complete values are the usual mean squares. A component below 0 counts as 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Spread:
    """The mean of each setting, the variance of that mean, and the parts of the variance; all arrays are (settings,).

    Attributes:
        mean: the mean.
        variance: the variance of the mean; NaN with a single value, or where all values are equal.
        degrees: the degrees of freedom of the variance.
        prompts, seeds, rest: parts that add up to `variance`; NaN where they cannot be separated.
        effective_prompts, effective_seeds: n^2 over the sum of squared counts: the numbers themselves where every
            prompt (seed) has as many values.
        independent: the number of independent values that would give this variance.
        crossed: whether the crossed design was used.
    """

    mean: FloatArray
    variance: FloatArray
    degrees: FloatArray
    prompts: FloatArray
    seeds: FloatArray
    rest: FloatArray
    effective_prompts: FloatArray
    effective_seeds: FloatArray
    independent: FloatArray
    crossed: BoolArray

    @property
    def error(self) -> FloatArray:
        """The standard error of the mean."""
        return np.sqrt(self.variance)


def spread(values: FloatArray, crossed: bool) -> Spread:
    """Return the Spread of the mean of each setting.

    A setting with values of one prompt, or in a crossed design of one seed, is analyzed one-way: over the images of
    that prompt, or over the prompts of that seed.

    Args:
        values: (settings, prompts, seeds), float64; NaN where there is no value.
        crossed: whether all prompts share the starting noises of a seed.
    """
    present = np.isfinite(values)
    filled = np.where(present, values, 0.0)
    by_prompt, by_seed = present.sum(axis=2), present.sum(axis=1)
    n = by_prompt.sum(axis=1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = filled.sum(axis=(1, 2)) / n
        gaps = np.where(present, filled - mean[:, None, None], 0.0)
        squares = _Squares(gaps, by_prompt, by_seed, n)
        one_prompt = squares.prompts <= 1
        both = ~one_prompt & (squares.seeds > 1) & crossed
        total = squares.total / (n - 1)
        by_image = (total / n, n - 1, np.nan * n, np.nan * n, np.nan * n)
        estimates = np.stack(by_image)
        estimates = np.where(one_prompt, estimates, np.stack(_one_way(squares)))
        estimates = np.where(both, np.stack(_two_way(squares)), estimates)
        variance, degrees, *parts = estimates
        alike = ~(squares.total > (1e-12 * np.abs(filled).max(axis=(1, 2), initial=0.0)) ** 2 * n)
        unknown = alike | (n < 2) | ~(variance > 0)
        variance, degrees = (np.where(unknown, np.nan, array) for array in (variance, degrees))
        parts = [np.where(unknown, np.nan, array) for array in parts]
        return Spread(
            mean=mean,
            variance=variance,
            degrees=degrees,
            prompts=parts[0],
            seeds=parts[1],
            rest=parts[2],
            effective_prompts=n / squares.per_prompt,
            effective_seeds=n / squares.per_seed if crossed else n,
            independent=np.minimum(n, total / variance),
            crossed=both,
        )


class _Squares:
    """Sums of squares about the mean, (settings,), and the counts that their expectations need."""

    def __init__(self, gaps: FloatArray, by_prompt: NDArray[np.int_], by_seed: NDArray[np.int_], n: FloatArray) -> None:
        self.n = n
        self.prompts = (by_prompt > 0).sum(axis=1).astype(np.float64)
        self.seeds = (by_seed > 0).sum(axis=1).astype(np.float64)
        self.per_prompt = (by_prompt**2).sum(axis=1) / n  # values a prompt has, weighted by themselves
        self.per_seed = (by_seed**2).sum(axis=1) / n
        sums, columns = gaps.sum(axis=2), gaps.sum(axis=1)
        self.total = (gaps**2).sum(axis=(1, 2))
        self.of_prompts = (sums**2 / np.maximum(by_prompt, 1)).sum(axis=1)
        self.of_seeds = (columns**2 / np.maximum(by_seed, 1)).sum(axis=1)
        # the cluster-robust variances of the mean: residuals of the ratio, clusters counted with G / (G - 1)
        self.robust_prompts = self.prompts / (self.prompts - 1) * (sums**2).sum(axis=1) / n**2
        self.robust_seeds = self.seeds / (self.seeds - 1) * (columns**2).sum(axis=1) / n**2


def _one_way(squares: _Squares) -> tuple[FloatArray, ...]:
    """Prompts are the clusters: the robust variance, but not less than what the rest alone would give; degrees of
    freedom by Satterthwaite."""
    within = np.where(
        squares.n > squares.prompts,
        (squares.total - squares.of_prompts) / (squares.n - squares.prompts) / squares.n,
        np.nan,
    )
    within = np.maximum(within, 0.0)
    variance = np.fmax(squares.robust_prompts, within)
    degrees = np.clip(
        (squares.prompts - 1) * (variance / squares.robust_prompts) ** 2, squares.prompts - 1, squares.n - 1
    )
    return variance, degrees, np.maximum(variance - within, 0.0), np.nan * squares.n, np.minimum(within, variance)


def _two_way(of: _Squares) -> tuple[FloatArray, ...]:
    """Prompts and seeds are crossed; degrees of freedom by Satterthwaite."""
    n, a, b = of.n, of.prompts, of.seeds
    interaction = of.total - of.of_prompts - of.of_seeds
    left = n - a - b + 1
    equations = np.stack(
        [
            np.stack([n - of.per_prompt, a - of.per_seed, a - 1], axis=-1),
            np.stack([b - of.per_prompt, n - of.per_seed, b - 1], axis=-1),
            np.stack([of.per_prompt - b, of.per_seed - a, left], axis=-1),
        ],
        axis=1,
    )
    solvable = np.isfinite(equations).all(axis=(1, 2)) & (left >= 1)
    solvable[solvable] = np.abs(np.linalg.det(equations[solvable])) > 1e-9 * n[solvable] ** 3
    components = np.zeros((len(n), 3))
    right = np.stack([of.of_prompts, of.of_seeds, interaction], axis=-1)
    components[solvable] = np.linalg.solve(equations[solvable], right[solvable][..., None])[..., 0]
    prompts, seeds, rest = np.maximum(components, 0.0).T * np.stack([of.per_prompt, of.per_seed, np.ones_like(n)]) / n
    variance = np.maximum(prompts + seeds + rest, np.fmax(of.robust_prompts, of.robust_seeds))
    squares = np.stack([of.of_prompts / (a - 1), of.of_seeds / (b - 1), np.maximum(components[:, 2], 0.0)])
    doubt = (squares**2 / np.stack([a - 1, b - 1, np.maximum(left, 1)])).sum(axis=0)
    degrees = np.clip((variance * n) ** 2 / doubt, 1.0, n - 1)
    unsolved = of.robust_prompts + of.robust_seeds  # the values do not tell seeds from prompts: both in full
    parts = [np.where(solvable, it * variance / (prompts + seeds + rest), np.nan) for it in (prompts, seeds, rest)]
    return (
        np.where(solvable, variance, unsolved),
        np.where(solvable, degrees, np.minimum(a, b) - 1),
        *parts,
    )
