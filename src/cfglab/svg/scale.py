"""Axes of a plot: their ticks, and from values to SVG units."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a plot.

    Attributes:
        label: the name of the axis, with its unit.
        ticks: the values that are labelled; None chooses round numbers.
        logarithmic: a base-10 logarithmic scale; all values must be above 0.
        whole: round ticks to whole numbers.
        margin: the room beyond the smallest and largest value, as a share of the span.
    """

    label: str = ""
    ticks: Sequence[float] | None = None
    logarithmic: bool = False
    whole: bool = False
    margin: float = 0.05


def ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """Return round numbers from `low` to `high`, about `count` of them, 1, 2, 2.5 or 5 times a power of ten apart.

    Examples:
        >>> ticks(0.3, 7.5)
        [2.0, 4.0, 6.0]
        >>> ticks(0, 49, whole=True)
        [0.0, 10.0, 20.0, 30.0, 40.0]
    """
    if not high > low:
        return [low]
    size = 10.0 ** floor(log10((high - low) / count))
    steps = [factor * size for factor in (1, 2, 2.5, 5, 10) if not whole or (factor * size).is_integer()] or [1.0]
    step = next((step for step in steps if (high - low) / step <= count + 0.5), steps[-1])
    first = ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten from `low` to `high`, both above 0, with 2 and 5 times each where there are few.

    Examples:
        >>> log_ticks(0.1, 10)
        [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
        >>> log_ticks(0.01, 1000)
        [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
    """
    decades = range(floor(log10(low)) - 1, ceil(log10(high)) + 1)
    factors = (1,) if log10(high / low) > 2.5 else (1, 2, 5)
    values = [float(f"{factor}e{decade}") for decade in decades for factor in factors]
    return [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to SVG units along one axis."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool

    @classmethod
    def of(cls, values: Sequence[float], axis: Axis, start: float, end: float) -> "Scale":
        places = [log10(value) for value in values] if axis.logarithmic else list(values)
        low, high = min(places, default=0.0), max(places, default=1.0)
        if high - low <= 1e-12 * max(abs(low), abs(high)):
            low, high = low - 0.5, high + 0.5
        room = axis.margin * (high - low)
        return cls(low - room, high + room, start, end, axis.logarithmic)

    def __call__(self, value: float) -> float:
        place = log10(value) if self.logarithmic else value
        return self.start + (self.end - self.start) * (place - self.low) / (self.high - self.low)

    def ticks(self, axis: Axis, count: int) -> list[float]:
        if axis.ticks is not None:
            return list(axis.ticks)
        if self.logarithmic:
            return log_ticks(10**self.low, 10**self.high)
        return ticks(self.low, self.high, count, whole=axis.whole)
