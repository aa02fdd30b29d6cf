"""Distances between rows of features, a block at a time: 10,000 x 10,000 of them never stand in memory at once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import InputError

FloatArray = NDArray[np.float64]
BLOCK_BYTES = 64 * 2**20  # of one float64 block; a few live at a time


def as_features(features: Any, name: str, at_least: int = 1) -> FloatArray:
    """Return features as a float64 array (n, d).

    Args:
        features: an array (n, d), one row per image.
        name: what the features are of, for messages.
        at_least: the smallest n.

    Raises:
        InputError: if the shapes are wrong, there are too few rows, or a value is not finite.
    """
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(f"{name} features of shape {array.shape}: the shape must be (n, d), one row an image")
    if len(array) < at_least:
        raise InputError(f"{len(array)} {name} features: at least {at_least} are needed; sample more images")
    if not np.isfinite(array).all():
        raise InputError(f"{name} features hold values that are not finite; drop the images they come from")
    return array


def same_width(real: FloatArray, generated: FloatArray) -> None:
    """Check that two sets of features have the same number of dimensions.

    Args:
        real: (n, d).
        generated: (m, d).

    Raises:
        InputError: if the numbers of dimensions differ.
    """
    if real.shape[1] != generated.shape[1]:
        raise InputError(
            f"real features have {real.shape[1]} dimensions and generated ones {generated.shape[1]}: "
            "they must be equal; extract both with the same metric model"
        )


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices over rows such that a float64 block of them stays below BLOCK_BYTES.

    Args:
        rows: the number of rows to cover.
        columns: the number of columns of a block.
    """
    height = max(1, BLOCK_BYTES // (8 * max(1, columns)))
    for start in range(0, rows, height):
        yield slice(start, min(start + height, rows))


def squared_blocks(a: FloatArray, b: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
    """Yield squared Euclidean distances between the rows of a and all rows of b, block by block.

    Both sides are shifted by the mean of b first, which changes no distance and keeps |a|^2 + |b|^2 - 2ab accurate.

    Args:
        a: (n, d).
        b: (m, d).

    Yields:
        (slice of the rows of a, distances (rows, m)).
    """
    centre = b.mean(axis=0)
    a, b = a - centre, b - centre
    norms_a, norms_b = (a * a).sum(axis=1), (b * b).sum(axis=1)
    for rows in row_blocks(len(a), len(b)):
        block = a[rows] @ b.T
        block *= -2.0
        block += norms_a[rows, None]
        block += norms_b
        np.maximum(block, 0.0, out=block)
        yield rows, block


def squared_radii(features: FloatArray, k: int) -> FloatArray:
    """Return the squared distance of each row to its k-th nearest other row.

    Args:
        features: (n, d).
        k: from 1 to n - 1.

    Returns:
        (n,).

    Raises:
        InputError: if k is below 1, or there are k rows or fewer.
    """
    if not 1 <= k < len(features):
        raise InputError(f"k = {k} with {len(features)} images: k must be at least 1 and below the number of images")
    radii = np.empty(len(features))
    for rows, block in squared_blocks(features, features):
        block[np.arange(block.shape[0]), np.arange(rows.start, rows.stop)] = np.inf
        radii[rows] = np.partition(block, k - 1, axis=1)[:, k - 1]
    return radii
