"""One number an image, from its pixels alone: no weights, no reference.

Images are float arrays (n, 3, h, w), red green blue, nominally in [-1, 1], as the decoder gives them: *before*
clamping, because what over-guidance pushes out of range is lost afterwards. torch tensors are accepted.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import InputError

FloatArray = NDArray[np.float64]
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def saturation(pixels: Any) -> FloatArray:
    """Mean HSV saturation of each image, (n,), in 0 .. 1.

    The image is clamped to [-1, 1] and mapped to [0, 1]; a pixel has S = (max - min) / max over its channels,
    0 for black; S is averaged over the pixels.

    Raises:
        InputError: pixels that are no finite float array (n, 3, h, w).
    """
    colour = (np.clip(_checked(pixels), -1.0, 1.0) + 1.0) / 2.0
    high, low = colour.max(axis=1), colour.min(axis=1)
    share = np.divide(high - low, high, out=np.zeros_like(high), where=high > 0)
    return share.mean(axis=(1, 2))


def clipped_share(pixels: Any) -> FloatArray:
    """Share of each image's 3 h w values that lie outside [-1, 1], (n,), in 0 .. 1.

    Raises:
        InputError: pixels that are no finite float array (n, 3, h, w).
    """
    return (np.abs(_checked(pixels)) > 1.0).mean(axis=(1, 2, 3))


def contrast(pixels: Any) -> FloatArray:
    """RMS contrast of each image, (n,): the standard deviation over pixels of the BT.601 luma of (x + 1) / 2.

    Measured before clamping, so it has no upper limit; black against white in equal parts gives 0.5.

    Raises:
        InputError: pixels that are no finite float array (n, 3, h, w).
    """
    luma = np.tensordot(_checked(pixels), LUMA, axes=([1], [0])) / 2.0
    return luma.std(axis=(1, 2))


def pixel_metrics(pixels: Any, *, clamped: bool = False) -> list[dict[str, float]]:
    """The metrics of this module for each image.

    Args:
        pixels: (n, 3, h, w); n may be 0.
        clamped: Whether the pixels were clamped, so that there is no `clipped_share`.

    Returns:
        Values by the names of the functions, one dict for each image.

    Raises:
        InputError: pixels that are no finite float array (n, 3, h, w).
    """
    if not len(pixels):
        return []
    functions = {"saturation": saturation, "contrast": contrast} | ({} if clamped else {"clipped_share": clipped_share})
    columns = {name: measure(pixels).tolist() for name, measure in functions.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _checked(pixels: Any) -> FloatArray:
    """float64 (n, 3, h, w). A torch tensor is moved by its own methods, so torch is not imported here."""
    array = np.asarray(pixels.detach().cpu().float().numpy() if hasattr(pixels, "detach") else pixels)
    if array.ndim != 4 or array.shape[1] != 3 or array.size == 0:
        raise InputError(f"images of shape {array.shape}: the shape must be (n, 3, h, w); add or move an axis")
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"images of {array.dtype}: values must be floats in about [-1, 1]; use x / 127.5 - 1")
    spoilt = np.flatnonzero(~np.isfinite(array).all(axis=(1, 2, 3)))
    if spoilt.size:
        raise InputError(
            f"image {spoilt[0]} holds values that are not finite; sample it again, in float32 if it was float16"
        )
    return array.astype(np.float64)
