"""The shapes: one formula, one reference each. i is the step's index, N the count, W the warm-up's steps.

Falling shapes go from `max` at the first step towards `min`, which they would reach at step N: the last step is just
above it. `p = (i - W) / (N - W)` is the elapsed fraction after the warm-up, a line from `warmup_start` at step 0 to
`max` at step W. `inverted()` makes them rise.
"""

import inspect
import itertools
import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from cfglab.errors import InputError
from cfglab.schedules.fields import Cycles, Exponent, Real, Scales, Whole, settled, shown
from cfglab.schedules.printer import NUMBER, PARTS, WORD, number, text_of
from cfglab.schedules.schedule import Schedule
from cfglab.step import Step


class Constant(Schedule):
    """w = value at every step; a plain number is read as one.

    Attributes:
        value: The scale, a finite number. It may be given by position: `Constant(7.5)`.

    Examples:
        >>> from cfglab import Constant
        >>> Constant(7.5).values(3)
        [7.5, 7.5, 7.5]
    """

    kind: Literal["constant"] = Field("constant", repr=False)
    positional: ClassVar[int] = 1
    value: Real

    if TYPE_CHECKING:

        def __init__(self, value: float) -> None: ...

    def _w(self, step: Step) -> float:  # noqa: ARG002
        return self.value

    def span(self) -> tuple[float, float]:
        """(value, value)."""
        return (self.value, self.value)


@text_of.register
def _(schedule: Constant, python: bool) -> tuple[str, int]:  # noqa: ARG001
    return number(schedule.value), NUMBER


class _Falling(Schedule):
    """From max towards min after an optional linear warm-up; the subclass says how far it has come at p."""

    max: Real = 7.5
    min: Real = 1.0
    warmup: Whole = 0
    warmup_start: Real = 0.0

    def _rest(self, p: float) -> float:
        raise NotImplementedError

    def _w(self, step: Step) -> float:
        if step.index < self.warmup:
            w = self.warmup_start + step.index * (self.max - self.warmup_start) / self.warmup
            return settled(w, self.warmup_start, self.max)
        p = (step.index - self.warmup) / max(1, step.count - self.warmup)
        rest = self._rest(p)
        if rest in (0, 1):  # min + (max - min) is not always max
            return self.max if rest else self.min
        return settled(self.min + (self.max - self.min) * rest, self.min, self.max)

    def span(self) -> tuple[float, float]:
        """(min, max), the declared range; a warm-up may start outside it."""
        return (self.min, self.max)


class Linear(_Falling):
    """w = min + (max - min) (1 - p): a line.

    Inverted it is the linear schedule of arXiv:2404.13040: `linear(max=2*w0-1, min=1).inverted()` has the area of the
    constant w0.

    Attributes:
        max: w at the first step, or at the end of the warm-up.
        min: The value that w would reach at step N, one after the last.
        warmup: The number of warm-up steps W, 0 or more.
        warmup_start: w at step 0 of the warm-up.

    Reference:
        arXiv:2404.13040.

    Examples:
        >>> from cfglab import Linear
        >>> Linear(max=8, min=4).values(4)
        [8.0, 7.0, 6.0, 5.0]
        >>> Linear(max=8, min=4, warmup=2).values(4)
        [0.0, 4.0, 8.0, 6.0]
    """

    kind: Literal["linear"] = Field("linear", repr=False)

    def _rest(self, p: float) -> float:
        return 1 - p


class Cosine(_Falling):
    """w = min + (max - min) (1 + cos(2 pi cycles p^k)) / 2: the k-decay of arXiv:2004.05909 on a cosine.

    k below 1 falls early, above 1 late. Half a cycle falls once, a whole one comes back. The same numbers as
    cf_guidance's `get_cos_sched`, whose `cycle_mul` and `cycle_decay` change nothing within a run and so do not exist
    here; a restart is `cosine().then(cosine(), at=0.5)`. Inverted, with min=1, it is the powered cosine of
    arXiv:2404.13040, whose weight is w - 1, and with k=5 the dynamic guidance of CogVideoX as meant.

    Attributes:
        max: w at the first step, or at the end of the warm-up.
        min: The lowest value; with half a cycle w would reach it at step N, one after the last.
        warmup: The number of warm-up steps W, 0 or more.
        warmup_start: w at step 0 of the warm-up.
        k: The exponent of the k-decay, above 0.
        cycles: The number of periods in a run, 0 or more.

    Reference:
        arXiv:2004.05909, arXiv:2404.13040.

    Examples:
        >>> from cfglab import Cosine
        >>> [round(w, 3) for w in Cosine(max=7.5, min=1, k=0.3).values(4)]
        [7.5, 2.687, 1.549, 1.109]
    """

    kind: Literal["cosine"] = Field("cosine", repr=False)
    k: Exponent = 1.0
    cycles: Cycles = 0.5

    def _rest(self, p: float) -> float:
        return (1 + math.cos(2 * math.pi * self.cycles * p**self.k)) / 2


class Power(_Falling):
    """w = min + (max - min) (1 - p^k)^power: the polynomial k-decay of arXiv:2004.05909. power = k = 1 is the line.

    Attributes:
        max: w at the first step, or at the end of the warm-up.
        min: The value that w would reach at step N, one after the last.
        warmup: The number of warm-up steps W, 0 or more.
        warmup_start: w at step 0 of the warm-up.
        power: The exponent of the polynomial, above 0.
        k: The exponent of the k-decay, above 0.

    Reference:
        arXiv:2004.05909.

    Examples:
        >>> from cfglab import Power
        >>> Power(max=5, min=1, power=2).values(4)
        [5.0, 3.25, 2.0, 1.25]
    """

    kind: Literal["power"] = Field("power", repr=False)
    power: Exponent = 2.0
    k: Exponent = 1.0

    def _rest(self, p: float) -> float:
        return (1 - p**self.k) ** self.power


class Table(Schedule):
    """One w per step, from a list: `Table([8, 8, 6, 4])`; a plain list is read as one.

    The text `10x8+10x6+10x4` is 10 steps at 8, then 10 at 6, then 10 at 4: steps x scale, the first step first. (The
    lists of stable-diffusion.cpp are scale x steps, the last step first: `from_sd_cpp` reads them.) Entries beyond the
    last step are not used. A call raises InputError if the run has more steps than there are entries.

    Attributes:
        entries: The scales, finite numbers, the first step first; 1 or more. They may be given by position.

    Examples:
        >>> from cfglab import Table
        >>> print(Table([8, 8, 6, 4]))
        2x8+1x6+1x4
        >>> Table([8, 8, 6, 4]).values(3)
        [8.0, 8.0, 6.0]
    """

    kind: Literal["table"] = Field("table", repr=False)
    positional: ClassVar[int] = 1
    entries: Scales

    if TYPE_CHECKING:

        def __init__(self, entries: Any) -> None: ...

    def _w(self, step: Step) -> float:
        if len(self.entries) < step.count:
            raise InputError(
                f"a list of {len(self.entries)} scales for {step.count} steps: every step needs its own; "
                f"add {step.count - len(self.entries)} or run {len(self.entries)} steps."
            )
        return self.entries[step.index]

    def span(self) -> tuple[float, float]:
        """(smallest entry, largest entry)."""
        return (min(self.entries), max(self.entries))


@text_of.register
def _(schedule: Table, python: bool) -> tuple[str, int]:
    runs = [(w, len(list(run))) for w, run in itertools.groupby(schedule.entries)]
    if python or len(runs) == len(schedule.entries):
        listed = f"[{', '.join(map(number, schedule.entries))}]"
        return (f"Table({listed})" if python else listed), WORD
    return "+".join(f"{count}x{number(w)}" for w, count in runs), PARTS


def function_name(function: Callable[..., Any]) -> str:
    """The name of a function for messages.

    Args:
        function: Any callable.

    Returns:
        Its `__name__`, or the name of its class.
    """
    return str(getattr(function, "__name__", type(function).__name__))


def _refuse(function: Callable[..., Any]) -> Any:
    raise ValueError(
        f"the function {function_name(function)!r} cannot be stored: another run could not call it; write it as a "
        "shape, or as the list of its values, Table(schedule.values(50))."
    )


def _callable(value: Any) -> Any:
    if not callable(value):
        raise ValueError("a function Step -> w is needed; write lambda step: 7.5 * (1 - step.progress).")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # of a builtin
        return value
    try:
        signature.bind(None)
    except TypeError as error:
        raise ValueError(
            f"it is called with one Step ({error}); write lambda step: 7.5 * (1 - step.progress)."
        ) from None
    return value


class Function(Schedule):
    """A live function Step -> w; compares by identity, and cannot be stored.

    Attributes:
        function: Takes a Step and returns w, a finite number; `Function(lambda step: 7.5)`.

    Examples:
        >>> from cfglab import Function
        >>> Function(lambda step: 8 - 4 * step.progress).values(2)
        [8.0, 6.0]
    """

    in_text: ClassVar[bool] = False

    kind: Literal["function"] = Field("function", repr=False)
    positional: ClassVar[int] = 1
    function: Annotated[
        Callable[[Step], float],
        PlainValidator(_callable),
        PlainSerializer(_refuse),
        WithJsonSchema({"not": {}, "description": "A live function cannot be written in JSON."}),
    ]

    if TYPE_CHECKING:

        def __init__(self, function: Callable[[Step], float]) -> None: ...

    def _w(self, step: Step) -> float:
        w = self.function(step)
        if not isinstance(w, bool | str | bytes) and "bool" not in str(getattr(w, "dtype", "")):
            with suppress(TypeError, ValueError):
                return float(w)
        raise InputError(
            f"{function_name(self.function)} gave {shown(w)} at step {step.index}: a schedule gives one number; "
            "return w."
        )


@text_of.register
def _(schedule: Function, python: bool) -> tuple[str, int]:
    function = schedule.function
    return (f"Function({function!r})" if python else f"function({function_name(function)})"), WORD
