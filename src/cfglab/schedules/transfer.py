"""A schedule on other noise levels: another number of steps, another sampler, another shift of sigma.

A step from sigma to sigma' holds one w. On two Gaussians N(m_u, s²) and N(m_c, s²) one step of a first-order sampler is
linear, `y' = a y + (1 - a) (m_u + w (m_c - m_u))` with y = x / alpha, so a run ends at
`m_u + (m_c - m_u) sum q_i w_i` besides what is left of the noise, with the weight of step i

    q_i = (1 - a_i) a_(i+1) ... a_(n-1)

    Euler, DDIM      a = 1 - (sigma - sigma') sigma / (s² + sigma²)
    DDPM, ancestral  a = 1 - (sigma² - sigma'²) / (s² + sigma²)
    without error    a = sqrt((s² + sigma'²) / (s² + sigma²)), the weights of `effective_dose`

The effective mean scale is `sum q_i w_i / sum q_i`. A transfer keeps two things: w as a function of sigma, where each
new step has the mean of what was there, and the effective mean scale, by one factor on w - 1.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from cfglab.errors import InputError
from cfglab.schedules.dose import factor
from cfglab.schedules.fields import nearest, shown
from cfglab.schedules.schedule import Schedule
from cfglab.schedules.shapes import Constant, Table
from cfglab.step import Step, steps

Integration = Literal["euler", "ancestral", "exact"]
DIGITS = 10
"""Decimals of a transferred scale."""
EQUAL = 1e-9


@runtime_checkable
class HasSteps(Protocol):
    """Levels, or another object with the steps of a run."""

    @property
    def steps(self) -> Sequence[Step]:
        """The steps, each with sigma."""


def integration_weights(run: Sequence[Step], s: float = 1.0, integration: Integration = "euler") -> list[float]:
    """How much the scale of each step moves the end of a run on Gaussians, as shares that sum to 1.

    Args:
        run: The steps, each with sigma and next_sigma (noise over signal).
        s: The standard deviation of the data, above 0, in the units of the latents.
        integration: "euler" for Euler and DDIM, "ancestral" for DDPM and ancestral samplers, "exact" for samplers of
            higher order, whose error is small.

    Returns:
        One share per step, each 0 to 1.

    Raises:
        InputError: The integration is unknown, `s` is not above 0, or the noise does not fall.

    Examples:
        >>> from cfglab import steps
        >>> from cfglab.schedules.transfer import integration_weights
        >>> [round(share, 3) for share in integration_weights(steps(3, [10, 3, 1, 0]))]
        [0.148, 0.32, 0.533]
    """
    if integration not in get_args(Integration):
        names = get_args(Integration)
        raise InputError(
            f"integration {shown(integration)}: there are {', '.join(names)};"
            f"{nearest(str(integration), names) or ' name one.'}"
        )
    if not (isinstance(s, int | float) and 0 < s < math.inf):
        raise InputError(f"s = {shown(s)}: the standard deviation of the data is above 0; 1 is that of most latents.")
    kept = [_kept(step.sigma or 0.0, step.next_sigma or 0.0, s, integration) for step in run]
    after = [*accumulate(reversed(kept), lambda product, part: product * part, initial=1.0)]  # after[k]: the last k
    weights = [(1 - part) * after[len(kept) - 1 - index] for index, part in enumerate(kept)]
    total = math.fsum(weights)
    if not total > 0:
        raise InputError(f"{len(run)} steps whose noise does not fall: there is nothing to guide; give a run's levels.")
    return [weight / total for weight in weights]


def _kept(sigma: float, next_sigma: float, s: float, integration: Integration) -> float:
    """a: the share of the deviation from the guided mean that a step keeps."""
    if math.isinf(sigma):
        return 0.0
    variance = s * s + sigma * sigma
    match integration:
        case "euler":
            return 1 - (sigma - next_sigma) * sigma / variance
        case "ancestral":
            return 1 - (sigma * sigma - next_sigma * next_sigma) / variance
    return math.sqrt((s * s + next_sigma * next_sigma) / variance)


def transferred(
    schedule: Schedule, from_levels: Any, to_levels: Any, *, s: float = 1.0, integration: Integration = "euler"
) -> Schedule:
    """A schedule on other noise levels, with the same curve over sigma and the same effective mean scale.

    Args:
        schedule: The schedule.
        from_levels: The levels on which it is known: Levels, steps with sigma, or n + 1 sigmas.
        to_levels: The levels on which it shall run, likewise.
        s: The standard deviation of the data, above 0, in the units of the latents.
        integration: How the sampler integrates, as in `integration_weights`.

    Returns:
        A constant stays itself; else a list of scales, one for each step of `to_levels`, with a window where the
        schedule is off at the start or at the end. A step between others that are on has w = 1 where it was off.

    Raises:
        InputError: Levels have no sigma, do not fit the schedule, or guidance is off at every step.
        NotMatchable: No factor of 0 or more gives the effective mean scale.
    """
    source, target = steps_of(from_levels, "from_levels"), steps_of(to_levels, "to_levels")
    if isinstance(schedule, Constant):
        return schedule
    _check_lengths(schedule, len(source))
    on = [schedule.is_on(step) for step in source]
    if not any(on):
        raise InputError(f"{schedule} is off at every step of from_levels: there is nothing to transfer.")
    values = [float(schedule(step)) if is_on else 1.0 for step, is_on in zip(source, on, strict=True)]
    mean = math.fsum(share * w for share, w in zip(integration_weights(source, s, integration), values, strict=True))
    moved, is_on = _on_intervals(source, values, on, target, s)
    shares = integration_weights(target, s, integration)
    c = 1.0 if abs(mean - 1) < EQUAL else factor(schedule, moved, shares, mean, math.inf)
    scales = [round(1 + c * (w - 1), DIGITS) for w in moved]
    return _written(scales, is_on)


def steps_of(levels: Any, name: str) -> list[Step]:
    """The steps of levels, each with sigma and the sigma at its end.

    Args:
        levels: An object with `steps`, steps, or n + 1 sigmas.
        name: The name of the argument, for messages.

    Returns:
        The steps.

    Raises:
        InputError: It is none of these, or a step has no sigma.
    """
    run = list(levels.steps) if isinstance(levels, HasSteps) else levels
    if isinstance(run, list | tuple) and run and not isinstance(run[0], Step):
        try:
            run = steps(len(run) - 1, [float(sigma) for sigma in run])
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: {error}" if isinstance(error, InputError) else _wrong(name, levels)) from None
    if not isinstance(run, list | tuple) or not run or not all(isinstance(step, Step) for step in run):
        raise InputError(_wrong(name, levels))
    if any(step.sigma is None for step in run):
        raise InputError(f"{name}: its steps have no sigma, over which the curve is held; give cfglab.levels(…).")
    ends = [step.sigma for step in run[1:]] + [0.0]
    return [
        replace(step, next_sigma=end) if step.next_sigma is None else step for step, end in zip(run, ends, strict=True)
    ]


def _wrong(name: str, levels: Any) -> str:
    return f"{name} {shown(levels)}: they are the levels of a run; give cfglab.levels(…), steps, or n + 1 sigmas."


def _check_lengths(schedule: Schedule, count: int) -> None:
    """Refuse a list of scales, or one inside windows and factors, that is not of the run of from_levels."""
    base: Any = schedule
    while not isinstance(base, Table) and isinstance(getattr(base, "base", None), Schedule):
        base = base.base
    if isinstance(base, Table) and len(base.entries) != count:
        raise InputError(
            f"a list of {len(base.entries)} scales and from_levels of {count} steps: they are not of the same run;"
            f" give the levels at {len(base.entries)} steps."
        )


def _on_intervals(
    source: Sequence[Step], values: Sequence[float], on: Sequence[bool], target: Sequence[Step], s: float
) -> tuple[list[float], list[bool]]:
    """The mean of w over each new step, weighed by how much each sigma moves the end, and whether the step is on."""
    edges = [_mass(source[0].sigma, s), *(_mass(step.next_sigma, s) for step in source)]
    edges[0], edges[-1] = 0.0, 1.0  # before the first step and after the last one w is theirs
    shares: list[float] = []
    moved: list[float] = []
    for step in target:
        start, end = _mass(step.sigma, s), _mass(step.next_sigma, s)
        parts = [max(0.0, min(end, high) - max(start, low)) for low, high in pairwise(edges)]
        guided = [part if is_on else 0.0 for part, is_on in zip(parts, on, strict=True)]
        total, inside = math.fsum(parts), math.fsum(guided)
        shares.append(inside / total if total > 0 else 0.0)
        mean = math.fsum(part * w for part, w in zip(guided, values, strict=True))
        moved.append(mean / inside if inside > 0 else 1.0)
    largest = max(shares)
    is_on = [share >= min(0.5, largest) and share > 0 for share in shares]
    return [w if flag else 1.0 for w, flag in zip(moved, is_on, strict=True)], is_on


def _mass(sigma: float | None, s: float) -> float:
    """How much of the way to the guided mean lies above sigma: 0 at pure noise, 1 at none."""
    return s / math.hypot(s, sigma or 0.0)


def _written(scales: list[float], on: list[bool]) -> Schedule:
    first, last = on.index(True), len(on) - on[::-1].index(True)
    inner = scales[first:last]
    whole: Schedule = Constant(inner[0]) if max(inner) - min(inner) < EQUAL else Table(scales)
    return whole if first == 0 and last == len(on) else whole.inside(steps=(first, last))
