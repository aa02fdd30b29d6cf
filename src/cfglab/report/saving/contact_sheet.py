"""Grids of a run's images as one file: a contact sheet, or an animation of a sweep."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from cfglab.errors import InputError, is_memory_error
from cfglab.experiments.storage.arrays import ResultArrays
from cfglab.experiments.storage.png import open_image
from cfglab.experiments.storage.store import Store
from cfglab.limits import IMAGE_PIXELS
from cfglab.report.saving.selection import NONE, TILES, ImageGrid, Selection, Tile
from cfglab.terminal import inline

PIXELS = 120_000_000
"""Pixels of one sheet, and of all frames of an animation."""
SMALLEST, LARGEST = 128, 256
"""Without a size, smaller images are shown in whole multiples of their pixels, and larger ones reduced."""
_FONT, _GAP, _MARGIN = 13, 6, 16
_LABEL = 170  # the widest label of a row, in pixels
_PAPER, _INK, _SOFT, _EMPTY = "#ffffff", "#1c1d20", "#62656c", "#eceae5"


def sheet(
    store: Store,
    *,
    rows: str | None = None,
    columns: str | None = None,
    at: Mapping[str, str | float] | None = None,
    size: int | None = None,
    over: str | None = None,
    seconds: float | None = None,
) -> bytes:
    """Return a contact sheet as a PNG file.

    Args:
        store: the run.
        rows, columns: an axis, or "none"; None is what the report shows at first.
        at: axis -> the value at which it is fixed; others are fixed at their first value.
        size: the longest side of an image in pixels; None is about 128 to 256.
        over, seconds: of animations only.

    Raises:
        InputError: if the run has no such axis or value, or the sheet is too large.
    """
    if over is not None or seconds is not None:
        raise InputError("an axis over time, or seconds, is of an animation; name the file .gif or .webp.")
    selection = Selection(ResultArrays.read(store))
    pins = selection.pins(at or {})
    # an axis that is fixed, or that the other direction has, is no default
    first_rows, first_columns = selection.first_look(pins)
    columns = columns or _default(first_columns, (*pins, rows))
    rows = rows or _default(first_rows, (*pins, columns))
    grid = selection.grid(rows, columns, pins)
    title = store.experiment.title or store.experiment.name
    foot = " · ".join(filter(None, (title, grid.note)))
    picture = _Painter(store.folder, [grid], [foot], size).paint(grid, foot)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def animation(
    store: Store,
    kind: str,
    *,
    over: str | None = None,
    rows: str | None = None,
    columns: str | None = None,
    at: Mapping[str, str | float] | None = None,
    size: int | None = None,
    seconds: float | None = None,
) -> bytes:
    """Return an animation with a frame for each value of an axis, repeated without an end.

    Args:
        store: the run.
        kind: "gif" or "webp".
        over: the axis; None is the longest that the settings sweep.
        rows, columns: an axis, or "none", which is the default: one image.
        at: axis -> the value at which it is fixed.
        size: the longest side of an image in pixels; None is about 128 to 256.
        seconds: the time of a frame; None is 0.8.

    Raises:
        InputError: if the run has no such axis or value, the axis has one value, or the animation is too large.
    """
    seconds = 0.8 if seconds is None else seconds
    if not 0.02 <= seconds <= 60:
        raise InputError(f"seconds {seconds:g}: of a frame, from 0.02 to 60; write 0.8.")
    selection = Selection(ResultArrays.read(store))
    pins = selection.pins(at or {})
    over = over or selection.first_look(pins)[1]
    if over in pins or over in (rows, columns):
        raise InputError(f"axis {over!r}: is used twice; give the animation, rows and columns different axes.")
    grids = []
    for index in range(len(selection.values(over))):
        try:
            grids.append(selection.grid(rows or NONE, columns or NONE, {**pins, over: index}))
        except InputError:  # no setting has this value beside the fixed ones
            continue
    if len(grids) < 2:
        raise InputError(f"axis {over!r}: has fewer than two values with these choices; animate another.")
    painter = _Painter(store.folder, grids, [grid.note for grid in grids], size)
    frames = [painter.paint(grid, grid.note) for grid in grids]
    file = io.BytesIO()
    options: dict[str, Any] = {"quality": 90, "method": 4} if kind == "webp" else {"optimize": True, "disposal": 1}
    frames[0].save(
        file, kind.upper(), save_all=True, append_images=frames[1:], duration=round(1000 * seconds), loop=0, **options
    )
    return file.getvalue()


def _default(axis: str, taken: tuple[str | None, ...]) -> str:
    """The report's axis, or what is left where it is taken."""
    return next((name for name in (axis, "seed", "prompt") if name not in taken), NONE)


@dataclass(frozen=True)
class _Measures:
    """Where everything stands, in pixels."""

    left: int
    top: int
    tile: tuple[int, int]
    width: int
    height: int


class _Painter:
    """Paints grids of one run that all have the same size.

    Args:
        folder: the run folder.
        grids: all grids that will be painted.
        feet: the text below each.
        size: the longest side of an image in pixels, or None.
    """

    def __init__(self, folder: Path, grids: list[ImageGrid], feet: list[str], size: int | None) -> None:
        if size is not None and not 16 <= size <= 4096:
            raise InputError(f"size {size}: the longest side of an image in pixels, from 16 to 4096; write 256.")
        self._folder = folder
        count = sum(len(grid.rows) * len(grid.columns) for grid in grids)
        if count > TILES:
            raise InputError(f"{count:,} images: at most {TILES:,} fit; choose other rows and columns, or fix an axis.")
        native = self._native(grids)
        self._tile = _tile_size(native, size)
        self._smooth = self._tile[0] < native[0] or size is not None
        self._measures = self._measure(grids, feet)
        if self._measures.width * self._measures.height * len(grids) > PIXELS:
            raise InputError(
                f"{self._measures.width:,} x {self._measures.height:,} pixels in {len(grids)} frames: too large; "
                "choose a smaller size, or fix an axis."
            )

    def _native(self, grids: list[ImageGrid]) -> tuple[int, int]:
        """The size of the first image that can be read."""
        for grid in grids:
            for tile in (tile for line in grid.tiles for tile in line):
                if (image := self._read(tile)) is not None:
                    return image.size
        raise InputError(f"{self._folder}: none of these images is there; choose others, or continue the run.")

    def _read(self, tile: Tile) -> Image.Image | None:
        if tile.image is None:
            return None
        try:
            return open_image(self._folder / tile.image, IMAGE_PIXELS)
        except Exception as error:  # whatever a damaged file makes of its reader
            if is_memory_error(error):
                raise
            return None

    def _measure(self, grids: list[ImageGrid], feet: list[str]) -> _Measures:
        width, height = self._tile
        rows, columns = max(len(grid.rows) for grid in grids), max(len(grid.columns) for grid in grids)
        labels = [label for grid in grids for label in grid.rows if label]
        widest = max((_width(line) for label in labels for line in _wrapped(label, _LABEL, 6)), default=0)
        lines = max(len(_wrapped(label, width, 3)) for grid in grids for label in grid.columns)
        left = _MARGIN + (widest + 2 * _GAP if widest else 0)
        top = _MARGIN + (lines * (_FONT + 4) + _GAP if lines else 0)
        whole = max(left + columns * (width + _GAP) - _GAP + _MARGIN, 2 * _MARGIN + 160)
        foot = max(len(_wrapped(text, whole - 2 * _MARGIN, 4)) for text in feet)
        return _Measures(left, top, self._tile, whole, top + rows * (height + _GAP) + foot * (_FONT + 4) + _MARGIN)

    def paint(self, grid: ImageGrid, foot: str) -> Image.Image:
        """Return a grid with its labels as an image."""
        measures, (width, height) = self._measures, self._tile
        picture = Image.new("RGB", (measures.width, measures.height), _PAPER)
        draw = ImageDraw.Draw(picture)
        for column, label in enumerate(grid.columns):
            lines = _wrapped(label, width, 3)
            y = measures.top - _GAP - len(lines) * (_FONT + 4)
            _write(draw, (measures.left + column * (width + _GAP), y), lines, _INK)
        for row, label in enumerate(grid.rows):
            y = measures.top + row * (height + _GAP)
            _write(draw, (_MARGIN, y), _wrapped(label, _LABEL, max(1, height // (_FONT + 4))), _INK)
            for column, tile in enumerate(grid.tiles[row]):
                self._paint_tile(picture, draw, tile, (measures.left + column * (width + _GAP), y))
        y = measures.top + len(grid.rows) * (height + _GAP)
        _write(draw, (_MARGIN, y), _wrapped(foot, measures.width - 2 * _MARGIN, 4), _SOFT)
        return picture

    def _paint_tile(self, picture: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, corner: tuple[int, int]) -> None:
        image = self._read(tile)
        if image is None:
            x, y = corner
            if tile.image or tile.fault:
                draw.rectangle((x, y, x + self._tile[0] - 1, y + self._tile[1] - 1), fill=_EMPTY)
                _write(draw, (x + _GAP, y + _GAP), [tile.fault or "unreadable"], _SOFT)
            return
        if image.size != self._tile:
            way = Image.Resampling.LANCZOS if self._smooth else Image.Resampling.NEAREST
            image = image.resize(self._tile, way)
        picture.paste(image, corner)


def _tile_size(native: tuple[int, int], size: int | None) -> tuple[int, int]:
    """The size at which images are shown; small ones in whole multiples of their pixels."""
    longest = max(native)
    target = size or (LARGEST if longest > LARGEST else -(-SMALLEST // longest) * longest)
    width, height = (max(1, round(side * target / longest)) for side in native)
    return width, height


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings: Latin, Greek, Cyrillic and more."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), _FONT)


def _width(text: str) -> int:
    return round(_font().getlength(text))


def _wrapped(text: str, width: int, most: int) -> list[str]:
    """A text in lines that are at most `width` pixels wide; what does not fit is left out with an ellipsis."""
    lines: list[str] = []
    for word in inline(text[:2000]).split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and _width(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    fitting = [_cut(line, width) for line in lines[:most]]
    if len(lines) > most:
        fitting[-1] = _cut(f"{fitting[-1].rstrip('…')} …", width)
    return fitting


def _cut(line: str, width: int) -> str:
    if _width(line) <= width:
        return line
    while line and _width(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"


def _write(draw: ImageDraw.ImageDraw, corner: tuple[int, int], lines: list[str], colour: str) -> None:
    for number, line in enumerate(lines):
        draw.text((corner[0], corner[1] + number * (_FONT + 4)), line, font=_font(), fill=colour)
