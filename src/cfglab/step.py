"""One denoising step, as schedules and transforms see it. Loads no torch."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from sys import float_info
from typing import Any

from cfglab.errors import InputError


@dataclass(frozen=True, slots=True)
class Step:
    """One denoising step of a run; both calls of a two-call step share the `index`.

    The model sees `x = alpha * (x0 + sigma * epsilon)`. None means that a value is not known.

    Attributes:
        index: The step's index, 0 to count - 1.
        count: The number of steps of the run, 1 or more.
        timestep: The scheduler's timestep, in its own unit (0 to 1000 for most).
        sigma: Noise over signal where the model is evaluated, 0 or more; for a flow model t / (1 - t).
        next_sigma: The same at the end of the step; 0 after the last one.
        alpha: The factor of the signal, 0 to 1.
        host_sigma: The sampler's own number for the noise level.

    Examples:
        >>> from cfglab import Step
        >>> Step(index=1, count=4).progress
        0.25
    """

    index: int
    count: int
    timestep: float | None = None
    sigma: float | None = None
    next_sigma: float | None = None
    alpha: float | None = None
    host_sigma: float | None = None

    @property
    def progress(self) -> float:
        """The elapsed fraction of the run, index / count: 0 at the first step, below 1 at the last."""
        return self.index / self.count


def steps(count: int, sigmas: Sequence[float] | None = None) -> list[Step]:
    """The steps of a run without a model, for curves and lists of values.

    Args:
        count: The number of steps, 1 or more.
        sigmas: The noise levels (noise over signal), not negative and not rising. `count` entries, or `count + 1` with
            the end of the last step; without the last one the run ends at 0. A run that starts at pure noise starts at
            infinity.

    Returns:
        `count` steps, with `sigma` and `next_sigma` if `sigmas` is given.

    Raises:
        InputError: `count` is below 1 or not an int, `sigmas` has another length, or a level is negative, rises, or is
            NaN.

    Examples:
        >>> from cfglab import steps
        >>> [(step.sigma, step.next_sigma) for step in steps(2, [10, 5])]
        [(10.0, 5.0), (5.0, 0.0)]
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"{count!r} steps: a run has at least one step, a whole number; ask for 1 or more.")
    if sigmas is None:
        return [Step(index, count) for index in range(count)]
    levels = noise_levels(sigmas)
    if len(levels) == count:
        levels.append(0.0)
    if len(levels) != count + 1:
        raise InputError(
            f"{len(levels)} sigmas for {count} steps: a step has one sigma; give {count} of them, "
            f"or {count + 1} with the end of the last step."
        )
    for level, after in zip(levels, [*levels[1:], 0.0], strict=True):
        if math.isnan(level) or level < 0 or after > level:
            raise InputError(
                f"sigma {level!r} followed by {after!r}: noise over signal is a number, not negative, and falls from "
                "step to step; give them in the order of sampling, for a flow model as t / (1 - t)."
            )
    return [Step(index, count, sigma=levels[index], next_sigma=levels[index + 1]) for index in range(count)]


def noise_levels(sigmas: Any) -> list[float]:
    """Noise levels as numbers.

    Args:
        sigmas: A list, an array or a tensor of them.

    Returns:
        The numbers, in their order.

    Raises:
        InputError: They are no numbers.

    Examples:
        >>> noise_levels((14.6, 0))
        [14.6, 0.0]
    """
    if not isinstance(sigmas, str | bytes):
        with suppress(TypeError, ValueError):
            return [float(sigma) for sigma in sigmas]
    raise InputError(
        f"sigmas {sigmas!r:.60}: the falling noise levels of a run are needed; write [14.6, 3.2, 0.0], or in a loop of "
        "your own a run by its name, levels('edm', 32)."
    )


def step_weights(sigmas: Sequence[float], s: float = 1.0) -> list[float]:
    """How much each step moves structure of size `s`, as shares that sum to 1.

    A step from a to b has the mass s / sqrt(s² + b²) - s / sqrt(s² + a²), here divided by the mass of all steps.

    Args:
        sigmas: The n + 1 levels (noise over signal) of a run of n steps, falling, the last being where it ends.
        s: The size of structure, above 0, in the units of the latents; 1 is their standard deviation.

    Returns:
        n shares, each 0 to 1, the first step first.

    Raises:
        InputError: `s` is not a finite number above 0, there are fewer than 2 levels, or they rise, are negative or do
            not fall at all.

    Examples:
        >>> from cfglab.schedules import step_weights
        >>> [round(share, 3) for share in step_weights([10, 1, 0])]
        [0.675, 0.325]
    """
    if not (isinstance(s, int | float) and 0 < s <= float_info.max):
        raise InputError(
            f"s = {s!r}: the size of structure is above 0, in the units of the latents; 1 is their spread."
        )
    sigmas = noise_levels(sigmas)
    if len(sigmas) < 2:
        raise InputError(
            f"{len(sigmas)} sigmas: n steps have n + 1 levels, the last being where the run ends; add the end, often 0."
        )
    masses = [
        s / math.hypot(s, step.next_sigma or 0.0) - s / math.hypot(s, step.sigma or 0.0)
        for step in steps(len(sigmas) - 1, sigmas)
    ]
    total = math.fsum(masses)
    if total <= 0:
        raise InputError(f"sigmas from {sigmas[0]:g} to {sigmas[-1]:g}: the noise has to fall; give the run's levels.")
    return [mass / total for mass in masses]
