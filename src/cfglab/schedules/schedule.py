"""Schedule: the guidance scale w as an immutable value that is called with a Step, and the methods of the algebra."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cfglab import limits
from cfglab.errors import InputError
from cfglab.schedules.fields import explain, join_values, shown
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
    """The guidance scale w as a function of the step, where `uncond + w * (cond - uncond)`, so w = 1 is no guidance.

    The base class of all shapes and composites. An immutable value: it compares, hashes, prints (`str` is the text form
    that `parse` reads, `repr` is Python) and converts to JSON and back. `+`, `-` and `*` combine schedules and numbers.
    An invalid field raises InputError with a message of one line.

    Attributes:
        kind: The name of the shape or operation in text and in JSON.

    Examples:
        >>> from cfglab import Cosine, Linear
        >>> schedule = 2 * Linear(max=4, min=2) - 1
        >>> schedule.values(2)
        [7.0, 5.0]
        >>> print(Cosine(max=7.5, min=1).inverted())
        cosine(max=7.5, min=1).inverted()
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
                f"{owner}({join_values(args)}): values are given by name; "
                f"write {owner}({names[0]}={shown(args[0])}, …)."
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
        """The schedule as JSON; `from_json` reads it back.

        Returns:
            A JSON object as text, with the `kind` and all fields.

        Raises:
            InputError: The schedule contains a function, which cannot be stored.

        Examples:
            >>> from cfglab import Linear, Schedule
            >>> Linear(max=8, min=4).to_json()
            '{"kind":"linear","max":8.0,"min":4.0,"warmup":0,"warmup_start":0.0}'
            >>> Schedule.from_json(Linear(max=8, min=4).to_json()) == Linear(max=8, min=4)
            True
        """
        from cfglab.schedules.union import to_json

        return to_json(self)

    @staticmethod
    def from_json(text: str) -> "Schedule":
        """The schedule that `to_json` wrote.

        Args:
            text: A JSON object with the `kind` and the fields of a schedule.

        Returns:
            A schedule equal to the one that was written.

        Raises:
            InputError: The text is not JSON, or its kind, fields or values are not those of a schedule.
        """
        from cfglab.schedules.union import from_json

        return from_json(text)

    # -- the two questions a run asks ----------------------------------------------------------------------------

    def __call__(self, step: Step) -> float:
        """The scale w at one step.

        Args:
            step: The step; schedules that read sigma need its `sigma`.

        Returns:
            w, a finite number; 1 where guidance is off.

        Raises:
            InputError: w is not finite, or the step lacks a value that the schedule reads.

        Examples:
            >>> from cfglab import Linear, Step
            >>> Linear(max=8, min=4)(Step(index=1, count=4))
            7.0
        """
        if not self.is_on(step):
            return 1.0
        w = self._w(step)
        if not math.isfinite(w):
            raise InputError(
                f"w = {w!r} at step {step.index} of {self}: w is finite; bound it, as with .clip(-20, 20)."
            )
        return w

    def is_on(self, step: Step) -> bool:  # noqa: ARG002 (shapes are on everywhere)
        """Whether guidance is on at this step.

        Args:
            step: The step.

        Returns:
            False where guidance is off: the conditional prediction is used and transforms are skipped.

        Raises:
            InputError: The schedule has a window in sigma, and the step has no sigma.
        """
        return True

    def _w(self, step: Step) -> float:
        """w at a step where the schedule is on: what each shape defines."""
        raise NotImplementedError

    # -- the whole run -------------------------------------------------------------------------------------------

    def values(self, n: int, sigmas: Sequence[float] | None = None) -> list[float]:
        """The scale w at each of n steps.

        Args:
            n: The number of steps, 1 or more.
            sigmas: The noise levels (noise over signal), n or n + 1 of them, falling; only read by schedules for which
                `reads_sigma()` is true.

        Returns:
            n numbers, the first step first.

        Raises:
            InputError: `n` or `sigmas` is not valid (see `steps`), or the schedule reads sigma and `sigmas` is None.

        Examples:
            >>> from cfglab import Constant
            >>> Constant(5).inside(sigma=(0.5, 6)).values(3, sigmas=[10, 5, 1])
            [1.0, 5.0, 5.0]
        """
        return [self(step) for step in steps(n, sigmas)]

    def dose(self, n: int, sigmas: Sequence[float] | None = None) -> float:
        """The mean of w over the n steps.

        Args:
            n: The number of steps, 1 or more.
            sigmas: The noise levels, as in `values`.

        Returns:
            The mean, in the unit of w; steps at which guidance is off count as 1.

        Raises:
            InputError: As `values` does.

        Examples:
            >>> from cfglab import Linear
            >>> Linear(max=8, min=4).dose(4)
            6.5
        """
        return math.fsum(self.values(n, sigmas)) / n

    def effective_dose(self, sigmas: Sequence[float], s: float = 1.0) -> float:
        """The mean of w weighted by how much each step moves structure of size `s` (see `step_weights`).

        Args:
            sigmas: The n + 1 noise levels (noise over signal) of a run of n steps, falling, the last being where the
                run ends (0, as schedulers list them).
            s: The size of structure, above 0, in the units of the latents.

        Returns:
            The weighted mean, in the unit of w.

        Raises:
            InputError: `sigmas` or `s` is not valid (see `step_weights`).

        Examples:
            >>> from cfglab import Linear
            >>> round(Linear(max=8, min=4).effective_dose([10, 1, 0]), 3)
            7.349
        """
        from cfglab.schedules.dose import step_weights

        weights = step_weights(sigmas, s)
        return math.fsum(map(math.prod, zip(weights, self.values(len(weights), sigmas), strict=True)))

    def span(self) -> tuple[float, float] | None:
        """The declared range of w, between whose ends `inverted()` mirrors.

        Returns:
            (min, max); None for composites and functions, which declare no range.
        """
        return None

    def reads_sigma(self) -> bool:
        """Whether the schedule reads a value of the sampler: sigma, as `inside(sigma=…)` does, or the timestep.

        Returns:
            True if w at a step depends on the step's `sigma`, `next_sigma` or `timestep`.
        """
        return False

    # -- the algebra ---------------------------------------------------------------------------------------------

    def inverted(self, low: float | None = None, high: float | None = None) -> "Schedule":
        """The mirrored schedule: w -> low + high - w, by default between the declared min and max.

        A warm-up is mirrored too and may leave the range.

        Args:
            low: The lower end of the range; None for the declared min.
            high: The upper end of the range; None for the declared max.

        Returns:
            The mirrored schedule.

        Raises:
            InputError: Only one end is given, or none is given and the schedule is a composite or a function, which
                declare no range.

        Examples:
            >>> from cfglab import Linear
            >>> Linear(max=8, min=4).inverted().values(4)
            [4.0, 5.0, 6.0, 7.0]
        """
        from cfglab.schedules.algebra import Inverted

        return Inverted(base=self, low=low, high=high)

    def reversed(self) -> "Schedule":
        """The same values from the last step to the first.

        Returns:
            The reversed schedule.

        Raises:
            InputError: The schedule reads sigma.

        Examples:
            >>> from cfglab import Linear
            >>> Linear(max=8, min=4).reversed().values(4)
            [5.0, 6.0, 7.0, 8.0]
        """
        from cfglab.schedules.algebra import Reversed

        return Reversed(base=self)

    def then(self, other: Any, at: float) -> "Schedule":
        """This schedule up to `at`, the other schedule from there on.

        Each runs over its own part as over a whole run, so a cosine before the switch has fallen by the switch.

        Args:
            other: The second schedule, or a value that `as_schedule` accepts.
            at: The moment of the switch. An int is a step, 1 or more; a float is a fraction of the run, above 0 and at
                most 1.0: 1 is step 1, 1.0 the end of the run.

        Returns:
            The combined schedule.

        Raises:
            InputError: `other` is not a schedule, or `at` is outside its range.

        Examples:
            >>> from cfglab import Constant
            >>> Constant(3).then(7, at=0.5).values(4)
            [3.0, 3.0, 7.0, 7.0]
        """
        from cfglab.schedules.algebra import Then

        return Then(first=self, second=other, at=at)

    def inside(
        self,
        progress: tuple[float, float] | None = None,
        sigma: tuple[float, float] | None = None,
        steps: tuple[int, int] | None = None,
    ) -> "Schedule":
        """Guidance is on inside one window and off outside. Give exactly one window.

        Args:
            progress: `a <= progress < b`, fractions of the run with 0 <= a < b <= 1.
            sigma: `low < sigma <= high`, in noise over signal, with 0 <= low < high.
            steps: The steps a to b - 1, whole numbers with 0 <= a < b.

        Returns:
            The schedule with the window.

        Raises:
            InputError: No window or more than one is given, or its ends are out of order or out of range.

        Examples:
            >>> from cfglab import Constant
            >>> Constant(5).inside(progress=(0.5, 1)).values(4)
            [1.0, 1.0, 5.0, 5.0]
        """
        from cfglab.schedules.algebra import Inside

        return Inside(base=self, progress=progress, sigma=sigma, steps=steps)

    def warmed_up(self, steps: int | None = None, *, fraction: float | None = None, start: float = 1.0) -> "Schedule":
        """A line from `start` to this schedule's first value; the schedule then runs over the rest. Give one length.

        Args:
            steps: The length in steps, 1 or more.
            fraction: The length as a fraction of the run, above 0 and at most 1.
            start: w at the first step.

        Returns:
            The schedule with the warm-up.

        Raises:
            InputError: Not exactly one length is given, it is out of range, or the schedule reads sigma.

        Examples:
            >>> from cfglab import Constant
            >>> Constant(5).warmed_up(2).values(4)
            [1.0, 3.0, 5.0, 5.0]
        """
        from cfglab.schedules.algebra import warmed_up

        return warmed_up(self, steps, fraction, start)

    def scaled(self, factor: float) -> "Schedule":
        """1 + factor * (w - 1): more or less guidance in the same shape.

        Args:
            factor: The factor, a finite number; 1 changes nothing, 0 gives w = 1.

        Returns:
            The scaled schedule.

        Raises:
            InputError: `factor` is not a finite number.

        Examples:
            >>> from cfglab import Constant
            >>> Constant(5).scaled(0.5).values(2)
            [3.0, 3.0]
        """
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

        The mean over the steps (`weight="steps"`) is matched for every number of steps. The effective dose needs the
        `sigmas` of the run, and so does every schedule that reads sigma: c is then computed once and the result is
        `scaled(c)`.

        Args:
            dose: The mean of w to reach.
            weight: "steps" for the plain mean over the steps, "effective" for the mean weighted by `step_weights`.
            limit: The largest |w| allowed, above 0.
            sigmas: The n + 1 noise levels (noise over signal) of the run.
            s: The size of structure for the effective dose, above 0, in the units of the latents.

        Returns:
            The matched schedule.

        Raises:
            NotMatchable: No c of 0 or more gives the dose with |w| <= limit. For the plain mean without `sigmas`, this
                is raised when the schedule is called.
            InputError: `sigmas` is needed and missing, or an argument is not valid.

        Examples:
            >>> from cfglab import Linear
            >>> Linear(max=8, min=4).matched_to(5).dose(50)
            5.0
        """
        from cfglab.schedules.dose import matched

        return matched(self, dose, weight, limit, sigmas, s)

    def clip(self, low: float | None = None, high: float | None = None) -> "Schedule":
        """w limited to the range from `low` to `high`.

        Args:
            low: The lower bound; None for no bound.
            high: The upper bound; None for no bound.

        Returns:
            The clipped schedule.

        Raises:
            InputError: Both bounds are None, or low is above high.

        Examples:
            >>> from cfglab import Linear
            >>> Linear(max=8, min=4).clip(high=6).values(4)
            [6.0, 6.0, 6.0, 5.0]
        """
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
