"""The kinds of fields schedules are made of, and their errors in one line: the value, the rule, the next step."""

import difflib
import math
import types
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationError

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


def _whole(value: Any) -> int:
    """A whole number of steps, 0 or more."""
    number = _real(value)
    if number != int(number) or number < 0:
        raise ValueError("a whole number of steps is needed, 0 or more; write one such as 5.")
    return int(number)


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("it must be above 0; 1 is the plain shape.")
    return value


def _not_negative(value: float) -> float:
    if value < 0:
        raise ValueError("it must be 0 or more; 0.5 falls once, 1 falls and rises.")
    return value


def _moment(value: Any) -> int | float:
    """A step (1, 2, …) or an elapsed fraction between 0 and 1."""
    number = _real(value)
    if 0 < number < 1:
        return number
    if number < 1 or number != int(number):
        raise ValueError("a whole step (1 or more) or a fraction between 0 and 1 is needed; write 10 or 0.2.")
    return int(number)


def _pair(value: Any) -> Any:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError("two numbers are needed, where it opens and where it closes; write (0.2, 0.8).")
    return tuple(value)


def _scales(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("a list of scales is needed, one a step; write [8, 6, 4].")
    scales = tuple(value)
    if not 1 <= len(scales) <= 10_000:
        raise ValueError(f"a list has 1 to 10000 scales, this one {len(scales)}; write one a step, [8, 6, 4].")
    return scales


Real = Annotated[float, BeforeValidator(_real)]
Whole = Annotated[int, BeforeValidator(_whole)]
Exponent = Annotated[Real, AfterValidator(_positive)]
Cycles = Annotated[Real, AfterValidator(_not_negative)]
Window = Annotated[tuple[Real, Real], BeforeValidator(_pair)]
Scales = Annotated[tuple[Real, ...], BeforeValidator(_scales)]
Moment = Annotated[int | float, BeforeValidator(_moment)]


NEWER = " Where a newer cfglab wrote it, read it with that one."
"""Added to what is wrong with stored JSON."""


def boundary(moment: float, count: int) -> int:
    """The index of the first step at or after a moment of a run of `count` steps."""
    if isinstance(moment, int):
        return moment
    return next((index for index in range(count) if index / count >= moment), count)


def nearest(name: str, known: Iterable[str]) -> str:
    """' did you mean …?' with the nearest of the known names, or nothing where none is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" did you mean {close[0]}?" if close else ""


def unknown_field(owner: str, name: str, known: Iterable[str]) -> str:
    """The line for a field that `owner` does not have."""
    known = list(known)
    if owner == "cosine" and name in ("cycle_mul", "cycle_decay", "cycle_limit"):
        return (
            f"{owner} has no {name!r}: within one run that parameter of get_cos_sched changes nothing (cycle_limit=0 "
            "gives the constant min); for a restart write cosine().then(cosine(), at=0.5)."
        )
    if owner == "cosine" and name == "num_steps":
        return f"{owner} has no {name!r}: the run says how many steps it has; write .values(50) for a list."
    old = OLD_NAMES.get(name)
    hint = f" did you mean {old}?" if old in known else nearest(name, known) or " leave it out."
    return f"{owner} has no {name!r}: it takes {', '.join(known) or 'nothing'};{hint}"


def explain(error: ValidationError, owner: str, known: Iterable[str] = ()) -> str:
    """The first fault of a pydantic error as one line: the value, the rule, the next step."""
    fault = error.errors(include_url=False)[0]
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return str(cause)
    path = [part for part in fault["loc"] if part not in ("int", "float")]
    name = ".".join(str(part) for part in path)
    if fault["type"] == "extra_forbidden" and len(path) == 1:
        return unknown_field(owner, name, known)
    if fault["type"] == "missing":
        return f"{owner} without {name}: it is needed; write {owner}({name}=…)."
    said = str(cause) if cause is not None else f"{fault['msg'].lower()}; change it."
    if not name:
        return said
    shown = repr(fault["input"])
    return f"{owner}({name}={shown if len(shown) <= 60 else shown[:60] + '…'}): {said}"
