"""A Laplacian pyramid of the last two dimensions: what is lost in halving, level by level. Loads torch.

Of our own construction: halving blurs with the binomial weights 1, 4, 6, 4, 1 over 16 (edges repeated) and keeps every
second row and column; doubling repeats rows and columns and blurs. A level is a picture minus its halved, doubled
self, so the levels added up give the picture back whatever the filters are, at any size.
"""

import torch
from torch import Tensor
from torch.nn import functional


def levels(picture: Tensor, count: int) -> list[Tensor]:
    """`count` tensors of the picture's shape (..., h, w) that add up to it, the finest first."""
    shape = picture.shape
    coarse = picture.reshape(-1, 1, *shape[-2:])
    fine = []
    sizes = []
    for _ in range(count - 1):
        sizes.append(coarse.shape[-2:])
        halved = _blur(coarse)[..., ::2, ::2]
        fine.append(coarse - _doubled(halved, *coarse.shape[-2:]))
        coarse = halved
    parts = [*fine, coarse]
    return [_grown(part, sizes[:index]).reshape(shape) for index, part in enumerate(parts)]


def _grown(part: Tensor, sizes: list[torch.Size]) -> Tensor:
    """A level at the size of the picture."""
    for size in reversed(sizes):
        part = _doubled(part, *size)
    return part


def _doubled(picture: Tensor, height: int, width: int) -> Tensor:
    return _blur(picture.repeat_interleave(2, -2).repeat_interleave(2, -1)[..., :height, :width])


def _blur(picture: Tensor) -> Tensor:
    blurred = functional.pad(picture, (2, 2, 2, 2), mode="replicate")
    for dim in (-2, -1):
        a, b, c, d, e = (blurred.narrow(dim, start, picture.shape[dim]) for start in range(5))
        blurred = ((a + e) + 4 * (b + d) + 6 * c) / 16
    return blurred
