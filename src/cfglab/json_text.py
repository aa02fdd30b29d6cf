"""JSON from outside: bounded in size, depth and digits, each key once, finite numbers; a fault is one line."""

import json
from collections import Counter
from typing import Any

from cfglab import limits
from cfglab.errors import InputError


def read_json(text: str | bytes, name: str = "JSON") -> Any:
    """The value that a JSON text describes.

    Args:
        text: The JSON, at most `limits.DOCUMENT_BYTES` long.
        name: What the text is, for the message: the path of its file.

    Raises:
        InputError: no JSON, a key that is given twice, NaN or Infinity, or something beyond a limit.
    """
    if not isinstance(text, str | bytes):
        raise InputError(f"{name}: it is a {type(text).__name__}, and JSON is text; give json.dumps(…) of it.")
    if len(text) > limits.DOCUMENT_BYTES:
        raise InputError(
            f"{name}: {len(text):,} bytes; at most {limits.DOCUMENT_BYTES:,} are read, give a shorter one."
        )
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_int=_whole, parse_constant=_refuse_constant)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except RecursionError:
        raise InputError(f"{name}: {_TOO_DEEP}") from None
    except ValueError as error:
        place = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{name}: no JSON{place}") from None
    check_tree(value, name)
    return value


_TOO_DEEP = f"lists and objects more than {limits.JSON_DEPTH} deep; give a simpler one."


def check_tree(value: Any, name: str) -> None:
    """Raise InputError where nested lists and dicts are too deep or too many; a value that contains itself is."""
    level, seen = [value], 0
    for _ in range(limits.JSON_DEPTH + 1):
        inner: list[Any] = []
        for node in level:
            inner += node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ()
            seen += 1
            if seen + len(inner) > limits.DOCUMENT_NODES:
                raise InputError(f"{name}: more than {limits.DOCUMENT_NODES:,} values; give fewer.")
        if not inner:
            return
        level = inner
    raise InputError(f"{name}: {_TOO_DEEP}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise InputError(f"{twice[: limits.NAME_LETTERS]!r} is given twice; a field has one value, leave one out.")
    return mapping


def _whole(digits: str) -> int:
    if len(digits) > limits.DIGITS:
        raise InputError(f"a number of {len(digits):,} digits; at most {limits.DIGITS} are read, write a shorter one.")
    return int(digits)


def _refuse_constant(word: str) -> Any:
    raise InputError(f"{word}: a finite number is needed; write one such as 7.5.")
