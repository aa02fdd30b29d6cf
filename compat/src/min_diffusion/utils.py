"""The notebooks' plot helpers and device choice, by their published names and signatures."""

from collections.abc import Sequence
from textwrap import wrap

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from PIL.Image import Image

from cfglab.errors import InputError

__all__ = ["get_device", "image_grid", "maybe_add_batch_dim", "plot_grid", "show_image"]

TITLE_HEIGHT = 30  # pixels above each image
SOFT = "#767676"
"""The colour of text and axes: a grey that can be read on white and on the dark backgrounds of notebooks."""
CURVE = "#c4471c"
"""The colour of a curve, as in cfglab's own figures."""


def get_device() -> str:
    """The best device of this machine: `cuda`, `mps:0` or `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps:0" if torch.backends.mps.is_available() else "cpu"


def maybe_add_batch_dim(t: torch.Tensor) -> torch.Tensor:
    """Latents (channels, height, width) as a batch of one; every other tensor as it is."""
    return t.unsqueeze(0) if t.ndim == 3 else t


def show_image(image: Image, scale: float = 0.5, plot: bool = True) -> Image:
    """The image resized by `scale`; `plot` also draws it into a new figure."""
    small = image.resize((int(image.width * scale), int(image.height * scale)))
    if plot:
        plt.figure(facecolor="none")
        plt.imshow(small)
        plt.axis("off")
    return small


def image_grid(
    images: Sequence[Image],
    rows: int = 1,
    width: int = 256,
    height: int = 256,
    title: str | Sequence[str] | None = None,
) -> None:
    """Draw the images into a new figure of at least `rows` rows, each `width` by `height` pixels.

    `title` is one title an image, or one text that is numbered.
    """
    titles = ["\n".join(wrap(text, width=70)) for text in _titles(title, len(images))]
    size = _font_size(titles, width)
    for axes, image, text in zip(_grid(len(images), rows, width, height), images, titles, strict=True):
        axes.imshow(image)
        axes.set_title(text, fontsize=size, color=SOFT)
        axes.axis("off")


def plot_grid(
    scheds: Sequence[Sequence[float]],
    rows: int = 1,
    width: int = 256,
    height: int = 256,
    titles: str | Sequence[str] | None = None,
) -> None:
    """Draw the schedules into a new figure of at least `rows` rows, each curve `width` by `height` pixels.

    `titles` is one title a curve, or one text that is numbered.
    """
    texts = ["\n".join(wrap(text, width=30)) for text in _titles(titles, len(scheds))]
    size = _font_size(texts, width)
    for axes, schedule, text in zip(_grid(len(scheds), rows, width, height), scheds, texts, strict=True):
        axes.plot(schedule, color=CURVE, linewidth=1.8)
        axes.set_title(text, fontsize=size, color=SOFT)
        axes.set_xlabel("Diffusion Timesteps", color=SOFT)
        axes.set_ylabel("Guidance Parameter", color=SOFT)
        axes.tick_params(colors=SOFT)
        axes.grid(color=SOFT, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["bottom", "left"]].set_color(SOFT)
    plt.tight_layout()


def _titles(title: str | Sequence[str] | None, count: int) -> list[str]:
    if title is None or isinstance(title, str):
        return [f"{title or 'Frame'}: {index}" for index in range(count)]
    if len(title) != count:
        raise InputError(f"{len(title)} titles for {count} pictures: give one for each, or one text for all.")
    return list(title)


def _font_size(titles: Sequence[str], width: int) -> float:
    """Points for titles above images `width` pixels apart: x-large, or less where neighbours would run together."""
    longest = max((len(line) for text in titles for line in text.splitlines()), default=1)
    fits = 0.75 * width / (0.6 * longest)  # images leave a fifth of a figure empty; a letter is 0.6 of its height
    return float(min(1.44 * plt.rcParams["font.size"], max(6.0, fits * 72 / plt.rcParams["figure.dpi"])))


def _grid(count: int, rows: int, width: int, height: int) -> list[Axes]:
    """The first `count` axes of a new figure; the rest of the last row stays blank."""
    if count < 1 or rows < 1:
        raise InputError(f"{count} pictures in {rows} rows: a figure has 1 or more of each; give a list, and rows=1.")
    columns = max(1, count // rows)
    rows = -(-count // columns)
    pixel = 1 / plt.rcParams["figure.dpi"]
    size = (columns * width * pixel, rows * (height + TITLE_HEIGHT) * pixel)
    _, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, facecolor="none", subplot_kw={"facecolor": "none"}
    )
    for blank in axes.flat[count:]:
        blank.axis("off")
    return list(axes.flat[:count])
