"""The values of a scale map as text: rows after semicolons, values after spaces, `v*n` for n equal values.

`"0*32 1*32"` is one row of 64 values, `"0 1; 1 0"` a map of 2 x 2. The text is canonical: equal maps have equal text,
so that it is what a guidance prints, stores and hashes. Loads no torch.
"""

import math
import re
from collections.abc import Iterable, Mapping, Set
from functools import lru_cache
from itertools import groupby
from typing import Annotated, Any

from pydantic import BeforeValidator

from cfglab import limits
from cfglab.schedules.printer import number

_VALUE = re.compile(r"([^\s*;]{1,40})(?:\*([0-9]{1,9}))?")
_FORM = "write rows after semicolons and values after spaces, v*n for n equal values: '0 1; 0.5 1' or '0*32 1*32'."


@lru_cache(maxsize=64)
def rows_of(text: str) -> tuple[tuple[float, ...], ...]:
    """The values of a map.

    Args:
        text: Rows after semicolons, values after spaces, `v*n` for n equal values.

    Returns:
        The rows, all of one length, 1 or more.

    Raises:
        ValueError: The text has another form, a value is not finite, the rows differ in length, or there are too many.

    Examples:
        >>> rows_of("0*2 1; 0.5*3")
        ((0.0, 0.0, 1.0), (0.5, 0.5, 0.5))
    """
    if len(text.splitlines()) > 1:
        raise ValueError(f"a map of several lines: its rows stand after semicolons; {_FORM}")
    rows, left = list[tuple[float, ...]](), limits.MAP_VALUES
    for line in text.split(";"):
        row = list[float]()
        for part in line.split():
            match = _VALUE.fullmatch(part)
            count = int(match[2] or 1) if match else 0
            left -= count
            if match is None or count == 0:
                raise ValueError(f"{part[:40]!r} is no value of a map; {_FORM}")
            if left < 0:
                raise ValueError(f"a map has at most {limits.MAP_VALUES} values; give one of the latents' size.")
            row += [_finite(match[1])] * count
        rows.append(tuple(row))
    if not all(rows):
        raise ValueError(f"a row of the map is empty; {_FORM}")
    if len(lengths := sorted(set(map(len, rows)))) > 1:
        raise ValueError(f"its rows have {lengths[0]} and {lengths[-1]} values; give all rows the same number.")
    return tuple(rows)


def text_of(rows: Iterable[Iterable[float]]) -> str:
    """The canonical text of a map.

    Args:
        rows: Rows of numbers.

    Returns:
        The text; `rows_of` reads it back.

    Examples:
        >>> text_of([[0, 0, 1], [0.5, 0.5, 0.5]])
        '0*2 1; 0.5*3'
    """
    return "; ".join(" ".join(_run(value, len(list(run))) for value, run in groupby(row)) for row in rows)


def _run(value: float, count: int) -> str:
    return number(float(value)) + (f"*{count}" if count > 1 else "")


def _finite(value: Any) -> float:
    try:
        finite = float(value)
    except (TypeError, ValueError, OverflowError):
        finite = math.nan
    text = str(value)
    if not math.isfinite(finite) or "_" in text or not text.isascii():  # float() reads '1_000' and digits of any script
        raise ValueError(f"{text[:40]!r} in a map: its values are finite numbers; {_FORM}")
    return finite + 0.0  # -0.0 is 0: equal maps have equal text


def _canonical(value: Any) -> str:
    """A map from its text, a number, a list, nested lists, or an array with `tolist`, such as a tensor."""
    text = text_of(rows_of(_text(value)))
    if len(text) > limits.MAP_LETTERS:
        raise ValueError(
            f"the text of this map has {len(text)} letters, of {limits.MAP_LETTERS} at most; give a smaller map, or "
            "round its values, as with .round(2)."
        )
    return text


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if math.prod(getattr(value, "shape", ())) > limits.MAP_VALUES:
        raise ValueError(f"a map has at most {limits.MAP_VALUES} values; give one of the latents' size.")
    if _is_image(value):
        raise ValueError("an image is no map; give its numbers: np.asarray(image.convert('L')) / 255.")
    value = value.tolist() if hasattr(value, "tolist") else value
    _check_ordered(value)
    rows = list(value) if isinstance(value, Iterable) else [value]
    if not any(map(_is_row, rows)):
        rows = [rows]
    if not all(map(_is_row, rows)):
        raise ValueError("a map is a list of rows, each a list of numbers; write [[0, 1], [1, 1]].")
    for row in rows:
        _check_ordered(row)
    rows = [list(row) for row in rows]
    if any(_is_row(cell) for row in rows for cell in row):
        raise ValueError(
            "a map has rows and columns, and this one has more dimensions; give one of two, such as mask.squeeze()."
        )
    return text_of([map(_finite, row) for row in rows])


def _check_ordered(value: Any) -> None:
    """Refuse what is iterable and no list of numbers."""
    if isinstance(value, bytes | bytearray | memoryview | Set | Mapping):
        raise ValueError(f"{str(value)[:40]} is no map: a {type(value).__name__} is no list of numbers; {_FORM}")


def _is_row(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1) > 0


def _is_image(value: Any) -> bool:
    """Whether it is an image of Pillow, which is not imported."""
    return hasattr(value, "getpixel") and hasattr(value, "convert")


Map = Annotated[str, BeforeValidator(_canonical)]
"""A map of one or two dimensions, as canonical text."""
