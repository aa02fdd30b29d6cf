"""Samples as a small image: dots over the density of their class. On a line a histogram under its density."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cfglab.mixtures.mixture import Mixture

Picture = NDArray[np.float32]
PAPER, SHADE = np.array([1.0, 1.0, 1.0], np.float32), np.array([-0.25, -0.15, 0.0], np.float32)
DOT = np.array([-0.75, 0.1, 0.6], np.float32)
REACH = 3.0  # standard deviations of the class, from its middle to the image's edge


def background(one: "Mixture", size: int) -> Picture:
    """The density of a class: (3, size, size) in [-1, 1]. More dimensions show their first two, without a density."""
    import torch

    low, high = _frame(one)
    if one.dimension == 1:
        across = torch.linspace(float(low[0]), float(high[0]), size, dtype=torch.float64)
        heights = one.log_density(across[:, None]).exp().numpy()
        rows = np.arange(size)[::-1, None] / size * 1.25
        shade = (rows < heights / heights.max()).astype(np.float32)
    elif one.dimension == 2:
        x, y = (torch.linspace(float(a), float(b), size, dtype=torch.float64) for a, b in zip(low, high, strict=True))
        points = torch.stack(torch.meshgrid(x, y.flip(0), indexing="xy"), dim=2).reshape(-1, 2)
        density = one.log_density(points).exp().reshape(size, size).numpy()
        shade = (density / density.max()).astype(np.float32) ** 0.4
    else:
        shade = np.zeros((size, size), np.float32)
    return PAPER[:, None, None] + shade * (SHADE - PAPER)[:, None, None]


def scattered(one: "Mixture", x: NDArray[np.float64], under: Picture) -> Picture:
    """The samples (n, d) over their class's background, beyond it at its edge; all NaN where one is not finite."""
    if not np.isfinite(x).all():
        return np.full_like(under, np.nan)
    size = under.shape[1]
    low, high = _frame(one)
    places = ((x[:, :2] - low[:2]) / (high[:2] - low[:2]) * size).astype(int)
    picture = under.copy()
    if x.shape[1] == 1:
        counts = np.bincount(places[:, 0].clip(0, size - 1) // 4, minlength=size // 4)
        tops = (counts / counts.max() * 0.8 * size).astype(int)
        for column, top in enumerate(tops):
            picture[:, size - top :, 4 * column : 4 * column + 3] = DOT[:, None, None]
        return picture
    for dx in (0, 1):
        for dy in (0, 1):
            column = (places[:, 0] + dx).clip(0, size - 1)
            picture[:, (size - 1 - places[:, 1] + dy).clip(0, size - 1), column] = DOT[:, None]
    return picture


def _frame(one: "Mixture") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean, covariance = (moment.numpy() for moment in one.moments())
    reach = REACH * np.sqrt(np.diagonal(covariance).max())
    return mean - reach, mean + reach
