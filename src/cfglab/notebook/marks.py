"""Figures of one table cell: a line over the steps, and an interval around zero."""

from collections.abc import Sequence
from html import escape
from math import isfinite

from cfglab.notebook.card import Html
from cfglab.svg import path

Values = Sequence[float | None]


def sparkline(
    lines: Sequence[Values],
    *,
    title: str,
    width: float = 120,
    height: float = 26,
    span: tuple[float, float] | None = None,
    colour: str = "var(--c0)",
) -> Html:
    """Return lines over the steps, without axes.

    Args:
        lines: the values of each line; None breaks it.
        title: the accessible name.
        width, height: the size in pixels.
        span: the lowest and highest value of the vertical axis; None takes those of the lines.
        colour: a CSS colour.
    """
    finite = [[value if value is not None and isfinite(value) else None for value in line] for line in lines]
    numbers = [value for line in finite for value in line if value is not None]
    low, high = span or (min(numbers, default=0.0), max(numbers, default=1.0))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edge, longest = 3.0, max((len(line) for line in finite), default=1)
    paths = []
    for line in finite:
        points = [
            None
            if value is None
            else (
                edge + (width - 2 * edge) * index / max(1, longest - 1),
                height - edge - (height - 2 * edge) * (value - low) / (high - low),
            )
            for index, value in enumerate(line)
        ]
        paths.append(f'<path d="{path(points)}"/>')
    opacity = 1 if len(lines) == 1 else max(0.25, 0.8 / len(lines) ** 0.5)
    style = (
        f"fill:none;stroke:{colour};stroke-width:1.6;stroke-linecap:round;stroke-linejoin:round;opacity:{opacity:.2f}"
    )
    return Html(f'{_opening(title, width, height)}<g style="{style}">{"".join(paths)}</g></svg>')


def interval_bar(
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    span: tuple[float, float],
    title: str,
    colour: str = "var(--c0)",
    zero: float | None = 0.0,
    width: float = 150,
    height: float = 20,
) -> Html:
    """Return a point with its interval on a scale that all rows of a table share, with a line at zero.

    Args:
        value: the value; None draws the scale alone.
        low, high: the ends of the interval; None draws none.
        span: the lowest and highest value of the scale.
        title: the accessible name.
        colour: a CSS colour.
        zero: the value at which a vertical line stands; None draws none.
        width, height: the size in pixels.
    """
    edge, middle = 5.0, height / 2
    bottom, top = span if span[1] > span[0] else (span[0] - 0.5, span[0] + 0.5)

    def at(number: float) -> float:
        return edge + (width - 2 * edge) * (min(max(number, bottom), top) - bottom) / (top - bottom)

    parts = [f'<path d="{path([(edge, middle), (width - edge, middle)])}" style="stroke:var(--rule)"/>']
    if zero is not None and bottom <= zero <= top:
        parts.append(f'<path d="{path([(at(zero), 1), (at(zero), height - 1)])}" style="stroke:var(--soft)"/>')
    if value is not None and low is not None and high is not None:
        ends = path([(at(low), middle), (at(high), middle)])
        parts.append(f'<path d="{ends}" style="stroke:{colour};stroke-width:5;stroke-linecap:round;opacity:.4"/>')
    if value is not None:
        parts.append(f'<circle cx="{at(value):.2f}" cy="{middle:g}" r="3.6" style="fill:{colour}"/>')
    return Html(f"{_opening(title, width, height)}{''.join(parts)}</svg>")


def _opening(title: str, width: float, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}"><title>{escape(title)}</title>'
    )
