"""Line plots as SVG text, without any plotting library: curves, points with intervals, bands, legends and labels.

`plot` is a pure function: the same values give the same bytes. Colours are CSS variables (`--ink`, `--soft`, `--rule`,
`--accent`, `--paper`), so a figure follows the page that holds it. With `styled=True` the figure brings its own
variables for light and dark, and can stand alone: in a file, in a notebook, in another page.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

from cfglab.svg.scale import Axis, Scale

COLOURS = 8
"""Colours of lines that have none of their own, `--c0` to `--c7`; a ninth line starts again."""

_LIGHT = {
    **{"ink": "#1c1d20", "soft": "#62656c", "rule": "#e3e0d9", "accent": "#c4471c", "paper": "#fbfaf7"},
    **{"c0": "#2a6fb0", "c1": "#c4471c", "c2": "#23744a", "c3": "#8a4fae"},
    **{"c4": "#96690a", "c5": "#b8326f", "c6": "#1b7c86", "c7": "#5b5f68"},
}
_DARK = {
    **{"ink": "#ebeae6", "soft": "#a3a6ad", "rule": "#34373d", "accent": "#ff8d5f", "paper": "#131416"},
    **{"c0": "#7ab4f0", "c1": "#ff8d5f", "c2": "#74c79c", "c3": "#c79ae8"},
    **{"c4": "#e0b44c", "c5": "#f28ab8", "c6": "#5fc9d3", "c7": "#a9adb6"},
}
_DARK_HOSTS = ("[data-jp-theme-light=false]", ".vscode-dark", "[data-theme=dark]", "[data-md-color-scheme=slate]")
_LIGHT_HOSTS = ("[data-jp-theme-light=true]", ".vscode-light", "[data-theme=light]", "[data-md-color-scheme=default]")
_FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
_ASCENT = 0.36  # from the middle of a line of text to its baseline, in font sizes
_LETTER = 0.56  # the width of a letter, in font sizes

Shape = Literal["circle", "square", "up", "down", "plus", "cross", "diamond"]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve.

    Attributes:
        y: the values; None breaks the curve.
        x: the position of each value; None is 0, 1, 2, …
        label: the text of the legend or of the direct label.
        colour: a CSS colour, such as `var(--accent)`; empty takes the next of the eight default colours.
        width: the stroke width in SVG units.
        dashes: an SVG dash pattern such as "5 3"; empty is a solid line.
        key: written as `data-setting` on the group of class `curve`, for scripts.
        note_at: the index of the value where the label stands on the curve itself, in bold; None is nowhere.
    """

    y: Sequence[float | None]
    x: Sequence[float] | None = None
    label: str = ""
    colour: str = ""
    width: float = 1.6
    dashes: str = ""
    key: str = ""
    note_at: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """One point with an optional vertical interval from `low` to `high`."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    colour: str = "var(--accent)"
    shape: Shape = "circle"
    size: float = 4.0


@dataclass(frozen=True, slots=True)
class Level:
    """A dashed horizontal line at `y`, with an optional band from `low` to `high`."""

    y: float
    low: float | None = None
    high: float | None = None
    colour: str = "var(--accent)"


PLAIN = Axis()
"""An axis without a name, linear, with round ticks."""


def plot(
    title: str,
    *,
    description: str = "",
    lines: Sequence[Line] = (),
    marks: Sequence[Mark] = (),
    levels: Sequence[Level] = (),
    x: Axis = PLAIN,
    y: Axis = PLAIN,
    labels: Literal["none", "legend", "ends"] = "none",
    width: float = 374,
    height: float = 227,
    font: float = 10.5,
    styled: bool = False,
) -> str:
    """Return lines, marks and levels in one pair of axes, as an `svg` element.

    Args:
        title: the accessible name of the figure.
        description: one sentence for readers who do not see the figure.
        lines: the curves, drawn in this order.
        marks: points, drawn above the curves.
        levels: horizontal reference lines, drawn below the curves.
        x: the horizontal axis.
        y: the vertical axis.
        labels: "legend" lists the labels below the axes; "ends" writes each beside the last value of its curve.
        width: the width of the view box in SVG units, without a legend the whole figure.
        height: the height of the view box in SVG units; a legend adds to it.
        font: the font size in SVG units.
        styled: include colours for light and dark, and a background, for use outside the pages of cfglab.

    Returns:
        The SVG text. Every text that is passed in is escaped.

    Examples:
        >>> plot("w", lines=[Line([7.5, 4, 1], label="cosine")], labels="legend").startswith("<svg")
        True
    """
    lines = [line if line.colour else _coloured(line, index) for index, line in enumerate(lines)]
    frame = _Frame.around(lines, marks, levels, (x, y), (width, height), font, labels == "ends")
    legend, below = _legend(lines, width, height, font) if labels == "legend" else ([], 0.0)
    name = "plot-" + sha256(repr((title, description, lines, marks, levels, x, y)).encode()).hexdigest()[:12]
    described = f" {name}-about" if description else ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cfglab-plot" role="img" '
        f'viewBox="0 0 {_n(width)} {_n(height + below)}" font-size="{_n(font)}" aria-labelledby="{name}{described}">',
        f'<title id="{name}">{escape(title)}</title>',
        *([f'<desc id="{name}-about">{escape(description)}</desc>'] if description else []),
        *(_style() if styled else []),
        *frame.axes(x, y),
        *(part for level in levels for part in _level(level, frame)),
        *(part for line in lines for part in _curve(line, frame)),
        *(part for mark in marks for part in _mark(mark, frame)),
        *(_notes(lines, frame)),
        *(_ends(lines, frame) if labels == "ends" else []),
        *legend,
        "</svg>",
    ]
    return "\n".join(parts)


def path(points: Sequence[tuple[float, float] | None]) -> str:
    """Return the path data through points of SVG units, broken at None; a point alone becomes a dot."""
    parts: list[str] = []
    previous: tuple[float, float] | None = None
    for index, point in enumerate(points):
        if point is not None:
            parts.append(f"{'M' if previous is None else 'L'}{_n(point[0])} {_n(point[1])}")
            if previous is None and (index + 1 == len(points) or points[index + 1] is None):
                parts.append("h0")
        previous = point
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The rectangle of the axes and the scales inside it."""

    x: Scale
    y: Scale
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    font: float
    height: float

    @classmethod
    def around(
        cls,
        lines: Sequence[Line],
        marks: Sequence[Mark],
        levels: Sequence[Level],
        axes: tuple[Axis, Axis],
        size: tuple[float, float],
        font: float,
        ends: bool,
    ) -> "_Frame":
        (width, height), (x_axis, y_axis) = size, axes
        xs = [at for line in lines for at in _positions(line)] + [mark.x for mark in marks]
        ys = [value for line in lines for value in line.y if value is not None]
        spans = [(item.low, item.y, item.high) for item in marks] + [(item.low, item.y, item.high) for item in levels]
        ys += [value for span in spans for value in span if value is not None]
        top, bottom = 0.9 * font, height - (3.6 if x_axis.label else 1.9) * font
        y = Scale.of(ys, y_axis, bottom, top)
        y_ticks = [
            (value, _number(value)) for value in y.ticks(y_axis, min(8, max(2, int((bottom - top) / (2.1 * font)))))
        ]
        widest = max((len(text) for _, text in y_ticks), default=1)
        left = (0.9 + _LETTER * widest + (1.7 if y_axis.label else 0.0)) * font
        longest = max((len(line.label) for line in lines), default=0) if ends else 0
        right = width - (min(0.4 * width, (longest * _LETTER + 1.0) * font) if ends else 0.9 * font)
        x = Scale.of(xs, x_axis, left, right)
        count = min(9, max(2, int((right - left) / (3.3 * font))))
        return cls(x, y, [(value, _number(value)) for value in x.ticks(x_axis, count)], y_ticks, font, height)

    def axes(self, x: Axis, y: Axis) -> Iterator[str]:
        """The grid, the labels of the ticks, and the names of the axes."""
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        grid = [path([(self.x(value), bottom), (self.x(value), top)]) for value, _ in self.x_ticks]
        grid += [path([(left, self.y(value)), (right, self.y(value))]) for value, _ in self.y_ticks]
        yield f'<path class="plot-grid" style="fill: none; stroke: var(--rule); stroke-width: .7" d="{"".join(grid)}"/>'
        yield f'<path style="fill: none; stroke: var(--rule)" d="{path([(left, bottom), (right, bottom)])}"/>'
        yield '<g class="plot-ticks" style="fill: var(--soft)">'
        for value, text in self.x_ticks:
            yield _text(self.x(value), bottom + 1.4 * self.font, text, "middle")
        for value, text in self.y_ticks:
            yield _text(left - 0.55 * self.font, self.y(value) + _ASCENT * self.font, text, "end")
        yield '</g><g class="plot-names" style="fill: currentColor">'
        if x.label:
            yield _text((left + right) / 2, self.height - 0.5 * self.font, x.label, "middle")
        if y.label:
            yield _text(1.15 * self.font, (top + bottom) / 2, y.label, "middle", turned=True)
        yield "</g>"


def _style() -> list[str]:
    light, dark = (";".join(f"--{name}:{value}" for name, value in table.items()) for table in (_LIGHT, _DARK))
    hosts = (",".join(f"{host} .cfglab-plot" for host in names) for names in (_LIGHT_HOSTS, _DARK_HOSTS))
    light_hosts, dark_hosts = hosts
    return [
        f"<style>.cfglab-plot{{{light};color:var(--ink);font-family:{_FONT}}}"
        f"@media(prefers-color-scheme:dark){{.cfglab-plot{{{dark}}}}}"
        f"{light_hosts}{{{light}}}{dark_hosts}{{{dark}}}</style>",
        '<rect width="100%" height="100%" style="fill: var(--paper)"/>',
    ]


def _coloured(line: Line, index: int) -> Line:
    colour = f"var(--c{index % COLOURS})"
    return Line(line.y, line.x, line.label, colour, line.width, line.dashes, line.key, line.note_at)


def _positions(line: Line) -> Sequence[float]:
    return range(len(line.y)) if line.x is None else line.x


def _points(line: Line, frame: _Frame) -> list[tuple[float, float] | None]:
    pairs = zip(_positions(line), line.y, strict=True)
    return [None if value is None else (frame.x(at), frame.y(value)) for at, value in pairs]


def _curve(line: Line, frame: _Frame) -> Iterator[str]:
    key = f' class="curve" data-setting={quoteattr(line.key)}' if line.key else ""
    dashes = f"; stroke-dasharray: {line.dashes}" if line.dashes else ""
    style = f"fill: none; stroke: {line.colour}; stroke-width: {_n(line.width)}{dashes}"
    style += f"; stroke-linejoin: round; stroke-linecap: {'butt' if line.dashes else 'round'}"
    yield f"<g{key}><path style={quoteattr(style)} d={quoteattr(path(_points(line, frame)))}/></g>"


def _level(level: Level, frame: _Frame) -> Iterator[str]:
    left, right = frame.x.start, frame.x.end
    if level.low is not None and level.high is not None:
        top, bottom = frame.y(level.high), frame.y(level.low)
        yield (
            f'<rect x="{_n(left)}" y="{_n(top)}" width="{_n(right - left)}" height="{_n(bottom - top)}" '
            f"style={quoteattr(f'fill: {level.colour}; opacity: .1')}/>"
        )
    style = f"fill: none; stroke: {level.colour}; stroke-width: 1.6; stroke-dasharray: 5 3"
    yield f'<path style={quoteattr(style)} d="{path([(left, frame.y(level.y)), (right, frame.y(level.y))])}"/>'


def _mark(mark: Mark, frame: _Frame) -> Iterator[str]:
    at, r = frame.x(mark.x), mark.size
    if mark.low is not None and mark.high is not None:
        style = f"fill: none; stroke: {mark.colour}; stroke-width: 2.2; stroke-linecap: round"
        line = path([(at, frame.y(mark.low)), (at, frame.y(mark.high))])
        yield f'<path class="plot-interval" style={quoteattr(style)} d="{line}"/>'
    shapes: dict[Shape, str] = {
        "circle": f"M{_n(-r)} 0a{_n(r)} {_n(r)} 0 1 0 {_n(2 * r)} 0a{_n(r)} {_n(r)} 0 1 0 {_n(-2 * r)} 0Z",
        "square": f"M{_n(-r)} {_n(-r)}h{_n(2 * r)}v{_n(2 * r)}h{_n(-2 * r)}Z",
        "up": f"M0 {_n(-1.2 * r)}L{_n(1.2 * r)} {_n(r)}H{_n(-1.2 * r)}Z",
        "down": f"M0 {_n(1.2 * r)}L{_n(1.2 * r)} {_n(-r)}H{_n(-1.2 * r)}Z",
        "plus": "M-.4 -1.2h.8v.8h.8v.8h-.8v.8h-.8v-.8h-.8v-.8h.8Z",
        "cross": "M0 -.55L.6 -1.15L1.15 -.6L.55 0L1.15 .6L.6 1.15L0 .55L-.6 1.15L-1.15 .6L-.55 0L-1.15 -.6L-.6 -1.15Z",
        "diamond": f"M0 {_n(-1.4 * r)}L{_n(1.4 * r)} 0L0 {_n(1.4 * r)}L{_n(-1.4 * r)} 0Z",
    }
    scale = f" scale({_n(r)})" if mark.shape in ("plus", "cross") else ""
    look = f"fill: {mark.colour}; stroke: var(--paper); stroke-width: .8; vector-effect: non-scaling-stroke"
    where = f"translate({_n(at)} {_n(frame.y(mark.y))}){scale}"
    yield f'<path class="plot-point" transform="{where}" style={quoteattr(look)} d="{shapes[mark.shape]}"/>'


def _notes(lines: Sequence[Line], frame: _Frame) -> Iterator[str]:
    """The labels that stand on their curves, with a halo in the colour of the page."""
    for line in lines:
        if line.label and line.note_at is not None and (point := _points(line, frame)[line.note_at]):
            room = frame.x.end - len(line.label) * _LETTER * frame.font
            at = min(point[0] + 0.9 * frame.font, room)
            style = (
                "fill: currentColor; font-weight: bold; paint-order: stroke; stroke: var(--paper); stroke-width: 4px"
            )
            text = _text(at, point[1] - 0.7 * frame.font, line.label)
            yield f'<g class="plot-halo" style="{style}; stroke-linejoin: round">{text}</g>'


def _ends(lines: Sequence[Line], frame: _Frame) -> Iterator[str]:
    """Each label beside the last value of its curve, pushed apart where they would overlap."""
    heights = []
    for index, line in enumerate(lines):
        last = next((point for point in reversed(_points(line, frame)) if point), None)
        if line.label and last:
            heights.append((last[1], index))
    heights.sort()
    gap, places = 1.2 * frame.font, [height for height, _ in heights]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + gap)
    if places and places[-1] > frame.y.start:
        places[-1] = frame.y.start
        for index in range(len(places) - 2, -1, -1):
            places[index] = min(places[index], places[index + 1] - gap)
    for place, (_, index) in zip(places, heights, strict=True):
        line = lines[index]
        text = _text(frame.x.end + 0.5 * frame.font, place + _ASCENT * frame.font, line.label)
        yield f"<g style={quoteattr(f'fill: {line.colour}')}>{text}</g>"


def _legend(lines: Sequence[Line], width: float, top: float, font: float) -> tuple[list[str], float]:
    """The entries in rows below the axes, and the height that they need."""
    entries = [line for line in lines if line.label]
    parts, x, row = [], font, 0
    for line in entries:
        needed = (2.6 + _LETTER * len(line.label)) * font
        if x > font and x + needed > width - font:
            x, row = font, row + 1
        y = top + (1.0 + 1.5 * row) * font
        dashes = f"; stroke-dasharray: {line.dashes}" if line.dashes else ""
        style = f"fill: none; stroke: {line.colour}; stroke-width: {_n(line.width + 0.6)}{dashes}"
        letters = max(3, int((width - x - 3.2 * font) / (_LETTER * font)))
        text = line.label if len(line.label) <= letters else f"{line.label[: letters - 1]}…"
        parts.append(f'<path style={quoteattr(style)} d="{path([(x, y), (x + 1.5 * font, y)])}"/>')
        parts.append(_text(x + 2.1 * font, y + _ASCENT * font, text))
        x += needed + 0.8 * font
    group = f'<g class="plot-legend" style="fill: currentColor">{"".join(parts)}</g>'
    return ([group], (1.5 * row + 2.2) * font) if entries else ([], 0.0)


def _text(x: float, y: float, text: str, anchor: str = "start", *, turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {_n(x)} {_n(y)})"' if turned else ""
    side = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{_n(x)}" y="{_n(y)}"{side}{turn}>{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")


def _n(value: float) -> str:
    """A coordinate with two decimals, as short as it goes."""
    if not isfinite(value):
        raise ValueError(f"{value}: a plot needs finite values; leave the value out, or give None.")
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
