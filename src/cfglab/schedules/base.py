"""What every schedule is: an immutable value with a name, which is called with a Step and prints itself."""

import math
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError

from cfglab import limits
from cfglab.errors import InputError
from cfglab.plugins import is_outside
from cfglab.schedules.contracts import check_kind
from cfglab.schedules.fields import explain, join_values, not_stored, shown
from cfglab.schedules.printer import write
from cfglab.schedules.registry import enter_kind
from cfglab.step import Step, step_weights, steps


def _check_size(schedule: "ScheduleValue", owner: str) -> None:
    """Refuse more parts than any method has, so that every schedule can be printed, stored and read back."""
    level, parts = [schedule], 1
    for _ in range(limits.LEVELS):
        level = [part for node in level for part in node.__dict__.values() if isinstance(part, ScheduleValue)]
        parts += len(level)
        if not level:
            return
        if parts > limits.PARTS:
            break
    raise InputError(
        f"{owner}: schedules inside schedules more than {limits.LEVELS} deep, or more than {limits.PARTS} of them: a "
        "schedule is simpler; write a list of scales."
    )


class ScheduleValue(BaseModel):
    """The value under `Schedule`, without the algebra: fields, text, JSON, and the questions that a run asks.

    Attributes:
        kind: The name of the shape or operation in text and in JSON.
        positional: How many fields may be given by position.
        moments: Fields in which 1 is a step and 1.0 the whole run, so that equal numbers are not the same.
        in_text: False: text does not call the kind by name, since a word or an operator makes it.
        example: Values of the fields that have no default, with which the contracts of a new kind are checked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    positional: ClassVar[int] = 0
    moments: ClassVar[tuple[str, ...]] = ()
    in_text: ClassVar[bool] = True
    example: ClassVar[dict[str, Any]] = {}

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
        for name, value in self.__dict__.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{owner}({name}={value}): a finite number is needed; write one such as 7.5.")
        if self.kind != owner:
            raise InputError(f"{owner}(kind={shown(self.kind)}): a class has one kind, {owner}; leave it out.")
        _check_size(self, owner)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        kind = cls.model_fields["kind"].default
        if isinstance(kind, str):  # without one it is a base of others
            enter_kind(kind, cls, check_kind if is_outside(cls) else None)

    def __eq__(self, value: object) -> bool:
        """Equal fields, and a step for a step, a fraction for a fraction."""
        return super().__eq__(value) is True and all(
            type(getattr(self, name)) is type(getattr(value, name)) for name in self.moments
        )

    def __str__(self) -> str:
        return write(self)

    def __repr__(self) -> str:
        return write(self, python=True)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """The curve, for notebooks."""
        from cfglab.schedules.figure import bundle_of

        return bundle_of(repr(self), [self], None, None, include, exclude)

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
        try:
            return self.model_dump_json()
        except PydanticSerializationError as error:
            raise InputError(not_stored(error)) from None

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
