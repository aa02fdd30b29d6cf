"""The field types of schedules, and their errors in one line: the value, the rule, the next step."""

import difflib
import itertools
import math
import operator
import reprlib
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationError

from cfglab import limits
from cfglab.errors import InputError

OLD_NAMES = types.MappingProxyType(
    {
        "max_val": "max",
        "min_val": "min",
        "k_decay": "k",
        "num_cycles": "cycles",
        "num_warmup_steps": "warmup",
        "warmup_init_val": "warmup_start",
        "num_steps": None,
        "cycle_mul": None,
        "cycle_decay": None,
        "cycle_limit": None,
    }
)
"""The parameters of cf_guidance's get_cos_sched: their name here, or None where there is none."""


def _real(value: Any) -> float:
    """A finite number; text and truth values are none."""
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("a finite number is needed; write one such as 7.5.")
    return number + 0.0  # -0.0 is 0: equal schedules have equal text


def _index(value: Any) -> int | None:
    """A whole number that is one by its type, as 5 is and 5.0 is not; None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _whole(value: Any) -> int:
    """A whole number of steps, 0 or more."""
    number = _index(value)
    if number is None or not 0 <= number < 2**64:
        raise ValueError(
            "a whole number of steps is needed, 0 or more and without a point, for with a point it is a fraction of "
            "the run elsewhere; write one such as 5."
        )
    return number


def bounded(holds: Callable[[float], bool], message: str) -> AfterValidator:
    """The validator of a number within bounds, for `Annotated[Real, bounded(...)]`.

    Args:
        holds: Whether a finite number is accepted.
        message: The rule and the next step, as a sentence.

    Returns:
        The validator; it raises ValueError with the message.
    """

    def check(value: float) -> float:
        if not holds(value):
            raise ValueError(message)
        return value

    return AfterValidator(check)


def _edge(value: Any) -> int | float:
    """A step (an int, 2 or more), or a number that a window checks as a fraction; 0 is the beginning as either."""
    if _index(value) == 1:
        raise ValueError("1 is a step and 1.0 the whole run; write 1.0, or .inside(steps=(0, 1)) for the step.")
    return _moment(value) if (_index(value) or 0) > 0 else _real(value)


def _moment(value: Any) -> int | float:
    """A step (an int: 1, 2, …) or an elapsed fraction (a float above 0, at most 1.0, which is the whole run)."""
    index = _index(value)
    number = _real(value) if index is None else 0.0
    if (index is None and 0 < number <= 1) or (index is not None and 1 <= index < 2**64):
        return number if index is None else index
    raise ValueError(
        "a whole step (1 or more) or a fraction between 0 and 1 is needed: a step has no point, a fraction has one, "
        "and 1.0 is the whole run; write 10 or 0.2."
    )


def _pair(value: Any) -> Any:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError("two numbers are needed, where it opens and where it closes; write (0.2, 0.8).")
    return tuple(value)


def _scales(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("a list of scales is needed, one a step; write [8, 6, 4].")
    scales = tuple(itertools.islice(value, limits.SCALES + 1))
    if not 1 <= len(scales) <= limits.SCALES:
        count = "more" if scales else 0
        raise ValueError(f"a list has 1 to {limits.SCALES} scales, this one {count}; write one a step, [8, 6, 4].")
    return scales


Real = Annotated[float, BeforeValidator(_real)]
Whole = Annotated[int, BeforeValidator(_whole)]
Exponent = Annotated[Real, bounded(lambda value: value > 0, "it must be above 0; 1 is the plain shape.")]
Cycles = Annotated[Real, bounded(lambda value: value >= 0, "it must be 0 or more; 0.5 falls once, 1 falls and rises.")]
Window = Annotated[tuple[Real, Real], BeforeValidator(_pair)]
Steps = Annotated[tuple[Whole, Whole], BeforeValidator(_pair)]
Scales = Annotated[tuple[Real, ...], BeforeValidator(_scales)]
Moment = Annotated[int | float, BeforeValidator(_moment)]
Edge = Annotated[int | float, BeforeValidator(_edge)]


NEWER = " Where a newer cfglab wrote it, read it with that one."
"""Added to what is wrong with stored JSON."""


def boundary(moment: float, count: int) -> int:
    """The index of the first step at or after a moment of a run.

    Args:
        moment: A step (an int) or a fraction of the run (a float, 0 to 1).
        count: The number of steps of the run.

    Returns:
        The index; an int is returned as it is, a fraction gives 0 to `count`.

    Examples:
        >>> boundary(0.2, 30)
        6
    """
    if isinstance(moment, int):
        return moment
    index = min(math.ceil(moment * count), count)
    while index > 0 and (index - 1) / count >= moment:  # the product was rounded up
        index -= 1
    while index < count and index / count < moment:
        index += 1
    return index


def settled(w: float, *terms: float) -> float:
    """w, or exactly 1 or 0 if it differs from them only by the rounding error of its terms.

    w = 1 is no guidance, and the unconditional rows are left out there: 1 + 2e-16 would run them for nothing.

    Args:
        w: The computed scale.
        terms: The terms of the sum that gave w, at least one.

    Returns:
        w, 1.0 or 0.0.
    """
    rounding = 2**-52 * max(map(abs, terms))
    if abs(w - 1) <= rounding:
        return 1.0
    return 0.0 if abs(w) <= rounding else w


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 4, 60, 60, 60


def shown(value: Any, most: int = 60) -> str:
    """The repr of a value from outside, cut where it is long.

    Args:
        value: Any value.
        most: The largest number of characters, about.

    Returns:
        The text for a message.
    """
    if isinstance(value, str | bytes):
        text = repr(value[:most]) + ("…" if len(value) > most else "")
    else:
        try:
            text = _SHORT.repr(value)
        except (ValueError, RecursionError):  # an integer of thousands of digits
            text = f"a value of type {type(value).__name__}"
    return text if len(text) <= most + 3 else text[:most] + "…"


def nearest(name: object, names: Iterable[str]) -> str:
    """A suggestion for a misspelled name.

    Args:
        name: The name that was given; nothing is near to a value of another kind.
        names: The valid names.

    Returns:
        " did you mean …?" with the nearest of the names; the empty text if none is near or the name is very long.
    """
    if not isinstance(name, str) or len(name) > limits.NAME_LETTERS:
        return ""
    candidates = [valid for valid in itertools.islice(names, limits.NAMES) if len(valid) <= limits.NAME_LETTERS]
    closest = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    return f" did you mean {closest[0]}?" if closest else ""


def unknown_field(owner: str, name: str, fields: Iterable[str]) -> str:
    """The message for a field that `owner` does not have.

    Args:
        owner: The shape, method or transform.
        name: The field that was given.
        fields: The fields of the owner.

    Returns:
        One line.
    """
    names = list(fields)
    if owner == "cosine" and name in ("cycle_mul", "cycle_decay", "cycle_limit"):
        return (
            f"{owner} has no {name!r}: within one run that parameter of get_cos_sched changes nothing (cycle_limit=0 "
            "gives the constant min); for a restart write cosine().then(cosine(), at=0.5)."
        )
    if owner == "cosine" and name == "num_steps":
        return f"{owner} has no {name!r}: the run says how many steps it has; write .values(50) for a list."
    new_name = OLD_NAMES.get(name)
    hint = f" did you mean {new_name}?" if new_name in names else nearest(name, names) or " leave it out."
    return f"{owner} has no {shown(name)}: it takes {', '.join(names) or 'nothing'};{hint}"


def inline(text: str, most: int = limits.NAME_LETTERS) -> str:
    """Text from outside within a sentence: without quotes, on one line, cut where it is long.

    Args:
        text: The text.
        most: The largest number of characters.

    Returns:
        The text for a message.
    """
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[:most])
    return line + ("…" if len(text) > most else "")


def not_stored(error: Exception) -> str:
    """Why a value cannot be written as JSON, as one line.

    Args:
        error: The error of pydantic: of a function, which refuses it, or of text that is no Unicode.

    Returns:
        The message of the InputError.
    """
    message = str(error)
    start = message.find("the function")
    if start >= 0:
        return message[start:]
    return f"it cannot be stored as JSON ({inline(message, 160)}); change the text that it names."


def join_values(values: Sequence[Any], most: int = 4) -> str:
    """The first values of a list with commas between, for a message.

    Args:
        values: The values.
        most: How many are shown.

    Returns:
        The text, with … if values were left out.
    """
    return ", ".join([*map(shown, values[:most]), *(["…"] if len(values) > most else [])])


def explain(error: ValidationError, owner: str, fields: Iterable[str] = ()) -> str:
    """The first fault of a pydantic error as one line: the value, the rule, the next step.

    Args:
        error: The error.
        owner: The shape, method or transform whose fields were checked.
        fields: The fields of the owner.

    Returns:
        The message of the InputError.
    """
    fault = error.errors(include_url=False)[0]
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return str(cause)
    path = [part for part in fault["loc"] if part not in ("int", "float")]
    name = ".".join(inline(str(part)) for part in path[-4:])
    if fault["type"] == "extra_forbidden" and len(path) == 1:
        return unknown_field(owner, str(path[0]), fields)
    if fault["type"] == "missing":
        return f"{owner} without {name}: it is needed; write {owner}({name}=…)."
    rule = str(cause) if cause is not None else f"{fault['msg'].lower()}; change it."
    if not name:
        return rule
    return f"{owner}({name}={shown(fault['input'])}): {rule}"


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is 1.

    Args:
        number: The number.
        noun: The noun in the singular; its plural ends in s.

    Returns:
        The text.

    Examples:
        >>> counted(1, "prompt"), counted(1200, "prompt")
        ('1 prompt', '1,200 prompts')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
