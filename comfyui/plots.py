"""Curves as IMAGE of ComfyUI, (1, h, w, 3), 0 to 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Panel = tuple[str, Sequence[float], str, dict[str, list[float]]]
"""The label of x, the values of x, the label of y, and the lines by name."""


def plot(*panels: Panel, title: str = "") -> Tensor:
    """One image of panels side by side.

    Args:
        panels: The panels.
        title: A line above them.

    Returns:
        The image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.12 * len(panels), 3.2), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=10)
    for axes, (x_label, x, y_label, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        _draw(axes, x_label, x, y_label, lines)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None]


def _draw(axes: Any, x_label: str, x: Sequence[float], y_label: str, lines: dict[str, list[float]]) -> None:
    for name, y in lines.items():
        axes.plot(x[: len(y)], y, marker="o", markersize=3, label=name)
    axes.set(xlabel=x_label, ylabel=y_label)
    if x_label.startswith("sigma"):
        axes.set_xscale("symlog", linthresh=max(min((value for value in x if value > 0), default=1.0), 1e-3))
        axes.invert_xaxis()
    if y_label.startswith("rows"):
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend(fontsize=8)
