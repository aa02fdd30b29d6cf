"""A comparison as a figure for a paper: each setting's difference from the baseline with its interval."""

import io
from collections.abc import Sequence
from textwrap import fill

from cfglab.experiments.analysis.comparison import Comparison, ComparisonRow
from cfglab.metrics.registry import sign
from cfglab.terminal import inline

WIDTH = 5.5
"""Inches: the text width of many papers; 3.25 is a column of two."""
MOST = 200
"""Settings that are drawn, the best first."""
_INK, _SOFT, _GOOD, _BAD = "#1c1d20", "#8b8e95", "#23744a", "#c4471c"
_HARD = "\N{NO-BREAK SPACE}"
_STYLE = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,  # fonts that journals accept and editors can change
    "svg.fonttype": "none",
    "svg.hashsalt": "cfglab",
}


def draw(comparison: Comparison, kind: str, width: float = WIDTH) -> bytes:
    """Return the figure of a comparison as a file.

    Points are differences from the baseline, lines their 95 % intervals; filled points have p below 0.05 after Holm's
    correction, in green where the setting is better, in orange where it is worse.

    Args:
        comparison: the comparison.
        kind: "pdf", "svg" or "png".
        width: the width in inches.
    """
    import matplotlib
    from matplotlib.figure import Figure

    rows = [row for row in comparison.rows if row.difference is not None][:MOST]
    direction = sign(comparison.better) if comparison.better else 0
    with matplotlib.rc_context(_STYLE):
        label = fill(_label(comparison, rows), int(14 * width))
        height = 0.45 + 0.14 * (1 + label.count("\n")) + 0.2 * max(1, len(rows))
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=_SOFT, linewidth=0.8, zorder=1)
        for line, row in enumerate(rows):
            difference = row.difference or 0.0  # rows without one are left out above
            good = difference * (direction or 1) > 0
            colour = _INK if not direction or not row.significant else _GOOD if good else _BAD
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [line, line], color=colour, linewidth=1.4, solid_capstyle="butt")
            face = colour if row.significant else "white"
            axes.plot([difference], [line], "o", color=colour, markersize=4, markerfacecolor=face, zorder=3)
        axes.set_yticks(range(len(rows)), [_short(row.setting) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#e3e0d9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        caption = figure.supxlabel(label, size=8)
        for text in (*axes.get_yticklabels(), caption):
            text.set_parse_math(False)  # names are text, also with a dollar sign
        if not rows:
            axes.text(0.5, 0.5, "nothing to compare", transform=axes.transAxes, ha="center", color=_SOFT)
        file = io.BytesIO()
        dates = {"pdf": {"CreationDate": None, "ModDate": None}, "svg": {"Date": None}}
        figure.savefig(file, format=kind, dpi=300, metadata=dates.get(kind))
    return file.getvalue()


def _label(comparison: Comparison, rows: Sequence[ComparisonRow]) -> str:
    """What the horizontal axis is, with the number of pairs."""
    counts = sorted({row.n for row in rows})
    pairs = f"n{_HARD}={_HARD}{counts[0] if counts else 0}" + (f" to {counts[-1]}" if len(counts) > 1 else "")
    better = f", {comparison.better} is better" if comparison.better else ""
    opponent = "its opponent" if any(row.against for row in rows) else _short(comparison.baseline)
    return f"{inline(comparison.metric)}: difference from {opponent}, 95{_HARD}% interval ({pairs}{better})"


def _short(name: str) -> str:
    name = inline(name)
    return name if len(name) <= 48 else f"{name[:47]}…"
