"""Schedule: the guidance scale w as an immutable value that is called with a Step, and the methods of the algebra."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from cfglab.errors import InputError
from cfglab.json_text import read_json
from cfglab.schedules.base import ScheduleValue
from cfglab.schedules.fields import NEWER, shown
from cfglab.schedules.json_schema import schema_of_kinds
from cfglab.schedules.registry import KINDS, coerce, kind_of, word


class Schedule(ScheduleValue):
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
        name = "the JSON of a schedule"
        value = read_json(text, name)
        try:
            return from_object(value) if isinstance(value, dict) else _coerced(value)
        except ValueError as error:
            raise InputError(f"{name}: {error}{NEWER}") from None

    # -- the algebra ---------------------------------------------------------------------------------------------

    @word
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
        return KINDS["inverted"](base=self, low=low, high=high)

    @word
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
        return KINDS["reversed"](base=self)

    @word
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
        return KINDS["then"](first=self, second=other, at=at)

    @word
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
        return KINDS["inside"](base=self, progress=progress, sigma=sigma, steps=steps)

    @word
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
        return KINDS["warmed_up"].of_length(self, steps, fraction, start)

    @word
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
        return KINDS["matched"].of_run(self, dose, weight, limit, sigmas, s)

    @word
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
        return KINDS["scaled"](base=self, factor=factor)

    @word
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
        return KINDS["clipped"](base=self, low=low, high=high)

    def _with(self, op: str, operand: Any, swap: bool = False) -> "Schedule":
        if not isinstance(operand, Schedule | int | float):
            return NotImplemented
        left, right = (operand, self) if swap else (self, operand)
        return KINDS["arithmetic"](op=op, left=left, right=right)

    def __add__(self, operand: "Schedule | float") -> "Schedule":
        return self._with("+", operand)

    def __radd__(self, operand: float) -> "Schedule":
        return self._with("+", operand, swap=True)

    def __sub__(self, operand: "Schedule | float") -> "Schedule":
        return self._with("-", operand)

    def __rsub__(self, operand: float) -> "Schedule":
        return self._with("-", operand, swap=True)

    def __mul__(self, operand: "Schedule | float") -> "Schedule":
        return self._with("*", operand)

    def __rmul__(self, operand: float) -> "Schedule":
        return self._with("*", operand, swap=True)


def from_object(value: dict[str, Any]) -> Schedule:
    """The schedule of a JSON object.

    Args:
        value: A dict with the `kind` and the fields of a schedule.

    Returns:
        The schedule.

    Raises:
        InputError: A field is not valid.
        ValueError: There is no such kind.
    """
    kind = kind_of(value)
    if unnamed := [name for name in value if not isinstance(name, str)]:
        raise InputError(f"{value['kind']} with the field {shown(unnamed[0])}: fields have names; write 'max'.")
    return kind(**value)


def _coerced(value: Any) -> Schedule:
    if isinstance(value, Schedule):
        return value
    return from_object(value) if isinstance(value, dict) else coerce(value)


class _OfAnyKind:
    """A field that takes whatever stands for a schedule; its JSON schema is the union of the kinds."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _coerced, serialization=core_schema.simple_ser_schema("any")
        )

    def __get_pydantic_json_schema__(
        self,
        schema: core_schema.CoreSchema,
        handler: GetJsonSchemaHandler,
    ) -> JsonSchemaValue:
        return schema_of_kinds(handler)


if TYPE_CHECKING:
    AnySchedule = Schedule
else:
    AnySchedule = Annotated[Schedule, _OfAnyKind()]
