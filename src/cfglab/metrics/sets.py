"""One number for a set of images, from feature arrays (n, d), one row an image. In float64, exact, no subsets.

All but KID depend on how many images there are: compare settings at the same N, against the same real features,
beside a real-against-real floor of that N.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfglab.metrics.distances import as_features, row_blocks, same_width, squared_blocks, squared_radii

FloatArray = NDArray[np.float64]
K = 5


def kid(real: Any, generated: Any) -> float:
    """Return the kernel inception distance: the unbiased squared MMD with the kernel (x.y / d + 1)^3.

    All rows are used instead of subsets, and the value is not scaled by 1000. Its mean is 0 for two samples of one
    distribution, so it may be negative.

    Args:
        real: features (n, d), n at least 2.
        generated: features (m, d), m at least 2.

    Raises:
        InputError: if the shapes are wrong, there are too few rows, or a value is not finite.

    Reference:
        Binkowski et al., arXiv 1801.01401.
    """
    real, generated = as_features(real, "real", 2), as_features(generated, "generated", 2)
    same_width(real, generated)
    return (
        kernel_self_mean(real)
        + kernel_self_mean(generated)
        - 2.0 * float(kernel_sums(generated, real).sum()) / (len(real) * len(generated))
    )


def kernel_block(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the kernel of KID, (x.y / d + 1)^3, between the rows of a (n, d) and of b (m, d), as (n, m)."""
    block = a @ b.T
    block /= a.shape[1]
    block += 1.0
    return block * block * block  # `block**3` calls pow for each number, ten times slower


def kernel_sums(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the sum of the kernel over all rows of b (m, d) for each row of a (n, d), as (n,)."""
    return np.concatenate([kernel_block(a[rows], b).sum(axis=1) for rows in row_blocks(len(a), len(b))])


def kernel_diagonal(a: FloatArray) -> FloatArray:
    """The kernel of each row with itself, (len(a),)."""
    return ((a * a).sum(axis=1) / a.shape[1] + 1.0) ** 3


def kernel_self_mean(a: FloatArray) -> float:
    """The kernel's mean over all pairs of two different rows."""
    return float(kernel_sums(a, a).sum() - kernel_diagonal(a).sum()) / (len(a) * (len(a) - 1))


def fid(real: Any, generated: Any) -> float:
    """Return the Fréchet distance between Gaussians that are fitted to the two sides.

    Covariances divide by n - 1. The value is biased upwards by an amount that depends on n and on the setting
    (arXiv 1911.07023): use at most 64 dimensions, the same n everywhere, and state n beside the number.

    Args:
        real: features (n, d), n at least 2.
        generated: features (m, d), m at least 2.

    Raises:
        InputError: if the shapes are wrong, there are too few rows, or a value is not finite.

    Reference:
        Heusel et al., arXiv 1706.08500, Eq. 6.
    """
    real, generated = as_features(real, "real", 2), as_features(generated, "generated", 2)
    same_width(real, generated)
    return frechet(real.mean(axis=0), covariance(real), generated.mean(axis=0), covariance(generated))


def covariance(features: FloatArray) -> FloatArray:
    """Return the covariance (d, d) of features (n, d), divided by n - 1."""
    return np.atleast_2d(np.cov(features, rowvar=False))


def frechet(mean_a: FloatArray, cov_a: FloatArray, mean_b: FloatArray, cov_b: FloatArray) -> float:
    """Return the squared Frechet distance of two Gaussians, by two symmetric eigendecompositions.

    The value is |m_a - m_b|^2 + tr(A + B - 2 (A^(1/2) B A^(1/2))^(1/2)). It is real and not negative, also for singular
    covariances (fewer images than dimensions).

    Args:
        mean_a: (d,).
        cov_a: (d, d).
        mean_b: (d,).
        cov_b: (d, d).
    """
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0.0)).sum()
    gap = mean_a - mean_b
    return max(0.0, float(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2.0 * overlap))


def precision_recall(real: Any, generated: Any, k: int = K) -> tuple[float, float]:
    """Return (precision, recall), both in [0, 1].

    Precision is the share of generated images inside the manifold of the real images; recall is the share of real
    images inside the manifold of the generated images. A manifold is the union of balls around its rows; the radius is
    the distance to the k-th nearest other row.

    Args:
        real: features (n, d).
        generated: features (m, d).
        k: the neighbor that sets the radius, 1 or more.

    Raises:
        InputError: if the shapes are wrong, a side has k rows or fewer, or a value is not finite.

    Reference:
        Kynkäänniemi et al., arXiv 1904.06991, Eq. 1.
    """
    real, generated = as_features(real, "real"), as_features(generated, "generated")
    same_width(real, generated)
    radii_real, radii_generated = squared_radii(real, k), squared_radii(generated, k)
    precise = np.zeros(len(generated), dtype=bool)
    recalled = np.zeros(len(real), dtype=bool)
    for rows, block in squared_blocks(real, generated):
        precise |= (block <= radii_real[rows, None]).any(axis=0)
        recalled[rows] = (block <= radii_generated).any(axis=1)
    return float(precise.mean()), float(recalled.mean())


def density_coverage(real: Any, generated: Any, k: int = K) -> tuple[float, float]:
    """Return (density, coverage).

    Density is the number of real balls per generated image divided by k (1 for real against real, no upper limit).
    Coverage is the share of real balls that hold a generated image, in [0, 1]. Only balls around real images are used,
    so an isolated generated image cannot raise the values.

    Args:
        real: features (n, d).
        generated: features (m, d).
        k: the neighbor that sets the radius, 1 or more.

    Raises:
        InputError: if the shapes are wrong, there are k real rows or fewer, or a value is not finite.

    Reference:
        Naeem et al., arXiv 2002.09797, Eq. 4 and 5.
    """
    real, generated = as_features(real, "real"), as_features(generated, "generated")
    same_width(real, generated)
    radii = squared_radii(real, k)
    balls = 0
    covered = np.zeros(len(real), dtype=bool)
    for rows, block in squared_blocks(real, generated):
        inside = block <= radii[rows, None]
        balls += int(inside.sum())
        covered[rows] = inside.any(axis=1)
    return balls / (k * len(generated)), float(covered.mean())


def vendi(features: Any) -> float:
    """Return the effective number of different images, from 1 to n, with the cosine kernel.

    The value is exp of the Shannon entropy of the eigenvalues of K / n, where K holds the cosines between rows. All
    rows of zeros count together as one more direction, orthogonal to every other.

    Args:
        features: (n, d).

    Raises:
        InputError: if the shape is wrong, there is no row, or a value is not finite.

    Reference:
        Friedman and Dieng, arXiv 2210.02410, Eq. 3.
    """
    rows = as_features(features, "generated")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.hstack([np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0), norms == 0])
    gram = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    weights = np.linalg.eigvalsh(gram / len(unit))
    weights = weights[weights > 1e-15]
    return float(np.exp(-(weights * np.log(weights)).sum()))


def mean_pairwise_distance(features: Any) -> float:
    """Return the mean Euclidean distance over all pairs of different rows, in feature units.

    Args:
        features: (n, d), n at least 2.

    Raises:
        InputError: if the shape is wrong, there are fewer than two rows, or a value is not finite.
    """
    rows = as_features(features, "generated", 2)
    total = 0.0
    for part, block in squared_blocks(rows, rows):
        block[np.arange(block.shape[0]), np.arange(part.start, part.stop)] = 0.0
        total += float(np.sqrt(block).sum())
    return total / (len(rows) * (len(rows) - 1))
