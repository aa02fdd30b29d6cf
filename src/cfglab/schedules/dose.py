"""The strength of a schedule (its dose), and the same shape at another strength.

The *dose* is the mean of w over the steps. The *effective dose* weighs a step by how much it moves structure of size
`s`: for two Gaussians N(m, s²) that differ in their mean, any schedule ends at `m_u + W (m_c - m_u)` with
`W = ∫ w(σ) s σ (s² + σ²)^(-3/2) dσ`, so schedules with equal W end alike. Large s weighs early steps, small s late.

Matching changes the strength and keeps the shape: 1 + c (w - 1), which leaves no guidance (w = 1) alone.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cfglab.errors import InputError, NotMatchable
from cfglab.schedules.algebra import Around, keep_steps
from cfglab.schedules.fields import Real, bounded, settled
from cfglab.schedules.printer import call, number, text_of
from cfglab.schedules.schedule import Schedule
from cfglab.step import Step, step_weights


class Scaled(Around):
    """1 + factor (w - 1). Made by `Schedule.scaled`.

    Attributes:
        base: The schedule to scale.
        factor: The factor, a finite number.
    """

    kind: Literal["scaled"] = Field("scaled", repr=False)
    factor: Real

    def _w(self, step: Step) -> float:
        return _stretched(self.factor, self.base(step))


@text_of.register
def _(schedule: Scaled, python: bool) -> tuple[str, int]:
    return call(schedule.base, python, "scaled", number(schedule.factor))


Limit = Annotated[Real, bounded(lambda value: value > 0, "the largest scale allowed is above 0; 15 is the usual one.")]


class Matched(Around):
    """1 + c (w - 1) with the c that makes the mean over the steps `target`, for any number of steps.

    c follows from the step's count, so the value stays exact when a run is shortened. A call raises NotMatchable if no
    c of 0 or more gives the target, or if a scale would leave [-limit, limit]. Made by `Schedule.matched_to`.

    Attributes:
        base: The schedule whose shape is kept; it must not read sigma.
        target: The mean of w to reach.
        limit: The largest |w| allowed, above 0.
    """

    kind: Literal["matched"] = Field("matched", repr=False)
    target: Real
    limit: Limit = 15.0

    @model_validator(mode="after")
    def _reads_no_sigma(self) -> Self:
        if self.base.reads_sigma():
            keep_steps(f"matched_to({self.target:g})", self.base)
        return self

    def _w(self, step: Step) -> float:
        return _stretched(_mean_factor(self, step.count), self.base(step))

    @classmethod
    def of_run(
        cls,
        base: Schedule,
        dose: float,
        weight: Literal["steps", "effective"],
        limit: float,
        sigmas: Sequence[float] | None,
        s: float,
    ) -> Schedule:
        """See `Schedule.matched_to`.

        Args:
            base: The schedule whose shape is kept.
            dose: The mean of w to reach.
            weight: "steps" or "effective".
            limit: The largest |w| allowed, above 0.
            sigmas: The n + 1 noise levels of the run, or None.
            s: The size of structure, above 0.

        Returns:
            The matched schedule.

        Raises:
            NotMatchable: No c of 0 or more gives the dose with |w| <= limit.
            InputError: `sigmas` is needed and missing, or an argument is not valid.
        """
        if weight not in ("steps", "effective"):
            raise InputError(
                f"weight {weight!r}: a dose weighs 'steps' equally or by their 'effective' share; write one."
            )
        if sigmas is None and weight == "steps" and not base.reads_sigma():
            return cls(base=base, target=dose, limit=limit)
        if sigmas is None:
            raise InputError(
                f"matched_to({dose}, weight={weight!r}) of {base} without sigmas: it depends on the run's noise "
                "levels; give sigmas=, n + 1 of them."
            )
        shares = step_weights(sigmas, s)
        if weight == "steps":
            shares = [1 / len(shares)] * len(shares)
        checked = cls(base=1, target=dose, limit=limit)
        return Scaled(
            base=base, factor=factor(base, base.values(len(shares), sigmas), shares, checked.target, checked.limit)
        )


@text_of.register
def _(schedule: Matched, python: bool) -> tuple[str, int]:
    limit = None if schedule.limit == 15 else schedule.limit
    return call(schedule.base, python, "matched_to", number(schedule.target), limit=limit)


def _stretched(factor: float, w: float) -> float:
    """1 + factor (w - 1)."""
    change = factor * (w - 1)
    return settled(1 + change, 1, change)


@lru_cache(maxsize=4096)
def _mean_factor(schedule: Matched, count: int) -> float:
    return factor(schedule.base, schedule.base.values(count), [1 / count] * count, schedule.target, schedule.limit)


def factor(base: Schedule, values: Sequence[float], weights: Sequence[float], target: float, limit: float) -> float:
    """The c of 1 + c (w - 1) whose weighted mean is `target`.

    Args:
        base: The schedule, for the messages.
        values: w at each of the n steps.
        weights: The n weights of the steps, which sum to 1.
        target: The mean of w to reach.
        limit: The largest |w| allowed.

    Returns:
        c, 0 or more.

    Raises:
        NotMatchable: No c of 0 or more gives the target with |w| <= limit.
    """
    strength = math.fsum(weight * (w - 1) for weight, w in zip(weights, values, strict=True))
    request = f"{base} to dose {target:g}"
    if abs(strength) < 1e-12:
        if target == 1:
            return 1.0
        raise NotMatchable(
            f"{request}: its own dose is 1, no guidance, which no factor changes; choose another schedule."
        )
    c = (target - 1) / strength
    if c < 0:
        raise NotMatchable(
            f"{request}: its own dose {1 + strength:.4g} is on the other side of 1, so its shape would turn over; "
            "choose another dose or invert it."
        )
    largest = max((1 + c * (w - 1) for w in values), key=abs)
    if abs(largest) > limit:
        raise NotMatchable(
            f"{request}: it would reach w = {largest:.4g}, beyond the limit {limit:g}; lower the dose or raise limit=."
        )
    return c
