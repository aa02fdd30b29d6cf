"""The number types of the transforms' fields; each fault is reported in one line."""

from collections.abc import Mapping
from typing import Annotated, Any

from cfglab.schedules.fields import Real, bounded

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
NotNegative = Annotated[Real, bounded(lambda value: value >= 0, "it must be 0 or more; change its sign.")]
Positive = Annotated[Real, bounded(lambda value: value > 0, "it must be above 0; write one such as 1.")]


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
