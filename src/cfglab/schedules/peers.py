"""Schedules as other programs write them, in and out."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

from cfglab.errors import InputError
from cfglab.schedules.base import Schedule
from cfglab.schedules.shapes import Constant, Table
from cfglab.schedules.union import as_schedule


def from_sd_cpp(text: str, steps: int | None = None, scale: float | None = None) -> Table:
    """The schedule of stable-diffusion.cpp's `guidance_schedule`, for a run of `steps` (by default, as many as listed).

    `3x3+7x45` is **scale x steps, the last step first**: 3 in the last 3 steps, 7 in the 45 before. As that program
    does, a list too short begins with its `--cfg-scale`, here `scale`, and of a list too long the steps nearest to the
    image are kept. Raises InputError for another form, no `scale` where one is needed, and a list exactly one step too
    long, of which that program drops the last step's entry instead.
    """
    values: list[float] = []
    for part in text.strip().split("+"):
        w, _, times = part.partition("x")
        try:
            values += [float(w)] * _positive(times)
        except ValueError:
            raise InputError(
                f"{text!r}: {part!r} is no part of a guidance_schedule: parts are scale x steps, the last step first; "
                "write 3x3+7x45."
            ) from None
        if len(values) > 10_000:
            raise InputError(f"{text[:60]!r}: {len(values)} steps or more; a list has 10000 at most.")
    count = len(values) if steps is None else steps
    if len(values) == count + 1:
        raise InputError(
            f"{text!r} for {count} steps: of a list one step too long stable-diffusion.cpp drops the last step's "
            f"entry; list {count} steps."
        )
    if len(values) < count and scale is None:
        raise InputError(f"{text!r} for {count} steps: the first {count - len(values)} have no scale; give scale=.")
    values = (values + [scale or 0.0] * count)[:count]
    return Table(values[::-1])


def _positive(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 10_000:
        raise ValueError
    return count


def to_sd_cpp(schedule: Schedule | Any, steps: int, sigmas: Sequence[float] | None = None) -> str:
    """The `guidance_schedule` of a run of `steps`, scale x steps, the last step first; `from_sd_cpp` reads it back.

    `sigmas` as in `Schedule.values`. Raises InputError."""
    values = as_schedule(schedule).values(steps, sigmas)[::-1]
    runs = [(w, len(list(same))) for w, same in itertools.groupby(values)]
    return "+".join(f"{repr(w).removesuffix('.0').replace('e+', 'e')}x{count}" for w, count in runs)


def from_invokeai(value: str | float | Sequence[float]) -> Schedule:
    """The schedule of InvokeAI's `cfg_scale`: one number, or a list (or its JSON) with one scale a step, the first
    step first, each 1 or more. Raises InputError."""
    try:
        read = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise InputError(f"{value!r} is no cfg_scale: it is a number or a JSON list; write [7.5, 7.5, 3].") from None
    if isinstance(read, dict | str | None):
        raise InputError(f"{value!r} is no cfg_scale: it is a number or a JSON list; write [7.5, 7.5, 3].")
    schedule = as_schedule(read)
    _check_invokeai(list(schedule.entries) if isinstance(schedule, Table) else schedule.values(1))
    return schedule


def to_invokeai(schedule: Schedule | Any, steps: int, sigmas: Sequence[float] | None = None) -> float | list[float]:
    """InvokeAI's `cfg_scale` of a run of `steps`: a number where it is constant, else the list, one scale a step.

    `sigmas` as in `Schedule.values`. Raises InputError for a scale below 1, which InvokeAI refuses."""
    schedule = as_schedule(schedule)
    values = schedule.values(steps, sigmas)
    _check_invokeai(values)
    return values[0] if isinstance(schedule, Constant) else values


def _check_invokeai(values: list[float]) -> None:
    for index, w in enumerate(values):
        if w < 1:
            raise InputError(f"w = {w:g} at step {index}: InvokeAI's cfg_scale is 1 or more; write .clip(low=1).")
