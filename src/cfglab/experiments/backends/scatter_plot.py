"""Samples of a mixture as a small image: dots over the density of their class, in one dimension a histogram."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cfglab.mixtures.mixture import Mixture

Image = NDArray[np.float32]
PAPER, SHADE = np.array([1.0, 1.0, 1.0], np.float32), np.array([-0.25, -0.15, 0.0], np.float32)
DOT = np.array([-0.75, 0.1, 0.6], np.float32)
REACH = 3.0
"""Standard deviations of the class from its mean to the edge of the image."""


def class_density(mixture: "Mixture", size: int) -> Image:
    """Return the density of a class as an image.

    Args:
        mixture: the mixture of the class. With more than two dimensions the image has no density.
        size: pixels along a side.

    Returns:
        float32 (3, size, size) in [-1, 1].
    """
    import torch

    low, high = _frame(mixture)
    if mixture.dimension == 1:
        x = torch.linspace(float(low[0]), float(high[0]), size, dtype=torch.float64)
        heights = mixture.log_density(x[:, None]).exp().numpy()
        rows = np.arange(size)[::-1, None] / size * 1.25
        shade = (rows < heights / heights.max()).astype(np.float32)
    elif mixture.dimension == 2:
        x, y = (torch.linspace(float(a), float(b), size, dtype=torch.float64) for a, b in zip(low, high, strict=True))
        points = torch.stack(torch.meshgrid(x, y.flip(0), indexing="xy"), dim=2).reshape(-1, 2)
        density = mixture.log_density(points).exp().reshape(size, size).numpy()
        shade = (density / density.max()).astype(np.float32) ** 0.4
    else:
        shade = np.zeros((size, size), np.float32)
    return PAPER[:, None, None] + shade * (SHADE - PAPER)[:, None, None]


def scatter_plot(mixture: "Mixture", x: NDArray[np.float64], density: Image) -> Image:
    """Return the samples over the density of their class.

    Args:
        mixture: the mixture of the class.
        x: samples (n, d). The first two dimensions are shown; samples outside the image are shown at its edge.
        density: the image of `class_density`.

    Returns:
        float32 (3, size, size) in [-1, 1]; all NaN if a sample is not finite.
    """
    if not np.isfinite(x).all():
        return np.full_like(density, np.nan)
    size = density.shape[1]
    low, high = _frame(mixture)
    with np.errstate(over="ignore"):  # samples that are far away, which is the edge
        places = ((x[:, :2] - low[:2]) / (high[:2] - low[:2])).clip(-1, 2)
    pixels = (places * size).astype(int)
    image = density.copy()
    if x.shape[1] == 1:
        counts = np.bincount(pixels[:, 0].clip(0, size - 1) // 4, minlength=size // 4)
        heights = (counts / counts.max() * 0.8 * size).astype(int)
        for column, height in enumerate(heights):
            image[:, size - height :, 4 * column : 4 * column + 3] = DOT[:, None, None]
        return image
    for dx in (0, 1):
        for dy in (0, 1):
            column = (pixels[:, 0] + dx).clip(0, size - 1)
            image[:, (size - 1 - pixels[:, 1] + dy).clip(0, size - 1), column] = DOT[:, None]
    return image


def _frame(mixture: "Mixture") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean, covariance = (moment.numpy() for moment in mixture.moments())
    reach = REACH * np.sqrt(np.diagonal(covariance).max())
    return mean - reach, mean + reach
