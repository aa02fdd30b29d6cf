"""The report's figures: the curves of a group, and scores over an axis or over the dose, as inline SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from cfglab import svg
from cfglab.metrics.estimate import Estimate
from cfglab.report.summary.axis import Axis


@dataclass(frozen=True, slots=True)
class Curve:
    """One schedule over the steps.

    Attributes:
        key: the number of the setting on the page; scripts highlight the curve by it.
        values: w at each step; None where guidance is off.
        shade: the index of its colour in the sequential colour map of the page.
        marked: whether the curve is thick and carries the label.
    """

    key: int
    values: Sequence[float | None]
    shade: int
    marked: bool = False


@dataclass(frozen=True, slots=True)
class PlotPoint:
    """The score of one setting: its horizontal position, its mean with interval, its colour and its shape."""

    key: int
    x: float
    score: Estimate
    shade: int
    shape: svg.Shape = "circle"


def curves(title: str, lines: Sequence[Curve], baseline: Curve | None = None, label: str | None = None) -> str:
    """Return all curves of a group in one pair of axes, the baseline dashed.

    Args:
        title: the accessible name of the figure.
        lines: the curves; steps without guidance are dotted at w = 1.
        baseline: the curve of the baseline, if it is known.
        label: the text beside the marked curve.
    """
    plotted = []
    for line in sorted(lines, key=lambda line: line.marked):
        colour, key = f"var(--v{line.shade})", str(line.key)
        if any(value is None for value in line.values):
            off = [1.0 if value is None else None for value in line.values]
            plotted.append(svg.Line(off, colour=colour, width=1.2, dashes="1 2", key=key))
        width = 3.2 if line.marked else 1.5
        note = _labelled_step(line.values) if line.marked and label else None
        plotted.append(svg.Line(line.values, colour=colour, width=width, key=key, label=label or "", note_at=note))
    if baseline and baseline.values:
        flat = [1.0 if value is None else value for value in baseline.values]
        plotted.append(svg.Line(flat, colour="var(--accent)", dashes="5 3", key=str(baseline.key)))
    values = [value for line in lines for value in line.values if value is not None]
    span = f", w from {min(values):.3g} to {max(values):.3g}" if values else ""
    return svg.plot(
        title,
        description=f"The scale w over the steps of {len(lines)} settings{span}.",
        lines=plotted,
        x=svg.Axis("step", whole=True, margin=0.015),
        y=svg.Axis("scale w"),
    )


def scores(
    title: str,
    points: Sequence[PlotPoint],
    *,
    xlabel: str,
    ylabel: str,
    percent: bool,
    axis: Axis | None = None,
    baseline: Estimate | None = None,
    baseline_x: float | None = None,
) -> str:
    """Return scores with their intervals over an axis or the dose.

    Args:
        title: the accessible name of the figure.
        points: one point per setting.
        xlabel: the name of the horizontal axis.
        ylabel: the name of the score.
        percent: scores are shares from 0 to 1 and are shown in per cent.
        axis: the axis that the settings sweep; its values are the ticks.
        baseline: the score of the baseline, a dashed line with its interval as a band.
        baseline_x: the dose of the baseline, where a diamond marks it.
    """
    unit = 100 if percent else 1
    lines = []
    if axis is not None:
        ordered = sorted(points, key=lambda point: point.x)
        joined = [point.score.value * unit for point in ordered]
        lines = [svg.Line(joined, [point.x for point in ordered], colour="var(--rule)", width=1.5)]
    marks = [_mark(point.x, point.score, unit, f"var(--v{point.shade})", point.shape) for point in points]
    if baseline is not None and baseline_x is not None:
        marks.append(_mark(baseline_x, baseline, unit, "var(--accent)", "diamond"))
    level = _mark(0.0, baseline, unit, "var(--accent)", "diamond") if baseline else None
    logarithmic = axis is not None and axis.logarithmic
    return svg.plot(
        title,
        description=f"{ylabel} of {len(points)} settings over {xlabel}.",
        lines=lines,
        marks=marks,
        levels=[svg.Level(level.y, level.low, level.high)] if level else [],
        x=svg.Axis(xlabel, _spread(sorted(set(axis.values)), logarithmic) if axis else None, logarithmic),
        y=svg.Axis(f"{ylabel}, %" if percent else ylabel, margin=0.12),
    )


def _mark(x: float, score: Estimate, unit: float, colour: str, shape: svg.Shape) -> svg.Mark:
    low, high = (None if end is None else end * unit for end in (score.low, score.high))
    return svg.Mark(x, score.value * unit, low, high, colour, shape)


def _labelled_step(values: Sequence[float | None]) -> int | None:
    """The step of the marked curve's label: the middle one, or the nearest where guidance is on."""
    middle = len(values) // 2
    on = [index for index, value in enumerate(values) if value is not None]
    return min(on, key=lambda index: abs(index - middle), default=None)


def _spread(values: Sequence[float], logarithmic: bool) -> list[float]:
    """The ticks among the values that leave room for each other's labels."""
    if len(values) < 2:
        return list(values)
    positions = [log(value) if logarithmic else value for value in values]
    room = (positions[-1] - positions[0]) / 11
    indices = [0]
    for index in range(1, len(positions)):
        if positions[index] - positions[indices[-1]] >= room:
            indices.append(index)
    return [values[index] for index in indices]
