"""How a mixture's components and points are given: read as float64 and checked."""

from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.mixtures.noise_paths import noise_of
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


def decomposed(covariances: "Tensor", count: int, size: int) -> "tuple[Tensor | None, Tensor]":
    """The eigendecomposition of covariances.

    Args:
        covariances: (k,) variances of round components, or symmetric (k, d, d).
        count: k, the number of components.
        size: d, the dimension.

    Returns:
        The axes, (k, d, d), None for round components; and the variances along them, (k, d). Both float64.

    Raises:
        InputError: The shape does not fit, or a variance is not above 0.
    """
    import torch

    if covariances.shape == (count,):
        axes, variances = None, covariances[:, None].expand(count, size)
    elif covariances.shape == (count, size, size) and torch.allclose(covariances, covariances.mT):
        variances, axes = torch.linalg.eigh(covariances)
    else:
        raise InputError(
            f"covariances of shape {tuple(covariances.shape)}: {count} components in {size} dimensions have one "
            f"variance, {count} of them, or symmetric ({count}, {size}, {size}); give one of these."
        )
    if not bool((variances > 0).all() & variances.isfinite().all()):
        raise InputError("a covariance without spread in some direction: variances are above 0; add a little, 1e-6.")
    return axes, variances


def float64(value: Any) -> "Tensor":
    """A list, array or tensor as a tensor.

    Args:
        value: Numbers.

    Returns:
        A float64 tensor.
    """
    import torch

    return torch.as_tensor(value, dtype=torch.float64)


def rows_of(x: "Tensor", size: int) -> "Tensor":
    """Points as rows.

    Args:
        x: (n, ...).
        size: d, the number of values of a point.

    Returns:
        (n, d), float64.

    Raises:
        InputError: A point has another number of values.
    """
    rows = x.reshape(len(x), -1).double()
    if rows.shape[1] != size:
        raise InputError(f"points of {rows.shape[1]} numbers for a mixture in {size} dimensions: give (n, {size}).")
    return rows


def level(step: Step | None) -> tuple[float, float]:
    """The factors of signal and noise of a step.

    Args:
        step: The step; None for data without noise.

    Returns:
        (a, n) of `x = a x0 + n epsilon`.
    """
    return (1.0, 0.0) if step is None else noise_of(step)
