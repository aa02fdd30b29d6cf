"""Reductions over one image at a time: (n, ...) in, (n, 1, ...) out. Called with float32 or float64. Loads torch."""

from torch import Tensor


def dot(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of every image."""
    return a.mul(b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))


def norm(a: Tensor) -> Tensor:
    """The L2 norm of every image."""
    return a.flatten(1).norm(dim=1).reshape(-1, *[1] * (a.ndim - 1))


def deviation(a: Tensor) -> Tensor:
    """The standard deviation of every image, over all its values (n - 1 in the denominator, as torch's)."""
    return a.flatten(1).std(dim=1).reshape(-1, *[1] * (a.ndim - 1))


def quantile(a: Tensor, q: float, keep: int = 1) -> Tensor:
    """The q-quantile of every image, or of every channel with `keep=2`; linear between values."""
    values = a.flatten(keep).sort(dim=keep).values
    at = q * (values.shape[keep] - 1)
    low = int(at)
    high = min(low + 1, values.shape[keep] - 1)
    found = values.select(keep, low).lerp(values.select(keep, high), at - low)
    return found.reshape(*a.shape[:keep], *[1] * (a.ndim - keep))


def over(a: Tensor, b: Tensor, otherwise: float = 1.0) -> Tensor:
    """a / b where b is above 0, `otherwise` elsewhere."""
    return (a / b.where(b > 0, 1.0)).where(b > 0, otherwise)
