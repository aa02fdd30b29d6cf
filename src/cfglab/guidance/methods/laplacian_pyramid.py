"""Laplacian pyramids over the last two dimensions. Loads torch.

A level is an image minus its halved and doubled self, so the levels add up to the image for any filters.

"paper" is the pyramid of the FDG paper's code, which is kornia's: binomial weights 1, 4, 6, 4, 1 over 16 with reflected
borders. Halving blurs and takes the mean of 2 x 2 positions; doubling interpolates linearly and blurs. An odd size is
extended by one reflected position before it is halved, and cut again after it is doubled. kornia extends both sides to
powers of two where neither is one, so the paper's code returns another size there.

"nearest" is that of cfglab 0.1: repeated borders, halving keeps every second position, doubling repeats positions."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cfglab.errors import InputError

Pyramid = Literal["paper", "nearest"]


def check_spatial(kind: str, tensor: Tensor) -> None:
    """Check that predictions have height and width.

    Args:
        kind: The name of the transform, for the message.
        tensor: The prediction, (n, channels, ..., h, w).

    Raises:
        InputError: It has less than four dimensions.
    """
    if tensor.ndim < 4:
        raise InputError(
            f"{kind} on predictions of shape {tuple(tensor.shape)}: it needs height and width, (n, channels, ..., "
            "h, w); leave it out for a model that packs its images into tokens."
        )


def levels(image: Tensor, count: int, pyramid: Pyramid = "paper") -> list[Tensor]:
    """The Laplacian pyramid of an image, every level at the size of the image.

    Args:
        image: (..., h, w), a floating dtype that torch can interpolate in.
        count: how many levels, the finest first; 1 is the image itself.
        pyramid: the filters, see the module.

    Returns:
        `count` tensors of the shape of the image that add up to it.
    """
    shape = image.shape
    coarse = image.reshape(-1, 1, *shape[-2:])
    fine = []
    sizes = []
    for _ in range(count - 1):
        sizes.append(coarse.shape[-2:])
        halved = _halved(coarse, pyramid)
        fine.append(coarse - _doubled(halved, coarse.shape[-2:], pyramid))
        coarse = halved
    parts = [*fine, coarse]
    return [_grown(part, sizes[:index], pyramid).reshape(shape) for index, part in enumerate(parts)]


def _grown(part: Tensor, sizes: list[torch.Size], pyramid: Pyramid) -> Tensor:
    """A level at the size of the image."""
    for size in reversed(sizes):
        part = _doubled(part, size, pyramid)
    return part


def _halved(image: Tensor, pyramid: Pyramid) -> Tensor:
    if pyramid == "nearest":
        return _blur(image, pyramid)[..., ::2, ::2]
    height, width = image.shape[-2:]
    even = _bordered(_bordered(image, -2, 0, height % 2, pyramid), -1, 0, width % 2, pyramid)
    half = (even.shape[-2] // 2, even.shape[-1] // 2)
    return functional.interpolate(_blur(even, pyramid), size=half, mode="bilinear", align_corners=False)


def _doubled(image: Tensor, size: torch.Size, pyramid: Pyramid) -> Tensor:
    height, width = size
    if pyramid == "nearest":
        return _blur(image.repeat_interleave(2, -2).repeat_interleave(2, -1)[..., :height, :width], pyramid)
    double = (2 * image.shape[-2], 2 * image.shape[-1])
    grown = functional.interpolate(image, size=double, mode="bilinear", align_corners=False)
    return _blur(grown, pyramid)[..., :height, :width]


def _blur(image: Tensor, pyramid: Pyramid) -> Tensor:
    blurred = _bordered(_bordered(image, -2, 2, 2, pyramid), -1, 2, 2, pyramid)
    for dim in (-2, -1):
        a, b, c, d, e = (blurred.narrow(dim, start, image.shape[dim]) for start in range(5))
        blurred = ((a + e) + 4 * (b + d) + 6 * c) / 16
    return blurred


def _bordered(image: Tensor, dim: int, leading: int, trailing: int, pyramid: Pyramid) -> Tensor:
    """The image with that many more positions along `dim`: reflected at its ends, or its ends repeated."""
    if not leading + trailing:
        return image
    last_index = image.shape[dim] - 1
    index = torch.arange(-leading, last_index + 1 + trailing, device=image.device)
    if pyramid == "paper" and last_index:
        index = last_index - (last_index - index.abs() % (2 * last_index)).abs()
    return image.index_select(dim, index.clamp(0, last_index))
