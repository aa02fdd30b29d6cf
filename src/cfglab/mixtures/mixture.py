"""Gaussian mixtures with class labels: a denoiser without error, at every noise level and in every space.

Where `x = a * x0 + n * epsilon` (a = alpha, n = alpha * sigma), a component N(m, C) of the data is N(a m, S) with
`S = a² C + n² I` there, so that with its share r of the density at x (Bayes)

    x0      = sum of r * (m + a C S^-1 (x - a m))       E[x0 | x]
    epsilon = sum of r * n S^-1 (x - a m)               E[epsilon | x] = -n * score

v and flow follow from these two. A class is a mixture too (`of_class`), and so is a worse model of the same data
(`blurred`): guidance between any two of them is guidance without a network's error.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.names import Space
from cfglab.mixtures.components import decomposed, float64, level, rows_of
from cfglab.mixtures.noise_paths import noise_of
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 2_000_000  # numbers held at once: rows × components × dimensions


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of k Gaussians in d dimensions, each with the number of its class; float64.

    Lists, arrays and tensors are read.

    Args:
        weights: (k,), above 0; they are divided by their sum.
        means: (k, d).
        covariances: One variance for all, (k,) variances of round components, or (k, d, d).
        labels: (k,), classes from 0 without a gap; None for one class.

    Raises:
        InputError: A shape does not fit, a weight is not above 0, or a covariance is not positive definite.

    Examples:
        >>> from cfglab.mixtures.mixture import Mixture
        >>> mixture = Mixture([1, 3], [[-1.0], [1.0]], 0.25, [0, 1])
        >>> mixture.priors.tolist()
        [0.25, 0.75]
    """

    weights: "Tensor"
    means: "Tensor"
    covariances: "Tensor"
    labels: "Tensor"
    _axes: "Tensor | None" = field(repr=False)
    _variances: "Tensor" = field(repr=False)

    def __init__(self, weights: Any, means: Any, covariances: Any, labels: Any = None) -> None:
        import torch

        weights, means, covariances = (float64(value) for value in (weights, means, covariances))
        if means.ndim != 2 or weights.shape != means.shape[:1] or not len(means):
            raise InputError(
                f"weights of shape {tuple(weights.shape)} and means of shape {tuple(means.shape)}: k components in d "
                "dimensions have (k,) and (k, d); give one of each a component."
            )
        if not bool((weights > 0).all() & weights.isfinite().all()):
            raise InputError(f"weights {weights.tolist()[:8]}: each is above 0; leave out a component without weight.")
        count, size = means.shape
        labels = torch.as_tensor([0] * count if labels is None else labels, dtype=torch.long)
        if labels.shape != weights.shape or set(labels.tolist()) != set(range(int(labels.max()) + 1)):
            raise InputError(
                f"labels {labels.tolist()[:8]}: each of the {count} components has one, and classes count from 0 "
                "without a gap; number them anew."
            )
        covariances = covariances.expand(count) if covariances.ndim == 0 else covariances
        axes, variances = decomposed(covariances, count, size)
        values = (weights / weights.sum(), means, covariances, labels, axes, variances)
        for name, value in zip(type(self).__dataclass_fields__, values, strict=True):
            object.__setattr__(self, name, value)

    @property
    def dimension(self) -> int:
        """The dimension d of the data."""
        return self.means.shape[1]

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.labels.max()) + 1

    @property
    def priors(self) -> "Tensor":
        """The probability of each class, (classes,)."""
        return self.weights.new_zeros(self.classes).index_add_(0, self.labels, self.weights)

    # -- other mixtures ----------------------------------------------------------------------------------------------

    def of_class(self, label: int) -> "Mixture":
        """The mixture of one class: the data, and its exact model, conditional on the class.

        Args:
            label: The class, from 0 to classes - 1.

        Returns:
            The mixture; it has one class.

        Raises:
            InputError: There is no such class.
        """
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < self.classes:
            raise InputError(
                f"class {label!r} of a mixture with {self.classes}: they are 0 to {self.classes - 1}; give one of them."
            )
        members = self.labels == label
        return Mixture(self.weights[members], self.means[members], self.covariances[members])

    def blurred(self, variance: float) -> "Mixture":
        """The mixture with a variance added to every component in every direction: a weaker model of the data.

        Args:
            variance: Finite, 0 or more.

        Returns:
            The mixture.

        Raises:
            InputError: The variance is negative or not finite.
        """
        import torch

        if not (math.isfinite(variance) and variance >= 0):
            raise InputError(f"blurred({variance!r}): a variance is added, 0 or more; give one such as 0.01.")
        noise_covariance = variance if self._axes is None else variance * torch.eye(self.dimension, dtype=torch.float64)
        return Mixture(self.weights, self.means, self.covariances + noise_covariance, self.labels)

    # -- what is known exactly ---------------------------------------------------------------------------------------

    def predict(self, x: "Tensor", step: Step, space: Space = "epsilon") -> "Tensor":
        """The exact prediction for x.

        Args:
            x: (n, ...), at the noise level of the step.
            step: Its sigma and alpha define the noise level; alpha 0 (pure noise) is allowed.
            space: The parameterization: "x0", "epsilon", "v", "flow" or "edm".

        Returns:
            A tensor of the shape and dtype of x.

        Raises:
            InputError: The step has no sigma or alpha, or the parameterization is unknown.
        """
        a, n = noise_of(step)
        x0, epsilon = self._expected(rows_of(x, self.dimension), a, n)
        values = {"x0": (0.0, 1.0), "epsilon": (1.0, 0.0), "v": (a, -n), "flow": (1.0, -1.0)}
        if 0 < n < 1 and a > 0:  # 2206.00364: x0 = c_skip (x0 + sigma epsilon) + c_out F, a = 1 / sqrt(d^2 + sigma^2)
            ad = math.sqrt(1 - n * n)
            values["edm"] = (-ad, n * a / ad)
        if space not in values:
            raise InputError(f"space {space!r}: a mixture predicts {', '.join(values)}; name one of them.")
        p, q = values[space]
        return (p * epsilon + q * x0).reshape(x.shape).to(x.dtype)

    def log_density(self, x: "Tensor", step: Step | None = None) -> "Tensor":
        """log p(x), of the data or of the noised data at a step.

        Args:
            x: Points, (n, ...), with d values each.
            step: The noise level; None for data without noise.

        Returns:
            (n,), in nats.

        Raises:
            InputError: The points have another dimension.
        """
        import torch

        return torch.cat([joint.logsumexp(1) for joint, _ in self._joint(rows_of(x, self.dimension), *level(step))])

    def components(self, x: "Tensor", step: Step | None = None) -> "Tensor":
        """p(component | x), of the data or of the noised data at a step.

        Args:
            x: Points, (n, ...), with d values each.
            step: The noise level; None for data without noise.

        Returns:
            (n, k), each row adds up to 1.

        Raises:
            InputError: The points have another dimension.
        """
        import torch

        return torch.cat([joint.softmax(1) for joint, _ in self._joint(rows_of(x, self.dimension), *level(step))])

    def posterior(self, x: "Tensor", step: Step | None = None) -> "Tensor":
        """p(class | x), of the data or of the noised data at a step.

        Args:
            x: Points, (n, ...), with d values each.
            step: The noise level; None for data without noise.

        Returns:
            (n, classes), each row adds up to 1.

        Raises:
            InputError: The points have another dimension.
        """
        shares = self.components(x, step)
        return shares.new_zeros(len(shares), self.classes).index_add_(1, self.labels, shares)

    def sample(self, seeds: Sequence[int]) -> "Tensor":
        """Exact samples of the data.

        Args:
            seeds: One per sample, 0 or more.

        Returns:
            (n, d), float64; a sample depends on its own seed only.

        Raises:
            InputError: A seed is not a whole number of 0 or more.
        """
        from cfglab.mixtures.noise_paths import random_numbers

        return self.sample_from(*random_numbers(seeds, 1, self.dimension))

    def sample_from(self, uniform: "Tensor", normal: "Tensor") -> "Tensor":
        """Exact samples of the data from given random numbers.

        Args:
            uniform: (n, 1), in [0, 1); it chooses the component.
            normal: (n, d), standard normal.

        Returns:
            (n, d).
        """
        import torch

        ends = self.weights.cumsum(0)
        component = torch.searchsorted(ends[:-1].contiguous(), uniform[:, 0].contiguous(), right=True)
        spread = normal * self._variances[component].sqrt()
        if self._axes is not None:
            spread = torch.einsum("nde,ne->nd", self._axes[component], spread)
        return self.means[component] + spread

    def moments(self) -> "tuple[Tensor, Tensor]":
        """The mean and the covariance of the data.

        Returns:
            (d,) and (d, d).
        """
        import torch

        mean = self.weights @ self.means
        centred = self.means - mean
        full = self.covariances
        if self._axes is None:
            full = full[:, None, None] * torch.eye(self.dimension, dtype=torch.float64)
        return mean, torch.einsum("k,kde->de", self.weights, full + centred[:, :, None] * centred[:, None, :])

    def _joint(self, x: "Tensor", a: float, n: float) -> "Iterator[tuple[Tensor, Tensor]]":
        """log p(x, component), (m, k), and S^-1 (x - a m) along the axes of S, (m, k, d), some rows at a time."""
        import torch

        variances = a**2 * self._variances + n**2
        scale = self.weights.log() - 0.5 * (self.dimension * math.log(2 * math.pi) + variances.log().sum(1))
        means = self.means if self._axes is None else torch.einsum("kd,kde->ke", self.means, self._axes)
        for part in x.split(max(1, CHUNK // self.means.numel())):
            difference = self._along(part) - a * means
            solved = difference / variances
            yield scale - 0.5 * ((difference * solved) @ x.new_ones(self.dimension)), solved

    def _along(self, x: "Tensor") -> "Tensor":
        """Points (m, d) along the axes of every component, (m, k, d), or (m, 1, d) where all have the same."""
        if self._axes is None:
            return x[:, None, :]
        return (x @ self._axes.movedim(1, 0).flatten(1)).reshape(len(x), *self.means.shape)

    def _back(self, parts: "Tensor") -> "Tensor":
        """The sum over components of vectors (m, k, d) along their axes, (m, d)."""
        if self._axes is None:
            return parts.sum(1)
        return parts.flatten(1) @ self._axes.mT.flatten(0, 1)

    def _expected(self, x: "Tensor", a: float, n: float) -> "tuple[Tensor, Tensor]":
        """E[x0 | x] and E[epsilon | x], both (n, d)."""
        import torch

        x0, epsilon = [], []
        for joint, solved in self._joint(x, a, n):
            shares = joint.softmax(1)
            weighted = solved.mul_(shares[:, :, None])
            x0.append(shares @ self.means + a * self._back(weighted * self._variances))
            epsilon.append(n * self._back(weighted))
        return torch.cat(x0), torch.cat(epsilon)
