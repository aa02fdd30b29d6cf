"""The values that stand for a schedule: numbers, text, lists, JSON objects and functions."""

import itertools
from collections.abc import Iterable, Set
from typing import Any

from cfglab import limits
from cfglab.errors import InputError
from cfglab.json_text import check_tree
from cfglab.schedules.fields import shown
from cfglab.schedules.parser import parse
from cfglab.schedules.registry import coerce
from cfglab.schedules.schedule import Schedule, from_object
from cfglab.schedules.shapes import Constant, Function, Table


@coerce.enter
def as_schedule(value: Any) -> Schedule:
    """A schedule from any value that stands for one.

    Args:
        value: A schedule, a number, text that `parse` reads, a list of scales, a JSON object (a dict with its kind), or
            a function Step -> w.

    Returns:
        The schedule: a number becomes a Constant, a list a Table, a function a Function.

    Raises:
        InputError: The value is none of these, or one of its fields is not valid.

    Examples:
        >>> from cfglab import as_schedule
        >>> as_schedule(7.5)
        Constant(7.5)
        >>> as_schedule("2x8+1x6").values(3)
        [8.0, 8.0, 6.0]
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, dict):
        check_tree(value, "a schedule")
        try:
            return from_object(value)
        except ValueError as error:
            raise InputError(str(error)) from None
    if isinstance(value, type):
        raise InputError(f"{value.__name__} is a class: a schedule is a value; write {value.__name__}(…).")
    if callable(value):
        return Function(value)
    if isinstance(value, bytes | bytearray | memoryview | Set):
        raise InputError(
            f"{shown(value)} is no list of scales: a {type(value).__name__} holds "
            f"{'no order' if isinstance(value, Set) else 'bytes'}; write [8, 6, 4], or text."
        )
    if isinstance(value, Iterable) and getattr(value, "ndim", 1) == 1:
        return Table(tuple(itertools.islice(value, limits.SCALES + 1)))
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise InputError(
            f"{shown(value)} is no schedule: a number, text such as 'cosine(max=7.5, min=1)', a list of scales or a "
            "function is; write one of them."
        )
    return Constant(value)
