"""Schedules in the notation of other programs: reading and writing."""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cfglab import limits
from cfglab.errors import InputError
from cfglab.json_text import read_json
from cfglab.schedules.coercion import as_schedule
from cfglab.schedules.fields import nearest, shown
from cfglab.schedules.schedule import Schedule
from cfglab.schedules.shapes import Constant, Table

_PART = re.compile(r"\s*+([+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE]-?[0-9]++)?)\s*+x\s*+([0-9]{1,9})\s*+")
"""Scale x steps, in decimal notation."""


DYNTHRES: Mapping[str, Callable[[float, float], float]] = MappingProxyType(
    {
        "Constant": lambda f, k: 1.0,  # noqa: ARG005
        "Linear Down": lambda f, k: 1 - f,  # noqa: ARG005
        "Cosine Down": lambda f, k: math.cos(f * math.pi / 2),  # noqa: ARG005
        "Half Cosine Down": lambda f, k: math.cos(f),  # noqa: ARG005
        "Linear Up": lambda f, k: f,  # noqa: ARG005
        "Cosine Up": lambda f, k: 1 - math.cos(f * math.pi / 2),  # noqa: ARG005
        "Half Cosine Up": lambda f, k: 1 - math.cos(f),  # noqa: ARG005
        "Power Up": lambda f, k: f**k,
        "Power Down": lambda f, k: 1 - f**k,
        "Linear Repeating": lambda f, k: abs(1 - 2 * (f * k % 1)),
        "Cosine Repeating": lambda f, k: math.cos(2 * math.pi * f * k) / 2 + 0.5,
        "Sawtooth": lambda f, k: f * k % 1,
    }
)
"""The twelve modes of Dynamic Thresholding by their names: the share of `scale - minimum` at f = i / (N - 1)."""


def from_dynthres(mode: str, scale: float, steps: int, *, minimum: float = 0.0, value: float = 4.0) -> Table:
    """The schedule of a mode of Dynamic Thresholding, `minimum + (scale - minimum) * share(i / (N - 1))`.

    Its curves end at the last step, so they depend on the number of steps and are a table here. The node of ComfyUI
    does not know that number and counts to 999.

    Args:
        mode: The name in the program's list, such as "Half Cosine Up"; case does not matter, `_` is a space.
        scale: The CFG scale, or the mimic scale.
        steps: The number of steps of the run, 1 or more.
        minimum: The minimum of the scale.
        value: The scheduler value: the exponent of the powers, the number of repetitions; above 0.

    Returns:
        A table with one entry per step, the first step first.

    Raises:
        InputError: There is no such mode, or a number is out of range.

    Reference:
        mcmonkeyprojects/sd-dynamic-thresholding, `DynThresh.interpret_scale`.

    Examples:
        >>> from cfglab.schedules import from_dynthres
        >>> print(from_dynthres("Linear Down", 7, 4, minimum=1))
        [7, 5, 3, 1]
    """
    names = {name.lower().replace(" ", "_"): name for name in DYNTHRES}
    key = str(mode).lower().replace(" ", "_")
    if key not in names:
        raise InputError(
            f"mode {shown(mode)}: Dynamic Thresholding has {', '.join(DYNTHRES)};{nearest(key, names) or ' name one.'}"
        )
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= limits.SCALES:
        raise InputError(f"{shown(steps)} steps: a run has 1 to {limits.SCALES}, a whole number; give steps=50.")
    if not all(math.isfinite(number) for number in (scale, minimum, value)) or value <= 0:
        raise InputError(
            f"scale {scale}, minimum {minimum} and value {value}: finite numbers, and a value above 0; write value=4."
        )
    share = DYNTHRES[names[key]]
    fractions = (index / max(1, steps - 1) for index in range(steps))
    return Table([minimum + (scale - minimum) * share(fraction, value) for fraction in fractions])


def from_sd_cpp(text: str, steps: int | None = None, scale: float | None = None) -> Table:
    """The schedule of stable-diffusion.cpp's `guidance_schedule`.

    `3x3+7x45` is **scale x steps, the last step first**: 3 in the last 3 steps, 7 in the 45 before. As in that program,
    a list that is too short begins with its `--cfg-scale`, here `scale`, and of a list that is too long the steps
    nearest to the image are kept.

    Args:
        text: The `guidance_schedule`, scale x steps with `+` between the parts.
        steps: The number of steps of the run, 1 or more; None for as many as listed.
        scale: The scale of the first steps if the list is too short.

    Returns:
        A table with one entry per step, the first step first.

    Raises:
        InputError: The text has another form, `scale` is needed and missing, or the list is exactly one step too long,
            of which that program drops the last step's entry instead.

    Examples:
        >>> from cfglab.schedules import from_sd_cpp
        >>> print(from_sd_cpp("3x2+7x4"))
        4x7+2x3
    """
    values: list[float] = []
    quoted = shown(text)
    for part in text.strip().split("+", limits.SCALES + 1):
        match = _PART.fullmatch(part)
        if not match or not 1 <= int(match[2]) <= limits.SCALES:
            raise InputError(
                f"{quoted}: {shown(part)} is no part of a guidance_schedule: parts are scale x steps, the last step "
                "first; write 3x3+7x45."
            )
        values += [float(match[1])] * int(match[2])
        if len(values) > limits.SCALES:
            raise InputError(f"{quoted}: {len(values)} steps or more; a list has {limits.SCALES} at most.")
    count = len(values) if steps is None else steps
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= limits.SCALES:
        raise InputError(f"{shown(steps)} steps: a run has 1 to {limits.SCALES}, a whole number; give steps=50.")
    if len(values) == count + 1:
        raise InputError(
            f"{quoted} for {count} steps: of a list one step too long stable-diffusion.cpp drops the last step's "
            f"entry; list {count} steps."
        )
    if len(values) < count and scale is None:
        raise InputError(f"{quoted} for {count} steps: the first {count - len(values)} have no scale; give scale=.")
    values = (values + [scale or 0.0] * count)[:count]
    return Table(values[::-1])


def to_sd_cpp(schedule: Schedule | Any, steps: int, sigmas: Sequence[float] | None = None) -> str:
    """The `guidance_schedule` of stable-diffusion.cpp, scale x steps, the last step first; `from_sd_cpp` reads it back.

    Args:
        schedule: A schedule, or a value that `as_schedule` accepts.
        steps: The number of steps of the run, 1 or more.
        sigmas: The noise levels, as in `Schedule.values`.

    Returns:
        The text of the option.

    Raises:
        InputError: The value is not a schedule, or `Schedule.values` raises.

    Examples:
        >>> from cfglab.schedules import to_sd_cpp
        >>> to_sd_cpp([7, 7, 3], steps=3)
        '3x1+7x2'
    """
    values = as_schedule(schedule).values(steps, sigmas)[::-1]
    runs = [(w, len(list(run))) for w, run in itertools.groupby(values)]
    return "+".join(f"{repr(w).removesuffix('.0').replace('e+', 'e')}x{count}" for w, count in runs)


def from_invokeai(value: str | float | Sequence[float]) -> Schedule:
    """The schedule of InvokeAI's `cfg_scale`.

    Args:
        value: One number, or a list (or its JSON) with one scale per step, the first step first, each 1 or more.

    Returns:
        A Constant for a number, a Table for a list.

    Raises:
        InputError: The value has another form, or a scale is below 1.

    Examples:
        >>> from cfglab.schedules import from_invokeai
        >>> from_invokeai("[7.5, 3]").values(2)
        [7.5, 3.0]
    """
    try:
        scales = read_json(value) if isinstance(value, str) else value
    except InputError as error:
        raise InputError(f"{shown(value)} is no cfg_scale ({error}); write [7.5, 7.5, 3].") from None
    if isinstance(scales, dict | str | None):
        raise InputError(f"{shown(value)} is no cfg_scale: it is a number or a JSON list; write [7.5, 7.5, 3].")
    schedule = as_schedule(scales)
    _check_invokeai(list(schedule.entries) if isinstance(schedule, Table) else schedule.values(1))
    return schedule


def to_invokeai(schedule: Schedule | Any, steps: int, sigmas: Sequence[float] | None = None) -> float | list[float]:
    """InvokeAI's `cfg_scale` of a run.

    Args:
        schedule: A schedule, or a value that `as_schedule` accepts.
        steps: The number of steps of the run, 1 or more.
        sigmas: The noise levels, as in `Schedule.values`.

    Returns:
        A number for a constant schedule; otherwise a list, one scale per step, the first step first.

    Raises:
        InputError: A scale is below 1, which InvokeAI refuses, or the value is not a schedule.

    Examples:
        >>> from cfglab import Linear
        >>> from cfglab.schedules import to_invokeai
        >>> to_invokeai(Linear(max=8, min=4), steps=4)
        [8.0, 7.0, 6.0, 5.0]
    """
    schedule = as_schedule(schedule)
    values = schedule.values(steps, sigmas)
    _check_invokeai(values)
    return values[0] if isinstance(schedule, Constant) else values


def _check_invokeai(values: list[float]) -> None:
    for index, w in enumerate(values):
        if w < 1:
            raise InputError(f"w = {w:g} at step {index}: InvokeAI's cfg_scale is 1 or more; write .clip(low=1).")
