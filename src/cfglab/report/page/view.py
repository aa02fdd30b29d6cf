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
    """One setting as the page shows it: its number, its colour and place in the map, its curve as an SVG path."""

    key: int
    row: SettingRow
    place: int | None
    path: str

    @property
    def title(self) -> str:
        return self.row.setting.title or self.row.setting.name

    @property
    def colour(self) -> str:
        return ACCENT if self.place is None else f"var(--v{self.place})"


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """One group: its faces in order and the axis that they sweep."""

    name: str
    faces: tuple[SettingView, ...]
    axis: Axis | None

    @property
    def plain(self) -> bool:
        """Whether every setting is a scale alone; a transform gives w = 1 another meaning."""
        return not any(face.row.setting.guidance.transforms for face in self.faces)

    @property
    def sometimes_off(self) -> bool:
        """Whether some curve has steps without guidance."""
        return any(value is None for face in self.faces for value in face.row.values)


@dataclass(frozen=True, slots=True)
class Scale:
    """The span on which scores of one metric, or differences in it, are drawn as small bars."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """Where a value stands, in per cent from the left, held within the bar."""
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(100 * min(1.0, max(0.0, share)), 2)


def faces(tables: Tables) -> tuple[SettingView, ...]:
    """Every setting in the experiment's order, coloured by its group's axis, or by its place where there is none."""
    places: dict[str, int] = {}
    for group in tables.groups:
        count = len(group.rows)
        spread = [round((index + 0.5) / count * (SHADES - 1)) for index in range(count)]
        shades = group.axis.shades() if group.axis else spread
        places |= {row.setting.name: place for row, place in zip(group.rows, shades, strict=True)}
    low, high = _span(value for row in tables.rows for value in row.values if value is not None)
    return tuple(
        SettingView(key, row, places.get(row.setting.name), path(row.values, low, high))
        for key, row in enumerate(tables.rows)
    )


def grids(tables: Tables, all_faces: Sequence[SettingView]) -> tuple[ImageGrid, ...]:
    """The groups with their faces."""
    by_name = {face.row.setting.name: face for face in all_faces}
    return tuple(
        ImageGrid(group.name, tuple(by_name[row.setting.name] for row in group.rows), group.axis)
        for group in tables.groups
    )


def path(values: Sequence[float | None], low: float, high: float) -> str:
    """A curve as an SVG path in a box of 100 × 30, `high` near its top; broken where guidance is off."""
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
    found = [row.differences[metric.name] for row in rows if metric.name in row.differences]
    ends = [abs(value) for it in found for value in (it.low, it.difference, it.high) if value is not None]
    reach = 1.04 * max(ends, default=1.0) or 1.0
    return Scale(-reach, reach)


def _ends(number: Estimate) -> Iterator[float]:
    yield from (value for value in (number.low, number.value, number.high) if value is not None)


def _span(values: Iterator[float]) -> tuple[float, float]:
    found = list(values)
    low, high = min(found, default=0.0), max(found, default=1.0)
    return (low, high) if high > low else (low - 1, high + 1)
