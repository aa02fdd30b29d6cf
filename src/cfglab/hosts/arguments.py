"""The arguments of a bare denoiser: which of their parts are rows, and the joining and cutting of these.

An argument is a tree of dicts, lists and tuples. Its tensors of n rows are cut; other tensors, numbers, names and
functions are the same for every row. Of anything else (a list of prompts, an array, an object with fields) it is not
known what belongs to which image, so it is only handed over beside all rows of its prediction.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import take
from cfglab.errors import InputError
from cfglab.schedules.fields import shown

_WHOLE = (str, bytes, bool, int, float, complex, type(None), torch.dtype, torch.device, torch.Generator)


def is_rows(value: Any, images: int) -> bool:
    """Whether a value is a tensor with one row for each image.

    Args:
        value: Any value.
        images: The number of images.

    Returns:
        True if it is.
    """
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == images


def is_known(value: Any) -> bool:
    """Whether it is known which parts of an argument are rows.

    Args:
        value: The argument.

    Returns:
        False if it holds an array, an object, or a list or tuple without a tensor.

    Examples:
        >>> is_known({"context": torch.zeros(2, 7, 4), "scale": 2}), is_known(["a cat", "a dog"])
        (True, False)
    """
    if type(value) is dict:
        return all(map(is_known, value.values()))
    if type(value) in (list, tuple):
        return not value or (all(map(is_known, value)) and not all(isinstance(part, _WHOLE) for part in value))
    return isinstance(value, (Tensor, *_WHOLE)) or callable(value)


def is_joinable(uncond: Any, cond: Any, images: int) -> bool:
    """Whether an argument of both predictions goes into one call.

    Args:
        uncond: That of the unconditional prediction.
        cond: That of the conditional prediction.
        images: The number of images.

    Returns:
        True if tensors of n rows have one shape and dtype, and everything else is the same in both.
    """
    if not is_known(cond):
        return False
    if is_rows(uncond, images) and is_rows(cond, images):
        return bool(uncond.shape == cond.shape and uncond.dtype == cond.dtype)
    if type(uncond) is not type(cond):
        return False
    if isinstance(cond, dict):
        return uncond.keys() == cond.keys() and all(is_joinable(uncond[key], cond[key], images) for key in cond)
    if isinstance(cond, list | tuple):
        pairs = zip(uncond, cond, strict=False)
        return len(uncond) == len(cond) and all(is_joinable(one, other, images) for one, other in pairs)
    return uncond is cond or (isinstance(cond, _WHOLE) and bool(uncond == cond))


def joined(uncond: Any, cond: Any, images: int, change: Callable[[Tensor], Tensor]) -> Any:
    """Both halves of a joinable argument in one.

    Args:
        uncond: That of the unconditional prediction.
        cond: That of the conditional prediction.
        images: The number of images.
        change: What is done to both halves of a tensor of n rows, (2 n, ...).

    Returns:
        The argument; what is no tensor of n rows is as it was.

    Examples:
        >>> joined({"y": torch.zeros(1), "table": (t := torch.ones(2))}, {"y": torch.ones(1), "table": t}, 1, len)
        {'y': 2, 'table': tensor([1., 1.])}
    """
    if type(cond) is dict:
        return {key: joined(uncond[key], cond[key], images, change) for key in cond}
    if type(cond) in (list, tuple):
        return type(cond)(joined(one, other, images, change) for one, other in zip(uncond, cond, strict=True))
    return change(torch.cat([uncond, cond])) if is_rows(cond, images) else cond


def mapped(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """An argument with its tensors changed.

    Args:
        change: What is done to each tensor.
        value: The argument.

    Returns:
        The argument; what is no dict, list, tuple or tensor is as it was.
    """
    if type(value) is dict:
        return {key: mapped(change, part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(mapped(change, part) for part in value)
    return change(value) if isinstance(value, Tensor) else value


def cut(value: Any, rows: list[int], images: int) -> Any:
    """Rows of an argument of one prediction.

    Args:
        value: The argument.
        rows: Row numbers, 0 to images - 1.
        images: The number of images.

    Returns:
        The argument with its tensors of n rows cut.
    """
    return mapped(lambda tensor: take(tensor, rows) if is_rows(tensor, images) else tensor, value)


def expanded(value: Any, images: int) -> Any:
    """An argument with its tensors of one row as n equal rows.

    Args:
        value: The argument.
        images: The number of images.

    Returns:
        The argument, its tensors as views.
    """
    return mapped(lambda tensor: tensor.expand(images, *tensor.shape[1:]) if is_rows(tensor, 1) else tensor, value)


def check_sample(x: Any) -> None:
    """Check the sample of a call.

    Args:
        x: The sample.

    Raises:
        InputError: It is no tensor of rows.
    """
    if not isinstance(x, Tensor) or x.ndim < 2 or len(x) == 0:
        got = (
            f"a sample of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a sample that is a {type(x).__name__}"
        )
        raise InputError(
            f"{got}: a torch tensor is needed with one row for each image and at least one more dimension; give "
            f"{'x[:, None]' if isinstance(x, Tensor) else 'torch.as_tensor(x)'}."
        )


def check_rows(name: str, uncond: Any, cond: Any, images: int) -> None:
    """Check that an unconditional argument has the rows of the conditional one.

    Args:
        name: The name of the argument.
        uncond: The unconditional one, with one row as n.
        cond: The conditional one.
        images: The number of images.

    Raises:
        InputError: It is a tensor of another number of rows.
    """
    if is_rows(cond, images) and isinstance(uncond, Tensor) and uncond.ndim and len(uncond) != images:
        raise InputError(
            f"uncond={{{shown(name)}: …}} of shape {tuple(uncond.shape)} for {images} images: it has one row, or "
            f"{images} as the conditional one; give one row for all."
        )
