"""Tensors inside tuples, lists and dicts, outputs of networks among them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def walk(value: Any, rows: int, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to the tensors with a number of rows in nested tuples, lists and dicts.

    Args:
        value: The nested containers.
        rows: The number of rows.
        change: The function.

    Returns:
        The same containers with changed tensors.
    """
    if isinstance(value, Tensor):
        return change(value) if value.ndim > 0 and len(value) == rows else value
    if isinstance(value, dict):
        changed = {key: walk(item, rows, change) for key, item in value.items()}
        return changed if type(value) is dict else type(value)(**changed)
    if isinstance(value, list | tuple):
        return type(value)(walk(item, rows, change) for item in value)
    return value
