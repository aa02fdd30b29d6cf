"""Intervals for set metrics: leave a prompt out, or half of them.

Never a bootstrap: a duplicated image is its own nearest neighbour and its own kernel pair, so drawing with
replacement moves KID, recall and Vendi by itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from cfglab.errors import InputError
from cfglab.metrics.distances import as_features
from cfglab.metrics.estimate import Estimate

FloatArray = NDArray[np.float64]
LEVEL = 0.975


@dataclass(frozen=True, slots=True)
class Jackknife:
    """A set metric and what it would be without each prompt in turn.

    Two of the same prompts subtract to the jackknife of the difference, which keeps what the two settings share
    (prompts, seeds, the reference) out of the interval.
    """

    value: float
    without: tuple[float, ...]  # one a prompt, in the prompts' order; empty where there is nothing to leave out
    prompts: tuple[str, ...]
    n: int  # images

    @property
    def standard_error(self) -> float | None:
        """sqrt((G - 1) / G * sum (value without g - mean of these values)^2) over G prompts; None below two prompts.

        Prompts should have about the same number of images.
        """
        groups = len(self.without)
        if groups < 2:
            return None
        left = np.asarray(self.without)
        return float(np.sqrt((groups - 1) / groups * ((left - left.mean()) ** 2).sum()))

    @property
    def low(self) -> float | None:
        """Lower end of the 95 % interval, value - t(G - 1) standard errors."""
        return self.estimate.low

    @property
    def high(self) -> float | None:
        """Upper end of the 95 % interval."""
        return self.estimate.high

    @property
    def estimate(self) -> Estimate:
        """The value, not corrected for bias, with its 95 % interval; none where no prompt makes a difference."""
        return _estimate(self.value, self.standard_error or 0.0, len(self.without), self.n)

    def __sub__(self, other: "Jackknife") -> "Jackknife":
        if self.prompts != other.prompts:
            raise InputError(
                f"{len(self.prompts)} and {len(other.prompts)} prompts that are not the same: a difference needs the "
                "same prompts in the same order; drop those that only one side has"
            )
        both = zip(self.without, other.without, strict=False)
        without = tuple(a - b for a, b in both) if len(self.without) == len(other.without) else ()
        return Jackknife(self.value - other.value, without, self.prompts, min(self.n, other.n))


def delete_one_prompt(features: Mapping[str, Any], metric: Callable[[FloatArray], float]) -> Jackknife:
    """Jackknife over prompts of any metric of one feature array (close over the reference).

    Args:
        features: prompt -> (n, d) features of its images.
        metric: called once with all rows and once without each prompt.

    Raises:
        InputError: no prompt, other shapes, values that are not finite.
    """
    arrays = by_prompt(features)
    prompts = tuple(arrays)
    without = tuple(
        metric(np.concatenate([rows for other, rows in arrays.items() if other != prompt]))
        for prompt in prompts
        if len(prompts) > 1
    )
    whole = np.concatenate(list(arrays.values()))
    return Jackknife(metric(whole), without, prompts, len(whole))


def half_samples(
    features: Mapping[str, Any], metric: Callable[[FloatArray], float], draws: int = 200, seed: int = 0
) -> Estimate:
    """95 % interval from random halves of the prompts, drawn without replacement.

    For a half of h out of G prompts the standard error is sqrt(h / (G - h)) times the spread of the metric over
    halves (the delete-d jackknife; Shao and Wu, 1989). Smoother than leaving out one prompt for metrics that move in
    jumps; the bias that a smaller set has is in every half alike and drops out of the spread.

    Raises:
        InputError: no prompt, other shapes, values that are not finite.
    """
    arrays = by_prompt(features)
    prompts = tuple(arrays)
    whole = np.concatenate(list(arrays.values()))
    kept = len(prompts) // 2
    if kept == 0:
        return Estimate(value=metric(whole), n=len(whole))
    random = np.random.default_rng(seed)
    halves = [random.choice(len(prompts), size=kept, replace=False) for _ in range(draws)]
    values = [metric(np.concatenate([arrays[prompts[i]] for i in half])) for half in halves]
    error = float(np.std(values)) * np.sqrt(kept / (len(prompts) - kept))
    return _estimate(metric(whole), error, len(prompts), len(whole))


def _estimate(value: float, error: float, groups: int, n: int) -> Estimate:
    """value -+ t(groups - 1) errors. No error at all is an unknown spread (recall 0 in every half)."""
    if error <= 1e-12 * abs(value):
        return Estimate(value=value, n=n)
    half = float(stdtrit(groups - 1, LEVEL)) * error
    return Estimate(value=value, low=value - half, high=value + half, n=n)


def by_prompt(features: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Return the checked features of each prompt, in sorted order of the prompts.

    Args:
        features: prompt -> (n, d) features of its images.

    Raises:
        InputError: if there is no prompt, the shapes are wrong, the widths differ, or a value is not finite.
    """
    if not features:
        raise InputError("no prompts: features of at least one prompt are needed")
    arrays = {prompt: as_features(features[prompt], f"'{prompt}'") for prompt in sorted(features)}
    widths = sorted({array.shape[1] for array in arrays.values()})
    if len(widths) > 1:
        raise InputError(
            f"features of {widths} dimensions: all prompts must have the same; extract all with one metric model"
        )
    return arrays
