"""The number types of the transforms' fields; each fault is reported in one line."""

from typing import Annotated

from pydantic import AfterValidator

from cfglab.schedules.fields import Real


def _strength(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("it must be between 0 (plain CFG) and 1 (the full transform); write one such as 0.5.")
    return value


def _fraction(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("it must be between 0 and 1; write one such as 0.5.")
    return value


def _inside(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError("it must be between 0 and 1, both left out; write one such as 0.5.")
    return value


def _quantile(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError("it must be above 0 and at most 1, a share of the values; write one such as 0.995.")
    return value


def _decay(value: float) -> float:
    if not -1 < value < 1:
        raise ValueError("it must be between -1 and 1, both left out, or what is remembered grows; write -0.5.")
    return value


def _forgetting(value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError("it must be 0 or more and below 1, the share that is kept; write one such as 0.6.")
    return value


def _not_negative(value: float) -> float:
    if value < 0:
        raise ValueError("it must be 0 or more; change its sign.")
    return value


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("it must be above 0; write one such as 1.")
    return value


Strength = Annotated[Real, AfterValidator(_strength)]
Fraction = Annotated[Real, AfterValidator(_fraction)]
Inside = Annotated[Real, AfterValidator(_inside)]
Quantile = Annotated[Real, AfterValidator(_quantile)]
Decay = Annotated[Real, AfterValidator(_decay)]
Forgetting = Annotated[Real, AfterValidator(_forgetting)]
NotNegative = Annotated[Real, AfterValidator(_not_negative)]
Positive = Annotated[Real, AfterValidator(_positive)]
