"""Reductions over one image at a time: (n, ...) in, (n, 1, ...) out. Called with float32 or float64. Loads torch."""

from collections.abc import Callable

from torch import Tensor


def dot(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of every image.

    Args:
        a: (n, ...), float32 or float64.
        b: The same shape.

    Returns:
        (n, 1, ...).
    """
    return a.mul(b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))


def norm(a: Tensor) -> Tensor:
    """The L2 norm of every image.

    Args:
        a: (n, ...), float32 or float64.

    Returns:
        (n, 1, ...).
    """
    return a.flatten(1).norm(dim=1).reshape(-1, *[1] * (a.ndim - 1))


def std(a: Tensor) -> Tensor:
    """The standard deviation of every image, over all its values (n - 1 in the denominator, as torch's).

    Args:
        a: (n, ...), float32 or float64.

    Returns:
        (n, 1, ...).
    """
    return flat_std(a).reshape(-1, *[1] * (a.ndim - 1))


def flat_std(a: Tensor, keep: int = 1) -> Tensor:
    """The standard deviation of every image or channel, without the trailing dimensions of `deviation`.

    Computed in two passes: on a CPU, torch's own single pass takes nine times as long.

    Args:
        a: (n, ...), float32 or float64.
        keep: 1 for every image, 2 for every channel.

    Returns:
        (n,), or (n, channels) with `keep=2`.
    """
    values = a.flatten(keep)
    centred = values - values.mean(dim=keep, keepdim=True)
    return centred.norm(dim=keep) / (values.shape[keep] - 1) ** 0.5


def channel_dot(a: Tensor, b: Tensor, dim: int = 1) -> Tensor:
    """<a, b> at every position, over the channels.

    Args:
        a: (n, channels, ...), or another layout with its `dim`; float32 or float64.
        b: The same shape.
        dim: The dimension of the channels, as `StepContext.channel_dim` has it.

    Returns:
        The same shape, with 1 for the channels.
    """
    return a.mul(b).sum(dim, keepdim=True)


def channel_norm(a: Tensor, dim: int = 1) -> Tensor:
    """The L2 norm at every position, over the channels.

    Args:
        a: (n, channels, ...), or another layout with its `dim`; float32 or float64.
        dim: The dimension of the channels, as `StepContext.channel_dim` has it.

    Returns:
        The same shape, with 1 for the channels.
    """
    return channel_dot(a, a, dim).sqrt()


def position_dot(a: Tensor, b: Tensor, dim: int = 1) -> Tensor:
    """<a, b> of every channel, over the positions.

    Args:
        a: (n, channels, ...), or another layout with its `dim`; float32 or float64.
        b: The same shape.
        dim: The dimension of the channels, as `StepContext.channel_dim` has it.

    Returns:
        The same shape, with 1 for every dimension but the images and the channels.
    """
    return a.mul(b).sum([other for other in range(1, a.ndim) if other != dim % a.ndim], keepdim=True)


def along(a: Tensor, b: Tensor, product: Callable[[Tensor, Tensor], Tensor] = dot) -> Tensor:
    """The part of a that is parallel to b; 0 where b is 0.

    Args:
        a: (n, ...), float32 or float64.
        b: The same shape.
        product: `dot` for one part an image, `channel_dot` for one at every position, `position_dot` for one of every
            channel.

    Returns:
        A tensor of the same shape.
    """
    return b * safe_divide(product(a, b), product(b, b), 0.0)


def quantile(a: Tensor, q: float, keep: int = 1) -> Tensor:
    """The q-quantile of every image or channel; linear between values.

    Args:
        a: (n, ...), float32 or float64.
        q: The share of the values, 0 to 1.
        keep: 1 for every image, 2 for every channel.

    Returns:
        (n, 1, ...), or (n, channels, 1, ...) with `keep=2`.
    """
    values = a.flatten(keep)
    count = values.shape[keep]
    position = q * (count - 1)
    below = int(position)
    largest = values.topk(count - below, dim=keep).values  # few where q is near 1, as it is in use
    value = largest.select(keep, -1).lerp(largest.select(keep, max(count - below - 2, 0)), position - below)
    return value.reshape(*a.shape[:keep], *[1] * (a.ndim - keep))


def safe_divide(a: Tensor, b: Tensor, otherwise: float = 1.0) -> Tensor:
    """a / b where b is above 0, `otherwise` elsewhere.

    Args:
        a: The numerator, any shape.
        b: The denominator, a shape that broadcasts with `a`.
        otherwise: The value where b is 0 or less.

    Returns:
        The quotient, of the broadcast shape.
    """
    return (a / b.where(b > 0, 1.0)).where(b > 0, otherwise)
