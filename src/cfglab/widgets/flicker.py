"""Two images in one place, one after the other: small differences move, and the eye finds them."""

import io
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image

from cfglab.errors import InputError
from cfglab.svg import theme

FOLDER = Path(__file__).parent
FASTEST, SLOWEST = 200, 10_000
"""Milliseconds that each image is shown, at least and at most: three changes in a second and more are not safe."""


class Flicker(anywidget.AnyWidget):
    """Two images of one size in one place, which take turns in a notebook.

    A click or the space bar stops and starts them, the arrow keys and the labels choose one. A system that asks for
    reduced motion starts with the first image, at rest.

    Args:
        first: The first image: a PIL image, an array (height, width, 3) of uint8 or of floats in [0, 1], or the path of
            an image file.
        second: The second image, of the same size.
        labels: The labels of both.
        interval: Milliseconds for which each image is shown, 200 to 10,000.

    Attributes:
        shown: The image that is shown, 0 or 1.
        playing: Whether they take turns.
        interval: Milliseconds for which each is shown.
        labels: The labels of both.

    Raises:
        InputError: An image is none of these, the sizes differ, or `interval` is out of range.

    Examples:
        >>> import numpy as np
        >>> from cfglab import widgets
        >>> flicker = widgets.Flicker(np.zeros((8, 8, 3)), np.ones((8, 8, 3)), labels=("w = 3", "w = 7.5"))
        >>> flicker.shown, flicker.playing
        (0, True)
    """

    _esm = FOLDER / "flicker.js"
    _css = theme(".cfglab-flicker") + (FOLDER / "flicker.css").read_text(encoding="utf-8")

    first = traitlets.Bytes().tag(sync=True)
    second = traitlets.Bytes().tag(sync=True)
    width = traitlets.Int().tag(sync=True)
    labels = traitlets.List(trait=traitlets.Unicode(), minlen=2, maxlen=2).tag(sync=True)
    interval = traitlets.Int(700, min=FASTEST, max=SLOWEST).tag(sync=True)
    playing = traitlets.Bool(True).tag(sync=True)
    shown = traitlets.Int(0, min=0, max=1).tag(sync=True)

    def __init__(
        self, first: Any, second: Any, labels: tuple[str, str] = ("first", "second"), interval: int = 700
    ) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or not FASTEST <= interval <= SLOWEST:
            raise InputError(f"interval {interval!r}: milliseconds, {FASTEST} to {SLOWEST}; write 700.")
        names = [str(label) for label in labels]
        if isinstance(labels, str) or len(names) != 2:
            raise InputError(f"labels {labels!r}: each image has one; write ('w = 3', 'w = 7.5').")
        images = [_image(value) for value in (first, second)]
        if images[0].size != images[1].size:
            sizes = " and ".join(f"{width} × {height}" for width, height in (image.size for image in images))
            raise InputError(f"images of {sizes} pixels: both lie in one place; resize one of them.")
        pngs = [_png(image) for image in images]
        super().__init__(first=pngs[0], second=pngs[1], width=images[0].width, labels=names, interval=interval)


def _image(value: Any) -> Image.Image:
    if isinstance(value, Image.Image):
        return value.convert("RGB")
    if isinstance(value, str | Path):
        try:
            with Image.open(value) as image:
                return image.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError):
            raise InputError(f"{str(value)[:200]}: this is no image file that can be read; give another.") from None
    array = np.asarray(value)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype.kind not in "uif" or 0 in array.shape:
        raise InputError(
            f"an image of shape {array.shape} and dtype {array.dtype}: give a PIL image, a path, or an array (height, "
            "width, 3) of uint8 or of floats in [0, 1]."
        )
    if array.dtype.kind == "f":
        array = np.nan_to_num(array, nan=0.0).clip(0, 1) * 255 + 0.5
    return Image.fromarray(array.clip(0, 255).astype(np.uint8), "RGB")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
