"""The report's figures as inline SVG that follows the page's colours, light or dark. matplotlib is loaded when drawing.

Figures hold no words of the user's: legends are in the page. The same numbers give the same bytes.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from cfglab.report.summary.axis import SHADES, Axis
from cfglab.report.summary.estimates import Number

_INK, _RULE, _ACCENT = "#010203", "#010204", "#010205"
_VARIABLES = {_INK: "currentColor", _RULE: "var(--rule)", _ACCENT: "var(--accent)"} | {
    f"#00fe{shade:02x}": f"var(--v{shade})" for shade in range(SHADES)
}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _RULE,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "grid.color": _RULE,
    "grid.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "path.simplify": False,
}


def shade(place: int) -> str:
    """A place in the sequential map as the colour that stands for `var(--v<place>)` while matplotlib draws."""
    return f"#00fe{place:02x}"


@dataclass(frozen=True, slots=True)
class Curve:
    """One schedule: w at each step (None: guidance off), its place in the colour map, and whether it is the marked one.

    `key` is the setting's number in the page; hovering finds the curve by it.
    """

    key: int
    values: Sequence[float | None]
    place: int
    marked: bool = False


@dataclass(frozen=True, slots=True)
class PlotPoint:
    """One setting's score: its place on the horizontal axis, its mean and interval, its place in the colour map."""

    key: int
    x: float
    score: Number
    place: int
    shape: str = "o"


def curves(name: str, lines: Sequence[Curve], baseline: Curve | None = None, label: str | None = None) -> str:
    """All curves of a group in one pair of axes, the marked one thick with its `label`, the baseline dashed.

    `name` sets the figure's ids apart from those of the page's other figures.
    """
    figure, axes = _figure()
    for line in sorted(lines, key=lambda line: line.marked):
        on = [float("nan") if value is None else value for value in line.values]
        gid = f"curve-{line.key}"
        axes.plot(on, color=shade(line.place), linewidth=3.2 if line.marked else 1.5, gid=gid, zorder=2 + line.marked)
        if any(value is None for value in line.values):
            off = [1.0 if value is None else float("nan") for value in line.values]
            axes.plot(off, color=shade(line.place), linewidth=1.2, linestyle=(0, (1, 2)), gid=gid)
        if line.marked and label:
            at, value = _roomy(line.values)
            axes.annotate(label, (at, value), (9, 7), textcoords="offset points", weight="bold", color=_INK, gid="halo")
    if baseline and baseline.values:
        flat = [1.0 if value is None else value for value in baseline.values]
        axes.plot(flat, color=_ACCENT, linewidth=1.6, linestyle=(0, (5, 3)), gid=f"curve-{baseline.key}")
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="step", ylabel="scale w")
    axes.margins(x=0.015)
    return _svg(figure, name)


def scores(
    name: str,
    points: Sequence[PlotPoint],
    *,
    xlabel: str,
    ylabel: str,
    percent: bool,
    axis: Axis | None = None,
    baseline: Number | None = None,
    baseline_x: float | None = None,
) -> str:
    """Scores with their intervals over an axis or the dose; the baseline as a band, or as a diamond at `baseline_x`."""
    figure, axes = _figure()
    unit = 100 if percent else 1
    if baseline is not None:
        axes.axhline(baseline.value * unit, color=_ACCENT, linewidth=1.6, linestyle=(0, (5, 3)), zorder=1.5)
        if baseline.low is not None and baseline.high is not None:
            axes.axhspan(baseline.low * unit, baseline.high * unit, color=_ACCENT, alpha=0.1, linewidth=0, zorder=1)
    if axis is not None:
        ordered = sorted(points, key=lambda point: point.x)
        axes.plot([it.x for it in ordered], [it.score.value * unit for it in ordered], color=_RULE, linewidth=1.5)
    for point in points:
        _whisker(axes, point.x, point.score, unit, shade(point.place))
        axes.plot([point.x], [point.score.value * unit], point.shape, color=shade(point.place), markersize=6.5)
    if baseline is not None and baseline_x is not None:
        _whisker(axes, baseline_x, baseline, unit, _ACCENT)
        axes.plot([baseline_x], [baseline.value * unit], "D", color=_ACCENT, markersize=7)
    if axis is not None and axis.logarithmic:
        axes.set_xscale("log")
        axes.minorticks_off()
    if axis is not None:
        kept = _spread(sorted(set(axis.values)), axis.logarithmic)
        axes.set_xticks(kept, [f"{value:g}" for value in kept])
    axes.set(xlabel=xlabel, ylabel=f"{ylabel}, %" if percent else ylabel)
    axes.margins(x=0.05, y=0.12)
    return _svg(figure, name)


def _whisker(axes: Any, x: float, score: Number, unit: float, colour: str) -> None:
    if score.low is not None and score.high is not None:
        axes.plot([x, x], [score.low * unit, score.high * unit], color=colour, linewidth=2.2, solid_capstyle="round")


def _roomy(values: Sequence[float | None]) -> tuple[int, float]:
    """A place for the marked curve's label: the middle of the run, or the nearest step where guidance is on."""
    middle = len(values) // 2
    order = sorted(range(len(values)), key=lambda index: abs(index - middle))
    index = next((index for index in order if values[index] is not None), middle)
    return index, values[index] or 1.0


def _spread(values: Sequence[float], logarithmic: bool) -> list[float]:
    """The ticks among the values that leave room for each other's labels."""
    if len(values) < 2:
        return list(values)
    places = [log(value) if logarithmic else value for value in values]
    room = (places[-1] - places[0]) / 11
    kept = [0]
    for index in range(1, len(places)):
        if places[index] - places[kept[-1]] >= room:
            kept.append(index)
    return [values[index] for index in kept]


def _figure() -> tuple[Any, Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 3.15), layout="constrained")
        return figure, figure.subplots()


def _svg(figure: Any, name: str) -> str:
    """The figure as an `svg` element: no prologue, no global style, no ids but those that are referred to."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'id="curve-(\d+)"', r'class="curve" data-setting="\1"', text)
    text = text.replace('id="halo"', 'class="halo"')
    text = re.sub(r' id="[a-z0-9_.]+_\d+"', "", text)
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"'?DejaVu Sans[^;\"]*", "inherit", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return re.sub(r"\s*\n\s*", "\n", text).strip()
