"""Curves of schedules on their own: as a chart of Braille dots for a terminal, or as an image in a file."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.text import Text

from cfglab import svg
from cfglab.errors import InputError
from cfglab.experiments.storage.files import write_whole

FORMATS = (".png", ".svg", ".pdf", ".html")

COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red", "bright_white")
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # bit of a dot in its cell, by row and column
_EMPTY = 0x2800


def in_text(lines: Mapping[str, Sequence[float]], *, width: int = 80, height: int = 15) -> Text:
    """Every line over its steps, in one pair of axes, numbered at its end as in the legend below it. No matplotlib.

    `lines` maps a label to the scale at every step (w, no unit); `width` counts columns of text, axes included, and
    `height` rows of dots' cells. The vertical axis spans all values; a flat image gets a span of one.
    """
    values = [value for line in lines.values() for value in line]
    low, high = min(values), max(values)
    if high == low:
        low, high = low - 0.5, high + 0.5
    labels = [f"{high:.3g}", f"{(low + high) / 2:.3g}", f"{low:.3g}"]
    margin = max(map(len, labels)) + 1
    columns = max(16, width - margin - 2 - len(_ends(lines)))
    cells = [[_EMPTY] * columns for _ in range(height)]
    owner = [[-1] * columns for _ in range(height)]
    ends: dict[int, list[str]] = {}
    for number, line in enumerate(lines.values()):
        for x, y in _dots(line, columns * 2, height * 4, low, high):
            cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
            owner[y // 4][x // 2] = number
        ends.setdefault(_row(line[-1], height * 4, low, high) // 4, []).append(str(number + 1))
    chart = Text()
    for row in range(height):
        label = {0: labels[0], height // 2: labels[1], height - 1: labels[2]}.get(row, "")
        chart.append(f"{label:>{margin}}{'┤' if label else '│'}", style="dim")
        for code, number in zip(cells[row], owner[row], strict=True):
            chart.append(chr(code) if number >= 0 else " ", style=_colour(number))
        chart.append(" " + ",".join(ends.get(row, [])) if len(lines) > 1 else "").rstrip()
        chart.append("\n")
    count = max(map(len, lines.values()))
    last = f"step {count - 1}"
    chart.append(" " * margin + "└" + "─" * columns + "\n", style="dim")
    chart.append(" " * (margin + 1) + "0" + last.rjust(columns - 1) + "\n", style="dim")
    for number, label in enumerate(lines):
        chart.append(f"{number + 1:>{margin}} ", style=_colour(number))
        chart.append(label + "\n")
    return chart


def in_file(lines: Mapping[str, Sequence[float]], path: Path) -> Path:
    """Write the lines as an image with their labels as a legend.

    Args:
        lines: label -> the scale w at every step.
        path: a file that ends in .svg or .html (with colours for light and dark), .png or .pdf.

    Returns:
        The path.

    Raises:
        InputError: for another kind of file, or a folder that does not exist.
        MachineError: if the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: curves are saved as {', '.join(FORMATS)}; name the file so.")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it, or name another.")
    suffix = path.suffix.lower()
    if suffix in (".svg", ".html"):
        write_whole(path, (as_svg(lines) if suffix == ".svg" else _page(as_svg(lines))).encode())
        return path
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5 + 0.22 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for label, line in lines.items():
        axes.plot(range(len(line)), line, label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("w")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False)
    image = io.BytesIO()
    figure.savefig(image, format=suffix[1:], dpi=150)
    write_whole(path, image.getvalue())
    return path


def as_svg(lines: Mapping[str, Sequence[float]]) -> str:
    """Return the lines as an SVG document with colours for light and dark, their labels as a legend.

    Args:
        lines: label -> the scale w at every step.
    """
    curves = [svg.Line(values, label=" ".join(label.split()), width=2) for label, values in lines.items()]
    figure = svg.plot(
        "Scale w over the steps",
        description=f"{len(curves)} {'schedule' if len(curves) == 1 else 'schedules'}: "
        + "; ".join(f"{line.label}, w from {line.y[0]:.3g} to {line.y[-1]:.3g}" for line in curves),
        lines=curves,
        x=svg.Axis("step", whole=True, margin=0.015),
        y=svg.Axis("scale w"),
        labels="legend",
        width=640,
        height=340,
        font=13,
        styled=True,
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{figure}\n'


def _page(figure: str) -> str:
    """An HTML page that holds one figure."""
    element = figure.partition("\n")[2]
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Scale w over the steps</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        'content="light dark"><style>body{margin:1rem auto;max-width:60rem;background:#fbfaf7}'
        "@media(prefers-color-scheme:dark){body{background:#131416}}</style></head>\n"
        f"<body>\n{element}</body>\n</html>\n"
    )


def _ends(lines: Mapping[str, Sequence[float]]) -> str:
    return ",".join(str(number + 1) for number in range(len(lines))) if len(lines) > 1 else ""


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)] if number >= 0 else ""


def _row(value: float, rows: int, low: float, high: float) -> int:
    return round((high - value) / (high - low) * (rows - 1))


def _dots(line: Sequence[float], columns: int, rows: int, low: float, high: float) -> list[tuple[int, int]]:
    """Dots (x, y from the top) of a line through the values, without gaps where it is steep."""
    dots: list[tuple[int, int]] = []
    before: int | None = None
    for x in range(columns):
        position = x / (columns - 1) * (len(line) - 1)
        left = math.floor(position)
        right = min(left + 1, len(line) - 1)
        value = line[left] + (line[right] - line[left]) * (position - left)
        y = _row(value, rows, low, high)
        start = y if before is None else before
        dots += [(x, between) for between in range(min(start, y), max(start, y) + 1)]
        before = y
    return dots
