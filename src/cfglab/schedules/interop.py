"""Schedules in the notation of other programs: reading and writing."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

from cfglab import limits
from cfglab.errors import InputError
from cfglab.json_text import read_json
from cfglab.schedules.coercion import as_schedule
from cfglab.schedules.fields import shown
from cfglab.schedules.schedule import Schedule
from cfglab.schedules.shapes import Constant, Table

_PART = re.compile(r"\s*+([+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE]-?[0-9]++)?)\s*+x\s*+([0-9]{1,9})\s*+")
"""Scale x steps, in decimal notation."""


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
