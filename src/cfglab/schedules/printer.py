"""A schedule as text and as Python. Each kind with a text of its own registers it on `text_of`, beside its class."""

import functools
from typing import Any

from pydantic import BaseModel

PARTS, SUM, PRODUCT, NUMBER, WORD = range(5)
"""How tightly a text holds together: as a list of parts, a sum, a product, a bare number, one word."""


@functools.singledispatch
def text_of(schedule: Any, python: bool) -> tuple[str, int]:
    """The text of a schedule and how tightly it holds together.

    By default a call of its name with max, min and every field that differs from its default, warm-ups last.

    Args:
        schedule: The schedule.
        python: True for its `repr`.

    Returns:
        The text, and PARTS, SUM, PRODUCT, NUMBER or WORD.
    """
    kind = type(schedule)
    names = sorted((name for name in kind.model_fields if name != "kind"), key=lambda name: name.startswith("warmup"))
    fields = [
        f"{name}={argument(getattr(schedule, name), python)}"
        for name in names
        if name in ("max", "min") or getattr(schedule, name) != kind.model_fields[name].default
    ]
    return f"{name_of(schedule, python)}({', '.join(fields)})", WORD


def write(schedule: Any, python: bool = False) -> str:
    """The text of a schedule; `parse` reads it back.

    Args:
        schedule: The schedule.
        python: True for its `repr`, which Python evaluates to an equal schedule.

    Returns:
        The canonical text.
    """
    text, level = text_of(schedule, python)
    return f"{name_of(schedule, python)}({text})" if python and level == NUMBER else text


def name_of(schedule: Any, python: bool) -> str:
    """The name that calls the constructor of a schedule.

    Args:
        schedule: The schedule.
        python: True for the class, False for the name in text.

    Returns:
        The name.
    """
    return type(schedule).__name__ if python else str(schedule.kind)


def call(base: Any, python: bool, word: str, *written: str, **values: Any) -> tuple[str, int]:
    """The text of a word after a schedule.

    Args:
        base: The schedule before the dot.
        python: True for a `repr`.
        word: The method.
        written: Arguments as text.
        values: Arguments by name; those that are None are left out.

    Returns:
        The text, and WORD.
    """
    named = [f"{name}={number(value)}" for name, value in values.items() if value is not None]
    return f"{receiver(base, python)}.{word}({', '.join([*written, *named])})", WORD


def receiver(schedule: Any, python: bool) -> str:
    """The text of a schedule such that a word can follow.

    Args:
        schedule: The schedule.
        python: True for a `repr`.

    Returns:
        The text; a number in its constructor, a sum or a list of parts in brackets.
    """
    text, level = text_of(schedule, python)
    if level == NUMBER:
        return f"{name_of(schedule, python)}({text})"
    return text if level == WORD else f"({text})"


def operand(schedule: Any, least: int, python: bool) -> str:
    """The text of a schedule beside an operator.

    Args:
        schedule: The schedule.
        least: How tightly the text must hold together to stand without brackets.
        python: True for a `repr`.

    Returns:
        The text, in brackets where it needs them.
    """
    text, level = text_of(schedule, python)
    return text if level >= least else f"({text})"


def argument(value: Any, python: bool) -> str:
    """The text of a value as an argument.

    Args:
        value: A schedule, a number, or a tuple of numbers.
        python: True for a `repr`.

    Returns:
        The text.
    """
    return text_of(value, python)[0] if isinstance(value, BaseModel) else number(value)


def number(value: Any) -> str:
    """A number as people write it, exactly: 7.5, 1, 1e-07; a tuple of numbers in brackets, a word in quotes.

    Args:
        value: A number, a tuple of numbers, or a word.

    Returns:
        The text.

    Examples:
        >>> number((0.5, 2.0))
        '(0.5, 2)'
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(number, value))}{',' if len(value) == 1 else ''})"
    return f'"{value}"' if isinstance(value, str) else repr(value).removesuffix(".0")
