"""Guidance as text for people: `cosine(max=7.5, min=1, k=0.3) | prediction_norm(strength=0.5)`.

The schedule comes first, transforms follow, each after a bar. Nothing is evaluated.
"""

import ast
import re
from collections import Counter
from typing import Any

from cfglab import limits
from cfglab.errors import InputError
from cfglab.guidance.registry import read
from cfglab.guidance.transform import Transform, transform_class
from cfglab.schedules import Schedule, parse
from cfglab.schedules.fields import inline, shown
from cfglab.schedules.parser import Unreadable, expression

_PIECE = re.compile(r"""(\|)|'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[^'"|]++|(['"])""", re.DOTALL)
"""A bar, what is in quotes, anything else, a quote that never ends. It does not backtrack."""


def parse_parts(text: str) -> tuple[Schedule, list[Transform]]:
    """The schedule and the transforms of a guidance's text.

    Args:
        text: As for `parse_guidance`.

    Returns:
        The schedule, and the transforms in order.

    Raises:
        InputError: As `parse_guidance` does.
    """
    if not isinstance(text, str):
        raise InputError(f"{shown(text)} is no text: parse_guidance reads text; give other values to Guidance.")
    if len(text) > limits.TEXT_LETTERS:
        raise InputError(f"{shown(text)}: a guidance has at most {limits.TEXT_LETTERS} letters; write a shorter one.")
    schedule, *transforms = _split(text)
    if len(transforms) > limits.TRANSFORMS:
        raise InputError(
            f"{shown(text)}: {len(transforms)} transforms; a guidance has at most {limits.TRANSFORMS}, leave some out."
        )
    return parse(schedule), [parse_transform(part) for part in transforms]


def _split(text: str) -> list[str]:
    """The parts between bars; bars in quotes divide nothing."""
    parts, start = list[str](), 0
    for piece in _PIECE.finditer(text):
        if piece[2]:  # a quote that never ends is the fault of its part
            return text.split("|")
        if piece[1]:
            parts.append(text[start : piece.start()])
            start = piece.end()
    return [*parts, text[start:]]


@read.enter
def parse_transform(text: str) -> Transform:
    """One transform from its text.

    Args:
        text: Its kind, with named fields in brackets where they differ from the defaults.

    Returns:
        The transform.

    Raises:
        InputError: The text has another form, the kind is unknown, or a field is not valid.

    Examples:
        >>> parse_transform("apg(norm_threshold=15)")
        APG(norm_threshold=15.0)
    """
    try:
        node = expression(text.strip())
    except Unreadable:
        node = None
    except InputError as error:
        raise InputError(f"{shown(text.strip())}: {error}") from None
    match node:
        case ast.Name(id=kind):
            return transform_class(kind)()
        case ast.Call(func=ast.Name(id=kind), args=[], keywords=keywords) if all(keyword.arg for keyword in keywords):
            fields = {str(keyword.arg): _field(keyword, text) for keyword in keywords}
            if len(fields) < len(keywords):
                duplicate = Counter(keyword.arg for keyword in keywords).most_common(1)[0][0]
                raise InputError(
                    f"{shown(text.strip())}: {shown(duplicate)} is given twice; a field has one value, leave one out."
                )
            return transform_class(kind)(**fields)
        case ast.Call(func=ast.Name(id=kind), args=[_, *_]):
            names = [name for name in transform_class(kind).model_fields if name != "kind"]
            raise InputError(
                f"{shown(text.strip(), 80)}: values are given by name; {kind} takes {', '.join(names)}, write "
                f"{kind}({names[0]}=…)."
            )
    raise _unreadable(text)


def _field(keyword: ast.keyword, text: str) -> Any:
    if any(isinstance(node, ast.Call) for node in ast.walk(keyword.value)):
        schedule = inline(ast.unparse(keyword.value), 80)
        raise InputError(
            f"{shown(text.strip(), 80)}: a schedule or other text in a field is written in quotes; write "
            f"{keyword.arg}='{schedule}'."
        )
    return _value(keyword.value, text)


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


_BARE = re.compile(r"[=(,] ?((?:[a-z]\w*+[.-]|\d++-)[\w.-]*+)[,) ]", re.IGNORECASE)
"""A name with a dot or a dash that is not in quotes, such as single.3 or 7-9."""


_UNQUOTED = re.compile(r"([a-z_]{1,40}+) ?= ?([^\s'\"(),=\d+.-][^'\"(),=]*+)[,)]")
"""A field and its words, such as prompt=a cat."""


def _has_break(text: str) -> bool:
    """Whether there is a line break between quotes, up to a quote that never ends."""
    for piece in _PIECE.finditer(text):
        if piece[2]:
            return False
        if piece[0][0] in "'\"" and set("\n\r") & set(piece[0]):
            return True
    return False


def _unreadable(text: str) -> InputError:
    if _has_break(text):
        return InputError(
            f"{shown(text.strip(), 80)}: there is a line break between quotes, where it is written as two letters, a "
            "backslash and an n; write them in its place, or a space."
        )
    if bare := _BARE.search(text):
        return InputError(
            f"{shown(text.strip(), 80)}: a name with a dot or a dash is written in quotes; write '{bare[1]:.40}'."
        )
    if (unquoted := _UNQUOTED.search(text)) and not unquoted[2].isidentifier():
        return InputError(
            f"{shown(text.strip(), 80)}: text is written in quotes; write {inline(unquoted[1])}="
            f"'{inline(unquoted[2].strip(), 40)}'."
        )
    return InputError(
        f"{shown(text.strip(), 80)} is not written as a transform is: a kind with named fields; write "
        "prediction_norm(strength=0.5)."
    )
