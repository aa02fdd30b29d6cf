"""The number types of the transforms' fields; each fault is reported in one line."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from cfglab.errors import InputError
from cfglab.schedules import Constant, Schedule, as_schedule
from cfglab.schedules.fields import Real, bounded
from cfglab.step import Step

Strength = Annotated[
    Real,
    bounded(
        lambda value: 0 <= value <= 1,
        "it must be between 0 (plain CFG) and 1 (the full transform); write one such as 0.5.",
    ),
]
Fraction = Annotated[Real, bounded(lambda value: 0 <= value <= 1, "it must be between 0 and 1; write one such as 0.5.")]
Inside = Annotated[
    Real, bounded(lambda value: 0 < value < 1, "it must be between 0 and 1, both left out; write one such as 0.5.")
]
Quantile = Annotated[
    Real,
    bounded(
        lambda value: 0 < value <= 1,
        "it must be above 0 and at most 1, a share of the values; write one such as 0.995.",
    ),
]
Decay = Annotated[
    Real,
    bounded(
        lambda value: -1 < value < 1,
        "it must be between -1 and 1, both left out, or what is remembered grows; write -0.5.",
    ),
]
Forgetting = Annotated[
    Real,
    bounded(
        lambda value: 0 <= value < 1, "it must be 0 or more and below 1, the share that is kept; write one such as 0.6."
    ),
]
Dimension = Literal[-1, 1, 2, 3, 4]
"""A dimension of the predictions besides the batch; -1 is the last."""
NotNegative = Annotated[Real, bounded(lambda value: value >= 0, "it must be 0 or more; change its sign.")]
Positive = Annotated[Real, bounded(lambda value: value > 0, "it must be above 0; write one such as 1.")]


def _scale(value: Any) -> float | str:
    schedule = as_schedule(value)
    if isinstance(schedule, Constant):
        return float(schedule.value)
    try:
        return str(_schedule(str(schedule)))
    except InputError:
        raise ValueError("a number or the text of a schedule is needed, and a function has none; write one.") from None


Scale = Annotated[float | str, BeforeValidator(_scale)]
"""A scale beside w: a number, or the text of a schedule."""


def scale_at(scale: float | str, step: Step) -> float:
    """The value of a `Scale` at one step.

    Args:
        scale: A number, or the canonical text of a schedule.
        step: The step.

    Returns:
        A finite number; 1 where the schedule is off.

    Raises:
        InputError: The step lacks a value that the schedule reads.

    Examples:
        >>> scale_at("linear(max=3, min=1)", Step(1, 2))
        2.0
    """
    return scale if isinstance(scale, float) else _schedule(scale)(step)


@lru_cache(maxsize=64)
def _schedule(text: str) -> Schedule:
    return as_schedule(text)


def with_defaults_of(variants: Mapping[str, Mapping[str, Any]], data: Any) -> Any:
    """The fields of a transform with the defaults that its variant `as_in` brings, for a validator before all others.

    Args:
        variants: Variant -> its defaults.
        data: What the class was called with.

    Returns:
        The fields, those that were given first; data that is no mapping as it is.
    """
    mode = data.get("as_in") if isinstance(data, dict) else None
    return {**variants[mode], **data} if isinstance(mode, str) and mode in variants else data
