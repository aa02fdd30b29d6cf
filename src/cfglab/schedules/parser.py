"""Schedules as text for people: `cosine(max=7.5, min=1, k=0.3).inverted()`.

Numbers are constants, lists and `10x8+10x6+10x4` are tables, shapes and published constructors are called
by name with named fields, the methods of the algebra follow with a dot, `+ - *` combine. `parse` walks Python's syntax
tree and looks names up in the registry; nothing is evaluated. `printer.py` is its inverse.
"""

import ast
import inspect
import re
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

from cfglab import limits
from cfglab.errors import InputError, NotMatchable
from cfglab.schedules.fields import inline, nearest, shown, unknown_field
from cfglab.schedules.printer import number
from cfglab.schedules.registry import NOT_NUMBERS, PUBLISHED, QUOTED, SHAPES, WORDS
from cfglab.schedules.schedule import Schedule
from cfglab.schedules.shapes import Constant, Table

# Nothing here backtracks: every repetition is possessive, so that any text is read in a time like its length.
NUMBER = r"[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+"
"""A number in decimal notation, as a regular expression."""
_PART = rf"[0-9]++\s*+[xX]\s*+{NUMBER}"
_PARTS = re.compile(rf"([0-9]++)\s*+[xX]\s*+({NUMBER})")
_LIST = re.compile(rf"(?<![\w.]){_PART}(?:\s*+\+\s*+{_PART})*+")
_MORE = re.compile(r"[\w.]")
_OPERATOR = re.compile(r"\s*+[+*-]")
_DIGITS = re.compile(r"[0-9]++")
_DECIMAL = re.compile(rb"(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+")
_NUMBER_WITH_WORD = re.compile(r"(?<![\w.])([0-9]{1,9}+)\.([A-Za-z]\w{2,30}+)")
_TWO_SIGNS = re.compile(r"[+-][+-]")


class Unreadable(ValueError):
    """The text is not an expression."""


def parse(text: str) -> Schedule:
    """The schedule that a text describes; `str` of it is the text in its canonical form.

    Args:
        text: A number, a list, a shape with named fields, methods of the algebra after a dot, and `+ - *` between them.

    Returns:
        The schedule.

    Raises:
        InputError: The text is no text, empty, too long or not an expression of this language, or a name or value is
            not valid.
        NotMatchable: `matched_to` with `sigmas` cannot reach its dose.

    Examples:
        >>> parse("cosine(max=7.5, min=1, k=0.3).inverted()").values(1)
        [1.0]
        >>> print(parse("10x8 + 10x6"))
        10x8+10x6
        >>> parse("linear(max=8, min=4).clip(high=6)").values(4)
        [6.0, 6.0, 6.0, 5.0]
    """
    quoted = shown(text, 80)
    if not isinstance(text, str):
        raise InputError(f"{quoted} is no text: parse reads text; give other values to as_schedule.")
    if not text.strip() or len(text) > limits.TEXT_LETTERS:
        raise InputError(
            f"{quoted} is no schedule: it has 1 to {limits.TEXT_LETTERS} letters; write 7.5 or cosine(max=7.5, min=1)."
        )
    try:
        _check_digits(text)
        tree = expression(_LIST.sub(_expand, text.strip()))
        if _TWO_SIGNS.search(text):
            raise Unreadable
        _refuse_ranges(tree)
        return _schedule(_listed(tree, _read(tree)))
    except NotMatchable:
        raise
    except InputError as error:
        raise InputError(f"{quoted}: {_short(str(error), 400)}") from None
    except (ValueError, OverflowError):
        if number_with_word := _NUMBER_WITH_WORD.search(text):
            digits, word = number_with_word.groups()
            raise InputError(
                f"{quoted}: {inline(number_with_word[0])} is read as a number with a point; write "
                f"constant({digits}).{word}(…)."
            ) from None
        raise InputError(
            f"{quoted} is not written as a schedule is: numbers, shapes with named fields, words after a dot, + - *; "
            "write 7.5 or cosine(max=7.5, min=1, k=0.3).inverted()."
        ) from None


def _schedule(value: Any) -> Schedule:
    """The schedule that a part of a text stands for."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, str):
        return parse(value)
    return Table(value) if isinstance(value, list | tuple) else Constant(value)


def expression(text: str) -> ast.expr:
    """The syntax tree of one Python expression within limits. Nothing is evaluated.

    Args:
        text: The expression.

    Returns:
        The tree, as `ast` builds it.

    Raises:
        Unreadable: The text is not an expression.
        InputError: The text exceeds a limit, or a number is not in decimal notation.
    """
    if text.count(",") > 2 * limits.SCALES:
        raise InputError(
            f"more than {2 * limits.SCALES} commas: a list has at most {limits.SCALES} scales; shorten it."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python would say of a program
            tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        raise Unreadable from None
    _bound(tree)
    lines = re.split(rb"\r\n|[\r\n]", text.encode())
    calls = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            calls += 1
            if calls > limits.PARTS or len(node.keywords) > limits.FIELDS or len(node.args) > limits.FIELDS:
                raise InputError(
                    f"more than {limits.PARTS} shapes and words, or {limits.FIELDS} fields of one: a schedule is "
                    "simpler; write a list of scales."
                )
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)
        ):
            digits = lines[node.lineno - 1][node.col_offset : node.end_col_offset]
            if len(digits) > limits.DIGITS or not _DECIMAL.fullmatch(digits):
                raise InputError(
                    f"{shown(digits.decode())}: numbers are decimal, without _ and with at most {limits.DIGITS} "
                    "digits; write one such as 7.5."
                )
    return tree


def _check_digits(text: str) -> None:
    for digits in _DIGITS.finditer(text):
        if (count := digits.end() - digits.start()) > limits.DIGITS:
            raise InputError(f"a number of {count} digits: at most {limits.DIGITS} are read; write one such as 7.5.")


def _refuse_ranges(tree: ast.expr) -> None:
    """Refuse 1-10, which is a range elsewhere and would be -9 here."""
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(
                left=ast.Constant(value=int() | float() as low) as first,
                op=ast.Sub(),
                right=ast.Constant(value=int() | float() as high) as last,
            ):
                is_adjacent = (first.end_lineno, (first.end_col_offset or 0) + 1) == (last.lineno, last.col_offset)
                if node is tree or is_adjacent:
                    start, end = number(low), number(high)
                    raise InputError(
                        f"{start}-{end} looks like a range, and as arithmetic is one number; write that number, or "
                        f"linear(max={end}, min={start}).inverted() from {start} to {end}; with a space on both sides "
                        "of the minus, inside a field, it is arithmetic."
                    )


def _listed(node: ast.AST, value: Any) -> Any:
    """The value of a schedule; 7,5 is refused, a list of two to Python and one number to half of Europe."""
    if isinstance(node, ast.Tuple):
        raise InputError(
            f"{_short(ast.unparse(node))}: a comma between numbers makes a list; write 7.5 with a point, or a list in "
            "square brackets, [7, 5]."
        )
    return value


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else text[:most] + "…"


def _expand(match: re.Match[str]) -> str:
    """`2x8+1x6` as `[8,8,6]`."""
    text, before = match.string, match.start() - 1
    if _MORE.match(text, match.end()):
        raise Unreadable
    pairs = _PARTS.findall(match[0])
    counts = [int(count) for count, _ in pairs]
    if min(counts) < 1 or sum(counts) > limits.SCALES:
        raise InputError(
            f"parts of {min(counts)} to {max(counts)} steps, {sum(counts)} in all: a part has 1 or more steps, a list "
            f"{limits.SCALES} at most; write 10x8+10x6."
        )
    while before >= 0 and text[before].isspace():
        before -= 1
    if _OPERATOR.match(text, match.end()) or (before >= 0 and text[before] in "+-*"):
        raise InputError(
            f"{inline(match[0])} beside + - *: every part of a list is steps x scale; write 10x8+1x6, or arithmetic "
            "with the list in brackets, (10x8) + 6."
        )
    return f"[{','.join(w for (_, w), count in zip(pairs, counts, strict=True) for _ in range(count))}]"


def _bound(tree: ast.expr) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(limits.TEXT_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise InputError(
            f"parts inside parts more than {limits.TEXT_DEPTH} deep: a schedule is simpler; write a list of scales."
        )


def _read(node: ast.AST) -> Any:
    """A number, a list or tuple of them, a word in quotes, or a Schedule."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.Constant(value=str() as word) if word in QUOTED:
            return word
        case ast.Constant(value=str() as word):
            known = sorted(filter(str.isidentifier, QUOTED))
            hint = nearest(word, known) or " write one of them, and numbers without quotes."
            raise InputError(f"{shown(word)}: the words in quotes are {', '.join(known)};{hint}")
        case ast.BinOp(op=ast.BitOr()):
            raise InputError(
                f"{_short(ast.unparse(node))}: transforms follow a bar, and here a schedule alone is read; leave out "
                "the first bar and what follows."
            )
        case ast.List(elts=parts):
            return [_read(part) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(_read(part) for part in parts)
        case ast.UnaryOp(operand=ast.UnaryOp()):
            raise Unreadable
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _operand(operand)
            return -1 * value if isinstance(value, Schedule) else -value
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _operand(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _bounded(_operand(left) + _operand(right))
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _bounded(_operand(left) - _operand(right))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _bounded(_operand(left) * _operand(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            return _shape(name)(*map(_read, args), **_named(keywords))
        case ast.Call(func=ast.Attribute(value=value, attr=word), args=args, keywords=keywords):
            base = _schedule(_listed(value, _read(value)))
            return _word(base, word, [_listed(arg, _read(arg)) for arg in args], _named(keywords))
        case ast.Name(id=name):
            _shape(name)
            raise InputError(f"{name} without brackets: a shape is called with its fields; write {name}(…).")
    raise InputError(
        f"{_short(ast.unparse(node))}: only numbers, lists, shapes, words after a dot and + - * are read; "
        "write 0.5 * cosine(max=7.5, min=1)."
    )


def _operand(node: ast.AST) -> Any:
    value = _listed(node, _read(node))
    return value if isinstance(value, int | float) else _schedule(value)


def _bounded(value: Any) -> Any:
    """The result of arithmetic; whole numbers do not grow without end."""
    if isinstance(value, int) and value.bit_length() > 1024:
        raise OverflowError
    return value


def _named(keywords: list[ast.keyword]) -> dict[str, Any]:
    if any(keyword.arg is None for keyword in keywords):
        raise InputError("'**': fields are named one by one; write max=7.5, min=1.")
    names = Counter(keyword.arg for keyword in keywords)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"{shown(twice[0])[1:-1]} twice: a field has one value; give it once.")
    return {str(keyword.arg): _read(keyword.value) for keyword in keywords}


def _shape(name: str) -> Callable[..., Schedule]:
    if name == "function":
        raise InputError("a function is not read from text: it lives in a program; write a shape or a list of scales.")
    if name.lower() in NOT_NUMBERS:
        raise InputError(f"{name}: a finite number is needed; write one such as 7.5.")
    if name in PUBLISHED:
        return PUBLISHED[name]
    if name not in SHAPES:
        hint = nearest(name, [*SHAPES, *PUBLISHED]) or " write one of them, or a published one: cfglab list schedules."
        raise InputError(f"unknown shape {shown(name)}: the shapes are {', '.join(SHAPES)};{hint}")
    return SHAPES[name]


def _word(base: Schedule, word: str, args: list[Any], fields: dict[str, Any]) -> Schedule:
    if word not in WORDS:
        hint = nearest(word, WORDS) or " write one of them."
        raise InputError(f"unknown word .{_short(word)}(): the words are {', '.join(WORDS)};{hint}")
    method = getattr(base, word)
    signature = inspect.signature(method)
    for name in fields:
        if name not in signature.parameters:
            raise InputError(unknown_field(word, name, signature.parameters))
    try:
        signature.bind(*args, **fields)
        return method(*args, **fields)
    except TypeError as error:
        raise InputError(f".{word}(): {error}; it is written {word}({', '.join(signature.parameters)}).") from None
