"""The Step of a guider's call: which loop is calling, and where it is.

diffusers tells a guider a counter, a number of steps that is not the number of calls, and a timestep; neither the
scheduler nor sigma. The scheduler is found in the loop that calls, the place in the run from the timestep itself.
"""

from dataclasses import replace
from types import FrameType
from typing import Any

from torch import Tensor

from cfglab.denoising.step_reader import read_steps
from cfglab.errors import InputError
from cfglab.step import Step


def host_of(frame: FrameType | None) -> Any:
    """The pipeline whose loop is calling: the nearest caller's `components` (a Modular block) or `self` (a pipeline)
    that has a scheduler. Raises InputError where there is none.

    Reading it off the caller is the only way that needs nothing from the user and stays right when the scheduler is
    replaced, a guider is shared, or a pipeline is loaded from disk.
    """
    while frame is not None:
        for name in ("components", "self"):
            host = frame.f_locals.get(name)
            if getattr(getattr(host, "scheduler", None), "timesteps", None) is not None:
                return host
        frame = frame.f_back
    raise InputError(
        "a guider's set_state called outside of a pipeline: its scheduler, and with it the step, cannot be found; "
        "in a loop of your own use Guidance.start().combine(uncond, cond, step, latents)."
    )


class Looping:
    """Where a loop is. A new run is seen by `scheduler.timesteps` being a new object, or by going back."""

    def __init__(self) -> None:
        self._timesteps: Any = None
        self._steps: list[Step] = []
        self._begin = 0
        self._call = -1

    def step(self, scheduler: Any, counter: int, timestep: Any) -> tuple[Step, bool]:
        """The Step of the loop's call number `counter`, which is at `timestep`, and whether a new run begins with it.
        Raises InputError past the end of the run."""
        call = _place(scheduler, counter, timestep)
        new = scheduler.timesteps is not self._timesteps or call <= self._call
        if new:
            self._timesteps = scheduler.timesteps  # kept, so that its id is not used again
            self._begin = call - counter
            self._steps = _from(read_steps(scheduler), len(scheduler.timesteps), self._begin)
        self._call = call
        if not 0 <= call - self._begin < len(self._steps):
            raise InputError(
                f"call {counter + 1} of a run of {len(self._steps)} calls: the step cannot be known; call "
                "scheduler.set_timesteps(...) before each run."
            )
        return self._steps[call - self._begin], new


def _place(scheduler: Any, counter: int, timestep: Any) -> int:
    """Where `timestep` stands in `scheduler.timesteps`. Loops iterate over these, so it is a view of one of them, and
    its place in memory tells which, also where a timestep stands twice; without waiting for the device."""
    listed = scheduler.timesteps
    if isinstance(timestep, Tensor) and timestep.untyped_storage().data_ptr() == listed.untyped_storage().data_ptr():
        return (timestep.storage_offset() - listed.storage_offset()) // listed.stride(0)
    return (getattr(scheduler, "begin_index", None) or 0) + counter


def _from(steps: list[Step], calls: int, begin: int) -> list[Step]:
    """The steps of a run that begins at call `begin`, counted from there."""
    skipped = calls - len(steps)  # what the scheduler knows to be skipped
    first = steps[begin - skipped].index if begin > skipped else 0
    return [
        replace(step, index=step.index - first, count=step.count - first) for step in steps[max(begin - skipped, 0) :]
    ]
