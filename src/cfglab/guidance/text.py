"""Guidance as text for people: `cosine(max=7.5, min=1, k=0.3) | prediction_norm(strength=0.5)`.

The schedule comes first, transforms follow, each after a bar. Nothing is evaluated.
"""

import ast
import re
from typing import Any

from cfglab.errors import InputError
from cfglab.guidance.base import Guidance
from cfglab.guidance.transforms import Transform, transform_class
from cfglab.schedules import Schedule, parse

_BAR = re.compile(r"""\|(?=(?:[^'"]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")*$)""")
"""A bar outside quotes."""


def parse_guidance(text: str) -> Guidance:
    """The guidance that a text describes; `str(guidance)` is its canonical form. Raises InputError.

    >>> print(parse_guidance("7.5 | prediction_norm(strength=0.50)"))
    7.5 | prediction_norm(strength=0.5)
    """
    return Guidance(*parse_parts(text))


def parse_parts(text: str) -> tuple[Schedule, list[Transform]]:
    """The schedule and the transforms of a guidance's text. Raises InputError."""
    parts = _BAR.split(text)
    schedule, *transforms = parts if len(parts) > 1 else text.split("|")  # a quote that never ends is its part's fault
    return parse(schedule), [parse_transform(one) for one in transforms]


def parse_transform(text: str) -> Transform:
    """One transform: its kind, with named fields in brackets where they differ from the defaults. Raises InputError."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = None
    match node:
        case ast.Name(id=kind):
            return transform_class(kind)()
        case ast.Call(func=ast.Name(id=kind), args=[], keywords=keywords) if all(one.arg for one in keywords):
            return transform_class(kind)(**{str(one.arg): _value(one.value, text) for one in keywords})
    raise _unreadable(text)


def as_guidance(value: Any) -> Any:
    """A Guidance from anything that stands for one: itself, text, or what `as_schedule` takes. An object with its own
    `start(prediction)` is left as it is. Raises InputError."""
    if isinstance(value, Guidance) or (hasattr(value, "start") and not isinstance(value, type | str)):
        return value
    return Guidance(value)


def _value(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return tuple(_value(part, text) for part in parts)
        case ast.Name(id=name):
            return name
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise _unreadable(text)


def _unreadable(text: str) -> InputError:
    shown = repr(text.strip()[:80])
    return InputError(
        f"{shown} is not written as a transform is: a kind with named fields; write prediction_norm(strength=0.5)."
    )
