"""Schedules made of schedules.

A composite is off wherever its operand is off; `Then` delegates to the active operand.
"""

from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from cfglab.errors import InputError, NoNoiseLevel
from cfglab.schedules.fields import Moment, Real, Steps, Window, boundary, settled
from cfglab.schedules.printer import PRODUCT, SUM, WORD, argument, call, operand, receiver, text_of
from cfglab.schedules.schedule import AnySchedule, Schedule
from cfglab.schedules.shapes import Constant
from cfglab.step import Step


class Around(Schedule):
    """One schedule, changed: off where it is off.

    Attributes:
        base: The schedule that is changed.
    """

    in_text: ClassVar[bool] = False

    base: AnySchedule

    def is_on(self, step: Step) -> bool:
        return self.base.is_on(step)

    def reads_sigma(self) -> bool:
        return self.base.reads_sigma()


def keep_steps(owner: str, schedule: Schedule) -> None:
    """Refuse what reads sigma where `owner` asks for w at another step than the run's, whose sigma is not known."""
    if schedule.reads_sigma():
        raise ValueError(
            f"{schedule}, {owner}: another step's sigma is not known; write .{owner} first and .inside(sigma=…) last."
        )


class Inverted(Around):
    """low + high - w, by default between the declared min and max of the base. Made by `Schedule.inverted`.

    Attributes:
        base: The schedule to mirror.
        low: The lower end of the range; None for the declared min. Given together with `high`.
        high: The upper end of the range; None for the declared max.
    """

    kind: Literal["inverted"] = Field("inverted", repr=False)
    low: Real | None = None
    high: Real | None = None

    @model_validator(mode="after")
    def _has_range(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError(
                f"inverted(low={self.low}, high={self.high}): a range has two ends; give both, or neither."
            )
        if self.low is None and self.base.span() is None:
            raise ValueError(
                f"{self.base}, inverted: composites and functions declare no min and max; "
                "write .inverted(low=1, high=7.5)."
            )
        return self

    def span(self) -> tuple[float, float] | None:
        """The range (low, high), or the declared range of the base."""
        if self.low is not None and self.high is not None:
            return (self.low, self.high)
        return self.base.span()

    def _w(self, step: Step) -> float:
        low, high = self.span() or (0.0, 0.0)
        w = self.base(step)
        if w in (low, high):  # low + high - high is not always low
            return high if w == low else low
        return settled(low + high - w, low, high, w)


@text_of.register
def _(schedule: Inverted, python: bool) -> tuple[str, int]:
    return call(schedule.base, python, "inverted", low=schedule.low, high=schedule.high)


class Reversed(Around):
    """The base's values from the last step to the first. Made by `Schedule.reversed`.

    Attributes:
        base: The schedule to reverse; it must not read sigma.
    """

    kind: Literal["reversed"] = Field("reversed", repr=False)

    @model_validator(mode="after")
    def _reads_no_sigma(self) -> Self:
        keep_steps("reversed()", self.base)
        return self

    def _mirror(self, step: Step) -> Step:
        return Step(step.count - 1 - step.index, step.count)

    def span(self) -> tuple[float, float] | None:
        """The declared range of the base."""
        return self.base.span()

    def is_on(self, step: Step) -> bool:
        return self.base.is_on(self._mirror(step))

    def _w(self, step: Step) -> float:
        return self.base(self._mirror(step))


@text_of.register
def _(schedule: Reversed, python: bool) -> tuple[str, int]:
    return call(schedule.base, python, "reversed")


class Then(Schedule):
    """The first schedule up to `at`, the second from there on, each over its own part as over a whole run.

    Made by `Schedule.then`.

    Attributes:
        first: The schedule before the switch.
        second: The schedule from the switch on.
        at: A step (an int, 1 or more) or a fraction of the run (a float, above 0 and at most 1.0).
    """

    moments: ClassVar[tuple[str, ...]] = ("at",)

    in_text: ClassVar[bool] = False

    kind: Literal["then"] = Field("then", repr=False)
    first: AnySchedule
    second: AnySchedule
    at: Moment

    def _active(self, step: Step) -> tuple[Schedule, Step]:
        switch = min(boundary(self.at, step.count), step.count)
        if step.index < switch:
            return self.first, replace(step, count=switch)
        return self.second, replace(step, index=step.index - switch, count=step.count - switch)

    def reads_sigma(self) -> bool:
        return self.first.reads_sigma() or self.second.reads_sigma()

    def is_on(self, step: Step) -> bool:
        schedule, part = self._active(step)
        return schedule.is_on(part)

    def _w(self, step: Step) -> float:
        schedule, part = self._active(step)
        return schedule(part)


@text_of.register
def _(schedule: Then, python: bool) -> tuple[str, int]:
    second = argument(schedule.second, python)
    return f"{receiver(schedule.first, python)}.then({second}, at={schedule.at!r})", WORD


class Inside(Around):
    """Guidance only inside one window; off outside. Made by `Schedule.inside`.

    The sigma window is that of arXiv:2404.07724, (low, high].

    Attributes:
        base: The schedule inside the window.
        progress: `a <= progress < b`, fractions of the run, 0 <= a < b <= 1.
        sigma: `low < sigma <= high`, in noise over signal, 0 <= low < high.
        steps: The steps a to b - 1, whole numbers, 0 <= a < b.

    Reference:
        arXiv:2404.07724.
    """

    kind: Literal["inside"] = Field("inside", repr=False)
    progress: Window | None = None
    sigma: Window | None = None
    steps: Steps | None = None

    @model_validator(mode="after")
    def _one_window(self) -> Self:
        windows = {name: getattr(self, name) for name in ("progress", "sigma", "steps") if getattr(self, name)}
        if len(windows) != 1:
            raise ValueError(
                f"inside with {' and '.join(windows) or 'no window'}: it takes one window; "
                "write progress=(0.2, 0.8), sigma=(0.2, 1.6) or steps=(5, 20), and .inside(…) again for another."
            )
        name, (low, high) = windows.popitem()
        if not 0 <= low < high or (self.progress and high > 1):
            rule = "0 <= a < b <= 1; write progress=(0.2, 0.8)" if self.progress else f"0 <= a < b; write {name}=(1, 5)"
            raise ValueError(f"inside({name}=({low:g}, {high:g})): a window (a, b) has {rule}.")
        return self

    def reads_sigma(self) -> bool:
        return self.sigma is not None or self.base.reads_sigma()

    def _is_inside(self, step: Step) -> bool:
        if self.progress:
            return self.progress[0] <= step.progress < self.progress[1]
        if self.steps:
            return self.steps[0] <= step.index < self.steps[1]
        if self.sigma is None or step.sigma is None:
            raise NoNoiseLevel(
                f"{self} at a step without sigma: the window is in noise over signal; give sigmas=, one a step."
            )
        return self.sigma[0] < step.sigma <= self.sigma[1]

    def is_on(self, step: Step) -> bool:
        return self._is_inside(step) and self.base.is_on(step)

    def _w(self, step: Step) -> float:
        return self.base(step)


@text_of.register
def _(schedule: Inside, python: bool) -> tuple[str, int]:
    window = {"progress": schedule.progress, "sigma": schedule.sigma, "steps": schedule.steps}
    return call(schedule.base, python, "inside", **window)


class WarmedUp(Around):
    """A line from `start` to the base's first value over `over`; the base runs over what remains.

    Made by `Schedule.warmed_up`.

    Attributes:
        base: The schedule after the warm-up; it must not read sigma.
        over: The length: steps (an int, 1 or more) or a fraction of the run (a float, above 0 and at most 1.0).
        start: w at the first step.
    """

    moments: ClassVar[tuple[str, ...]] = ("over",)

    kind: Literal["warmed_up"] = Field("warmed_up", repr=False)
    over: Moment
    start: Real = 1.0

    @model_validator(mode="after")
    def _reads_no_sigma(self) -> Self:
        keep_steps("warmed_up()", self.base)
        return self

    def _later(self, step: Step) -> tuple[int, Step]:
        """The warm-up's length, and the step of the base: its first one during the warm-up."""
        length = boundary(self.over, step.count)
        rest = max(1, step.count - length)
        if step.index < length:
            return length, Step(0, rest)
        return length, replace(step, index=step.index - length, count=rest)

    def is_on(self, step: Step) -> bool:
        return self.base.is_on(self._later(step)[1])

    def _w(self, step: Step) -> float:
        length, later = self._later(step)
        w = self.base(later)
        if step.index >= length:
            return w
        return settled(self.start + (w - self.start) * step.index / length, self.start, w)

    @classmethod
    def of_length(cls, base: Schedule, steps: int | None, fraction: float | None, start: float) -> Self:
        """See `Schedule.warmed_up`.

        Args:
            base: The schedule after the warm-up.
            steps: The length in steps, or None.
            fraction: The length as a fraction of the run, or None.
            start: w at the first step.

        Returns:
            The schedule with the warm-up.

        Raises:
            InputError: Not exactly one length is given, or it is out of range.
        """
        if (steps is None) == (fraction is None):
            raise InputError(
                f"warmed_up(steps={steps}, fraction={fraction}): give one; write warmed_up(5) or fraction=0.1."
            )
        length = steps if fraction is None else fraction
        schedule = cls(base=base, over=length, start=start)
        if isinstance(schedule.over, int) != (steps is not None):
            raise InputError(
                f"warmed_up({'steps' if fraction is None else 'fraction'}={length}): steps are whole, a fraction is "
                "between 0 and 1; write warmed_up(5) or warmed_up(fraction=0.1), 1.0 for the whole run."
            )
        return schedule


@text_of.register
def _(schedule: WarmedUp, python: bool) -> tuple[str, int]:
    length = f"steps={schedule.over}" if isinstance(schedule.over, int) else f"fraction={schedule.over!r}"
    return call(schedule.base, python, "warmed_up", length, start=None if schedule.start == 1 else schedule.start)


class Clipped(Around):
    """The base limited to the range from low to high. Made by `Schedule.clip`.

    Attributes:
        base: The schedule to clip.
        low: The lower bound; None for no bound.
        high: The upper bound; None for no bound.
    """

    kind: Literal["clipped"] = Field("clipped", repr=False)
    low: Real | None = None
    high: Real | None = None

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError(
                "clip without bounds: it holds w between two; write .clip(low=0, high=10), or one of them."
            )
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"clip(low={self.low:g}, high={self.high:g}): low is at most high; swap them.")
        return self

    def _w(self, step: Step) -> float:
        w = self.base(step)
        if self.low is not None:
            w = max(w, self.low)
        return w if self.high is None else min(w, self.high)


@text_of.register
def _(schedule: Clipped, python: bool) -> tuple[str, int]:
    return call(schedule.base, python, "clip", low=schedule.low, high=schedule.high)


class Arithmetic(Schedule):
    """left + right, left - right or left * right; off where either is off. Made by the operators of `Schedule`.

    Attributes:
        op: "+", "-" or "*".
        left: The left operand.
        right: The right operand.
    """

    in_text: ClassVar[bool] = False

    kind: Literal["arithmetic"] = Field("arithmetic", repr=False)
    op: Literal["+", "-", "*"]
    left: AnySchedule
    right: AnySchedule

    def reads_sigma(self) -> bool:
        return self.left.reads_sigma() or self.right.reads_sigma()

    def is_on(self, step: Step) -> bool:
        return self.left.is_on(step) and self.right.is_on(step)

    def _w(self, step: Step) -> float:
        left, right = self.left(step), self.right(step)
        if self.op == "*":
            return left * right
        return settled(left + right if self.op == "+" else left - right, left, right)


@text_of.register
def _(schedule: Arithmetic, python: bool) -> tuple[str, int]:
    level = PRODUCT if schedule.op == "*" else SUM
    constants = isinstance(schedule.left, Constant) and isinstance(schedule.right, Constant)
    left = receiver(schedule.left, python) if constants else operand(schedule.left, level, python)
    return f"{left} {schedule.op} {operand(schedule.right, level + 1, python)}", level
