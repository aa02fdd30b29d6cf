"""Tensors inside tuples, lists and dicts, outputs of networks among them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def walk(value: Any, rows: int, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nest of tuples, lists and dicts with `change` done to every tensor of that many rows."""
    if isinstance(value, Tensor):
        return change(value) if value.ndim > 0 and len(value) == rows else value
    if isinstance(value, dict):
        return type(value)(**{key: walk(item, rows, change) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(walk(item, rows, change) for item in value)
    return value
