"""Exact metrics of samples of a mixture: densities, modes, distances."""

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cfglab.mixtures.toys import ToyProblem

if TYPE_CHECKING:
    from torch import Tensor

DIRECTIONS = 32
OUTSIDE = 0.01  # the share of exact samples that count as outliers
FIRST_SEED = 2**40  # seeds of exact samples, far from those of anybody's
GRID = 4001


class ExactMetrics:
    """Exact metrics of samples that were generated for one class of a toy problem.

    Args:
        toy: The toy problem.
        label: The class, from 0.

    Raises:
        InputError: There is no such class.
    """

    def __init__(self, toy: ToyProblem, label: int) -> None:
        self.full_toy, self.toy, self.label = toy, toy.of_class(label), label
        self.mean, self.covariance = self.toy.mixture.moments()

    def measure(self, x: "Tensor") -> dict[str, float]:
        """The metrics of one set of samples.

        Args:
            x: (n, d), float64.

        Returns:
            Each metric by its name in `metrics.registry`.
        """
        density = self.toy.mixture.log_density(x)
        shares = self.toy.shares(self.toy.mixture.components(x))
        true = self.toy.shares(self.toy.mixture.weights)
        outside = density < self.rare
        centred = x - x.mean(0)
        return {
            "log_density": density.mean().item(),
            "outliers": outside.double().mean().item(),
            "mode_distance": (shares.mean(0) - true).abs().sum().item() / 2,
            "modes_found": len(shares.argmax(1)[~outside].unique()) / len(true),
            "sliced_wasserstein": self._sliced(x.numpy()),
            "class_confidence": self.full_toy.mixture.posterior(x)[:, self.label].mean().item(),
            "spread": math.sqrt((centred**2).sum(1).mean().item() / self.covariance.trace().item()),
        }

    @cached_property
    def rare(self) -> "Tensor":
        """The log density below which a hundredth of exact samples lies."""
        exact = self.toy.mixture.sample(range(FIRST_SEED, FIRST_SEED + 10_000))
        return self.toy.mixture.log_density(exact).quantile(OUTSIDE)

    @cached_property
    def directions(self) -> NDArray[np.float64]:
        """Unit vectors, (directions, d): one on a line, evenly over a half circle, else drawn once."""
        size = self.toy.mixture.dimension
        if size == 1:
            return np.ones((1, 1))
        if size == 2:
            angles = np.arange(DIRECTIONS) * np.pi / DIRECTIONS
            return np.stack([np.cos(angles), np.sin(angles)], axis=1)
        vectors = np.random.default_rng(0).normal(size=(DIRECTIONS, size))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _sliced(self, x: NDArray[np.float64]) -> float:
        """W2 between the samples and the class itself, along each direction, as a root mean square over them."""
        probabilities = (np.arange(len(x)) + 0.5) / len(x)
        along = np.sort(x @ self.directions.T, axis=0)
        exact = np.stack([np.interp(probabilities, below, positions) for below, positions in self._quantiles], axis=1)
        return float(np.sqrt(((along - exact) ** 2).mean()))

    @cached_property
    def _quantiles(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Along each direction the distribution function of the class on a grid: (values, places)."""
        from scipy.special import ndtr

        mixture, quantiles = self.toy.mixture, []
        weights, means, full = mixture.weights.numpy(), mixture.means.numpy(), mixture.covariances.numpy()
        for direction in self.directions:
            middle = means @ direction
            variance = full if full.ndim == 1 else direction @ full @ direction
            wide = np.sqrt(variance)
            positions = np.linspace((middle - 8 * wide).min(), (middle + 8 * wide).max(), GRID)
            quantiles.append((ndtr((positions[:, None] - middle) / wide) @ weights, positions))
        return quantiles
