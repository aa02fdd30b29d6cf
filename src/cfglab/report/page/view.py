"""From tables to what the page draws: a colour, a small curve and a place on the score's scale for every setting."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cfglab import svg
from cfglab.metrics import Metric
from cfglab.metrics.estimate import Estimate
from cfglab.report.summary.axis import SHADES, Axis
from cfglab.report.summary.tables import SettingRow, Tables

ACCENT = "var(--accent)"


@dataclass(frozen=True, slots=True)
class SettingView:
    """One setting as the page shows it.

    Attributes:
        key: its number on the page.
        row: its numbers.
        shade: the index of its colour in the sequential colour map; None is the accent colour.
        path: its curve as SVG path data in a box of 100 × 30.
    """

    key: int
    row: SettingRow
    shade: int | None
    path: str

    @property
    def title(self) -> str:
        return self.row.setting.title or self.row.setting.name

    @property
    def colour(self) -> str:
        return ACCENT if self.shade is None else f"var(--v{self.shade})"


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """One group of settings.

    Attributes:
        name: the name of the group.
        views: its settings, in order.
        axis: the axis that they sweep, if there is one.
    """

    name: str
    views: tuple[SettingView, ...]
    axis: Axis | None

    @property
    def plain(self) -> bool:
        """Whether every setting is a scale alone; a transform gives w = 1 another meaning."""
        return not any(view.row.setting.guidance.transforms for view in self.views)

    @property
    def sometimes_off(self) -> bool:
        """Whether some curve has steps without guidance."""
        return any(value is None for view in self.views for value in view.row.values)


@dataclass(frozen=True, slots=True)
class Scale:
    """The span on which scores of one metric, or differences in it, are drawn as small bars."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """Where a value stands, in per cent from the left, held within the bar."""
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(100 * min(1.0, max(0.0, share)), 2)


def views(tables: Tables) -> tuple[SettingView, ...]:
    """Every setting in the experiment's order, coloured by its group's axis, or by its place where there is none."""
    shade_of: dict[str, int] = {}
    for group in tables.groups:
        count = len(group.rows)
        spread = [round((index + 0.5) / count * (SHADES - 1)) for index in range(count)]
        shades = group.axis.shades() if group.axis else spread
        shade_of |= {row.setting.name: shade for row, shade in zip(group.rows, shades, strict=True)}
    low, high = _span(value for row in tables.rows for value in row.values if value is not None)
    return tuple(
        SettingView(key, row, shade_of.get(row.setting.name), path(row.values, low, high))
        for key, row in enumerate(tables.rows)
    )


def grids(tables: Tables, all_views: Sequence[SettingView]) -> tuple[ImageGrid, ...]:
    """Return the groups with their settings.

    Args:
        tables: the numbers of the run.
        all_views: every setting.
    """
    by_name = {view.row.setting.name: view for view in all_views}
    return tuple(
        ImageGrid(group.name, tuple(by_name[row.setting.name] for row in group.rows), group.axis)
        for group in tables.groups
    )


def path(values: Sequence[float | None], low: float, high: float) -> str:
    """Return a curve as SVG path data in a box of 100 × 30; broken where guidance is off.

    Args:
        values: w at each step; None where guidance is off.
        low: the value near the bottom.
        high: the value near the top.
    """
    width, span = max(1, len(values) - 1), (high - low) or 1
    points = [
        None if value is None else (100 * index / width, 28 - 26 * (value - low) / span)
        for index, value in enumerate(values)
    ]
    return svg.path(points) + ("H100" if len(points) == 1 and points[0] else "")


def score_scale(rows: Sequence[SettingRow], metric: Metric) -> Scale:
    """From 0 to 1 for shares that reach into the upper half, else what means and intervals span."""
    numbers = [row.means[metric.name] for row in rows if metric.name in row.means]
    low, high = _span(value for number in numbers for value in _ends(number))
    if metric.unit == "share":
        return Scale(0.0, 1.0 if high > 0.5 else high * 1.1)
    room = 0.06 * (high - low)
    return Scale(low - room, high + room)


def difference_scale(rows: Sequence[SettingRow], metric: Metric) -> Scale:
    """The same to either side of no difference."""
    differences = [row.differences[metric.name] for row in rows if metric.name in row.differences]
    ends = [
        abs(value)
        for difference in differences
        for value in (difference.low, difference.difference, difference.high)
        if value is not None
    ]
    reach = 1.04 * max(ends, default=1.0) or 1.0
    return Scale(-reach, reach)


def _ends(number: Estimate) -> Iterator[float]:
    yield from (value for value in (number.low, number.value, number.high) if value is not None)


def _span(values: Iterator[float]) -> tuple[float, float]:
    numbers = list(values)
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    return (low, high) if high > low else (low - 1, high + 1)
