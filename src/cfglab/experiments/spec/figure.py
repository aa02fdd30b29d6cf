"""An experiment in a notebook: its grid of configurations, each with its curve, and its cost."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from cfglab.experiments.spec.cost import Cost
from cfglab.guidance import Guidance
from cfglab.notebook import Html, TableContent, card, details, facts, html_of, sparkline, table
from cfglab.schedules.figure import curve

GROUPS, SIDE, MOST = 12, 12, 40
"""Groups, values along one side of a grid, and settings of a list that are shown."""

Span = tuple[float, float]


class Row(NamedTuple):
    """One setting: its name, its group, its guidance and its values on the axes."""

    name: str
    group: str
    guidance: Guidance
    axes: Mapping[str, Any]


def outline(heading: tuple[str, str, str], rows: Sequence[Row], about: Mapping[str, str], cost: Cost) -> str:
    """The experiment in a few lines of plain text.

    Args:
        heading: the name, the title and the question.
        rows: the settings, the baseline first.
        about: name -> value of further facts.
        cost: the cost.
    """
    name, title, _ = heading
    settings = f"{len(rows)} settings, the baseline is {rows[0].name} ({rows[0].guidance})"
    facts_ = [f"{fact}: {value}" for fact, value in about.items()]
    return "\n".join([f"experiment {name}{f': {title}' if title else ''}", settings, *facts_, _cost(cost)])


def draw(
    heading: tuple[str, str, str],
    rows: Sequence[Row],
    steps: int,
    about: Mapping[str, str],
    cost: Cost,
    left_out: Sequence[tuple[str, str]],
) -> Html:
    """The card of an experiment.

    Args:
        heading: the name, the title and the question.
        rows: the settings, the baseline first.
        steps: the number of steps.
        about: name -> value of further facts.
        cost: the cost.
        left_out: the name of each setting that is not run, and the reason.

    Returns:
        The card as HTML.
    """
    name, title, question = heading
    curves = {row.name: _curve(row.guidance, steps) for row in rows}
    numbers = [value for values in curves.values() for value in values if value is not None]
    span = (min(numbers, default=0.0), max(numbers, default=1.0))
    baseline, *settings = rows
    parts = [Html(f"<p>{html_of(' '.join(question.split()))}</p>")] if question else []
    parts.append(
        facts(
            {
                "baseline": Html(
                    f'<span class="line">{_picture(baseline, curves, span)} {html_of(baseline.name)}</span>'
                ),
                **about,
                "cost": _cost(cost),
            }
        )
    )
    groups = [(group, list(members)) for group, members in groupby(settings, key=lambda row: row.group)]
    for group, members in groups[:GROUPS]:
        parts.append(Html(f"<p><b>{html_of(group)}</b> <span class='soft'>{len(members)} settings</span></p>"))
        parts.append(_grid(members, curves, span))
    if len(groups) > GROUPS:
        parts.append(Html(f'<p class="soft">and {len(groups) - GROUPS} more groups</p>'))
    if left_out:
        parts.append(
            details(f"{len(left_out)} settings left out", table(TableContent(("setting", "reason"), left_out)))
        )
    return card(title or name, *parts, about=[name if title else "", f"{len(rows)} settings"])


def _grid(rows: Sequence[Row], curves: Mapping[str, Sequence[float | None]], span: Span) -> Html:
    """The settings of a group over its two axes, over its only axis, or as a list."""
    names = [axis for axis in rows[0].axes if len({_key(row.axes.get(axis)) for row in rows}) > 1]
    values = {axis: list(dict.fromkeys(_key(row.axes.get(axis)) for row in rows)) for axis in names}
    by_place = {tuple(_key(row.axes.get(axis)) for axis in names): row for row in rows}
    small = len(names) in (1, 2) and len(by_place) == len(rows) and all(len(side) <= SIDE for side in values.values())
    if not small:
        listed = [
            (row.name, _picture(row, curves, span), Html(f"<code>{html_of(row.guidance)}</code>")) for row in rows
        ]
        return table(TableContent(("setting", "w", "guidance"), listed, most=MOST))
    across, down = names[0], names[1] if len(names) == 2 else None
    head = [f"{down} ↓ {across} →" if down else across, *values[across]]
    cells = [
        [
            label,
            *(_cell(by_place.get((column, label) if down else (column,)), curves, span) for column in values[across]),
        ]
        for label in (values[down] if down else [""])
    ]
    return table(TableContent(head, cells))


def _cell(row: Row | None, curves: Mapping[str, Sequence[float | None]], span: Span) -> object:
    return "" if row is None else _picture(row, curves, span)


def _picture(row: Row, curves: Mapping[str, Sequence[float | None]], span: Span) -> Html:
    title = f"{row.name}: {row.guidance}"
    return sparkline([curves[row.name]], title=title, width=64, height=30, span=span) if curves[row.name] else Html("–")


def _curve(guidance: Guidance, steps: int) -> list[float | None]:
    """The scale at each step; empty where it depends on the images."""
    try:
        return curve(guidance.schedule, steps)
    except Exception:
        return []


def _key(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cost(cost: Cost) -> str:
    return f"{cost.images:,} images, {cost.rows:,} NFE for plain guidance with no rows shared"
