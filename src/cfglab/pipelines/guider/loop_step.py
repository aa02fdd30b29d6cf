"""The Step of a guider's call: which scheduler the calling loop uses, and where in its run the loop is.

diffusers passes a guider a counter, a number of steps that is not the number of calls, and a timestep. It passes
neither the scheduler nor sigma. The scheduler is bound by the user, or read from the frame of the calling loop; the
position in the run is read from the timestep.
"""

from dataclasses import replace
from types import FrameType
from typing import Any

from torch import Tensor

from cfglab.denoising.step_reader import read_steps
from cfglab.errors import InputError
from cfglab.step import Step


def find_host(frame: FrameType | None) -> Any:
    """The pipeline whose loop is calling, read from the frames of its callers.

    It is the nearest caller's `components` (a Modular block) or `self` (a pipeline) that has a scheduler. It needs
    nothing from the user, and stays right if the scheduler is replaced, a guider is shared, or a pipeline is loaded
    from disk.

    Args:
        frame: The frame of the caller.

    Returns:
        The pipeline or its components; None if there is none.
    """
    while frame is not None:
        for name in ("components", "self"):
            host = frame.f_locals.get(name)
            if getattr(getattr(host, "scheduler", None), "timesteps", None) is not None:
                return host
        frame = frame.f_back
    return None


class LoopReader:
    """The position of a loop in its run. A new `scheduler.timesteps`, or a step back, begins a new run."""

    def __init__(self) -> None:
        self._timesteps: Any = None
        self._steps: list[Step] = []
        self._begin = 0
        self._call = -1

    def step(self, scheduler: Any, counter: int, timestep: Any) -> tuple[Step, bool]:
        """The Step of one call of the loop.

        Args:
            scheduler: The loop's scheduler, after `set_timesteps`.
            counter: The number of the call, from 0.
            timestep: Its timestep; a view of `scheduler.timesteps` gives the position exactly.

        Returns:
            The Step, and whether a new run begins with it.

        Raises:
            InputError: The call is past the end of the run.
        """
        call = _call_index(scheduler, counter, timestep)
        new = scheduler.timesteps is not self._timesteps or call <= self._call
        if new:
            self._timesteps = scheduler.timesteps  # kept, so that its id is not used again
            self._begin = call - counter
            self._steps = _steps_from(read_steps(scheduler), len(scheduler.timesteps), self._begin)
        self._call = call
        if not 0 <= call - self._begin < len(self._steps):
            raise InputError(
                f"call {counter + 1} of a run of {len(self._steps)} calls: the step cannot be known; call "
                "scheduler.set_timesteps(...) before each run."
            )
        return self._steps[call - self._begin], new


def _call_index(scheduler: Any, counter: int, timestep: Any) -> int:
    """The index of `timestep` in `scheduler.timesteps`.

    Loops iterate over these, so a timestep is a view of them. Its storage offset gives the index, even if a timestep
    occurs twice, and without waiting for the device.
    """
    timesteps = scheduler.timesteps
    if isinstance(timestep, Tensor) and timestep.untyped_storage().data_ptr() == timesteps.untyped_storage().data_ptr():
        return (timestep.storage_offset() - timesteps.storage_offset()) // timesteps.stride(0)
    return (getattr(scheduler, "begin_index", None) or 0) + counter


def _steps_from(steps: list[Step], calls: int, begin: int) -> list[Step]:
    """The steps of a run that begins at call `begin`, counted from there."""
    skipped = calls - len(steps)  # what the scheduler knows to be skipped
    first_index = steps[begin - skipped].index if begin > skipped else 0
    return [
        replace(step, index=step.index - first_index, count=step.count - first_index)
        for step in steps[max(begin - skipped, 0) :]
    ]
