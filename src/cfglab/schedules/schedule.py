"""Schedule: the guidance scale w as a frozen value that is called with a Step, and the words that combine schedules."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cfglab import limits
from cfglab.errors import InputError
from cfglab.schedules.fields import explain, listed, shown
from cfglab.step import Step, steps


def _check_size(schedule: "Schedule", owner: str) -> None:
    """Refuse more parts than any method has, so that every schedule can be printed, stored and read back."""
    level, parts = [schedule], 1
    for _ in range(limits.LEVELS):
        level = [part for node in level for part in node.__dict__.values() if isinstance(part, Schedule)]
        parts += len(level)
        if not level:
            return
        if parts > limits.PARTS:
            break
    raise InputError(
        f"{owner}: schedules inside schedules more than {limits.LEVELS} deep, or more than {limits.PARTS} of them: a "
        "schedule is simpler; write a list of scales."
    )


class Schedule(BaseModel):
    """Step -> w, where `uncond + w * (cond - uncond)`, so w = 1 is no guidance.

    A value: it compares, hashes, prints (`str` is the text form that `parse` reads, `repr` is Python) and goes to JSON
    and back. A bad field raises InputError in one line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    positional: ClassVar[int] = 0
    moments: ClassVar[tuple[str, ...]] = ()
    """Fields in which 1 is a step and 1.0 the whole run, so that equal numbers are not the same."""

    def __init__(self, *args: Any, **data: Any) -> None:
        names = [name for name in type(self).model_fields if name != "kind"]
        owner = str(type(self).model_fields["kind"].default)
        if len(args) > self.positional:
            raise InputError(
                f"{owner}({listed(args)}): values are given by name; write {owner}({names[0]}={shown(args[0])}, …)."
            )
        fields = dict(zip(names, args, strict=False))
        if twice := fields.keys() & data.keys():
            raise InputError(f"{owner} with {', '.join(twice)} twice: a field has one value; give it once.")
        try:
            super().__init__(**fields, **data)
        except ValidationError as error:
            raise InputError(explain(error, owner, names)) from None
        _check_size(self, owner)

    def __eq__(self, other: object) -> bool:
        """Equal fields, and a step for a step, a fraction for a fraction."""
        same = super().__eq__(other)
        return same and all(type(getattr(self, name)) is type(getattr(other, name)) for name in self.moments)

    def __str__(self) -> str:
        from cfglab.schedules.parser import write

        return write(self)

    def __repr__(self) -> str:
        from cfglab.schedules.parser import write

        return write(self, python=True)

    def to_json(self) -> str:
        """The schedule as JSON; `from_json` reads it back. Raises InputError for what cannot be stored: a function."""
        from cfglab.schedules.union import to_json

        return to_json(self)

    @staticmethod
    def from_json(text: str) -> "Schedule":
        """The schedule that `to_json` wrote. Raises InputError."""
        from cfglab.schedules.union import from_json

        return from_json(text)

    # -- the two questions a run asks ----------------------------------------------------------------------------

    def __call__(self, step: Step) -> float:
        """w at this step; 1 where guidance is off. Raises InputError if it is not finite."""
        if not self.is_on(step):
            return 1.0
        w = self._w(step)
        if not math.isfinite(w):
            raise InputError(
                f"w = {w!r} at step {step.index} of {self}: w is finite; bound it, as with .clip(-20, 20)."
            )
        return w

    def is_on(self, step: Step) -> bool:  # noqa: ARG002 (shapes are on everywhere)
        """False where guidance is off: the conditional prediction is used and transforms are skipped."""
        return True

    def _w(self, step: Step) -> float:
        """w at a step where the schedule is on: what each shape defines."""
        raise NotImplementedError

    # -- the whole run -------------------------------------------------------------------------------------------

    def values(self, n: int, sigmas: Sequence[float] | None = None) -> list[float]:
        """w at each of n steps. `sigmas` (noise over signal, n or n + 1 of them) only matters to what reads sigma,
        which raises InputError without them."""
        return [self(step) for step in steps(n, sigmas)]

    def dose(self, n: int, sigmas: Sequence[float] | None = None) -> float:
        """The mean of w over the n steps."""
        return math.fsum(self.values(n, sigmas)) / n

    def effective_dose(self, sigmas: Sequence[float], s: float = 1.0) -> float:
        """The mean of w weighted by how much each step moves structure of size `s` (see `step_weights`).

        `sigmas` are the n + 1 levels of a run, the last being where it ends (0, as schedulers list them).
        """
        from cfglab.schedules.dose import step_weights

        weights = step_weights(sigmas, s)
        return math.fsum(map(math.prod, zip(weights, self.values(len(weights), sigmas), strict=True)))

    def span(self) -> tuple[float, float] | None:
        """The declared (min, max) that `inverted()` mirrors between; None for composites and functions."""
        return None

    def reads_sigma(self) -> bool:
        """Whether the schedule needs what only the sampler knows: sigma, as `inside(sigma=…)` does, or the timestep."""
        return False

    # -- the algebra ---------------------------------------------------------------------------------------------

    def inverted(self, low: float | None = None, high: float | None = None) -> "Schedule":
        """w -> low + high - w, by default between the declared min and max. A warm-up is mirrored too and may leave the
        range. Composites and functions declare no range: give `low` and `high`."""
        from cfglab.schedules.algebra import Inverted

        return Inverted(base=self, low=low, high=high)

    def reversed(self) -> "Schedule":
        """The same values from the last step to the first."""
        from cfglab.schedules.algebra import Reversed

        return Reversed(base=self)

    def then(self, other: Any, at: float) -> "Schedule":
        """This schedule up to `at`, the other from there on. An int is a step and a float a fraction of the run: 1 is
        step 1, 1.0 the end of the run. Each runs over its own part as over a whole run, so a cosine before the switch
        has fallen by the switch."""
        from cfglab.schedules.algebra import Then

        return Then(first=self, second=other, at=at)

    def inside(
        self,
        progress: tuple[float, float] | None = None,
        sigma: tuple[float, float] | None = None,
        steps: tuple[int, int] | None = None,
    ) -> "Schedule":
        """Guidance is off outside one window: `a <= progress < b`, `low < sigma <= high`, or steps a to b - 1."""
        from cfglab.schedules.algebra import Inside

        return Inside(base=self, progress=progress, sigma=sigma, steps=steps)

    def warmed_up(self, steps: int | None = None, *, fraction: float | None = None, start: float = 1.0) -> "Schedule":
        """A line from `start` to this schedule's first value over some steps, or a fraction of the run; the schedule
        then runs over what remains."""
        from cfglab.schedules.algebra import warmed_up

        return warmed_up(self, steps, fraction, start)

    def scaled(self, factor: float) -> "Schedule":
        """1 + factor * (w - 1): more or less guidance in the same shape."""
        from cfglab.schedules.dose import Scaled

        return Scaled(base=self, factor=factor)

    def matched_to(
        self,
        dose: float,
        weight: Literal["steps", "effective"] = "steps",
        limit: float = 15.0,
        sigmas: Sequence[float] | None = None,
        s: float = 1.0,
    ) -> "Schedule":
        """1 + c (w - 1) with the c that gives this dose; see `cfglab.schedules.dose`.

        The mean over the steps (`weight="steps"`) is matched for whatever number of steps a run has. The effective dose
        needs the `sigmas` of the run (n + 1 levels), and so does anything that reads sigma: c is then found once and
        the result is `scaled(c)`. Raises NotMatchable, for the first kind when it is called, where no c of 0 or more
        does it with |w| <= limit.
        """
        from cfglab.schedules.dose import matched

        return matched(self, dose, weight, limit, sigmas, s)

    def clip(self, low: float | None = None, high: float | None = None) -> "Schedule":
        """w held between `low` and `high`, either of which may be left out."""
        from cfglab.schedules.algebra import Clipped

        return Clipped(base=self, low=low, high=high)

    def _with(self, op: str, other: Any, swap: bool = False) -> "Schedule":
        from cfglab.schedules.algebra import Arithmetic
        from cfglab.schedules.union import as_schedule

        if not isinstance(other, Schedule | int | float):
            return NotImplemented
        left, right = (as_schedule(other), self) if swap else (self, as_schedule(other))
        return Arithmetic(op=op, left=left, right=right)

    def __add__(self, other: "Schedule | float") -> "Schedule":
        return self._with("+", other)

    def __radd__(self, other: float) -> "Schedule":
        return self._with("+", other, swap=True)

    def __sub__(self, other: "Schedule | float") -> "Schedule":
        return self._with("-", other)

    def __rsub__(self, other: float) -> "Schedule":
        return self._with("-", other, swap=True)

    def __mul__(self, other: "Schedule | float") -> "Schedule":
        return self._with("*", other)

    def __rmul__(self, other: float) -> "Schedule":
        return self._with("*", other, swap=True)
