"""Every kind of schedule as one field type, and the plain values that are accepted in place of a schedule."""

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from cfglab import limits
from cfglab.errors import InputError
from cfglab.json_text import check_tree, read_json
from cfglab.schedules.algebra import Arithmetic, Clipped, Inside, Inverted, Reversed, Then, WarmedUp
from cfglab.schedules.dose import Matched, Scaled
from cfglab.schedules.fields import NEWER, explain, nearest, shown
from cfglab.schedules.published.curves import C2FG, Beta
from cfglab.schedules.published.sampler_aware import CFGPlusPlus, CogVideoXShipped
from cfglab.schedules.schedule import Schedule
from cfglab.schedules.shapes import Constant, Cosine, Function, Linear, Power, Table

SHAPES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "linear": Linear,
    "cosine": Cosine,
    "power": Power,
    "table": Table,
    "beta": Beta,
    "c2fg": C2FG,
    "cfg_plus_plus": CFGPlusPlus,
    "cogvideox_shipped": CogVideoXShipped,
}
"""The shapes by the name they have in text."""

COMPOSITES = (Inverted, Reversed, Then, Inside, WarmedUp, Matched, Scaled, Clipped, Arithmetic)
KINDS = (*SHAPES, "function", *(str(kind.model_fields["kind"].default) for kind in COMPOSITES))


def _plain(value: Any) -> Any:
    """Numbers, text, lists and functions as schedules; JSON objects are left to their kind."""
    if not isinstance(value, dict):
        return as_schedule(value)
    kind = value.get("kind")
    if kind not in KINDS:
        hint = nearest(str(kind), KINDS) or " name one of them."
        raise ValueError(f"a schedule of kind {shown(kind)}: the kinds are {', '.join(KINDS)};{hint}")
    return value


if TYPE_CHECKING:
    AnySchedule = Schedule
else:
    AnySchedule = Annotated[
        Constant
        | Linear
        | Cosine
        | Power
        | Table
        | Beta
        | C2FG
        | CFGPlusPlus
        | CogVideoXShipped
        | Function
        | Inverted
        | Reversed
        | Then
        | Inside
        | WarmedUp
        | Matched
        | Scaled
        | Clipped
        | Arithmetic,
        Field(discriminator="kind"),
        BeforeValidator(_plain),
    ]
    for _kind in COMPOSITES:
        _kind.model_rebuild(_types_namespace={"AnySchedule": AnySchedule})

_ADAPTER: TypeAdapter[Schedule] = TypeAdapter(AnySchedule)


def as_schedule(value: Any) -> Schedule:
    """A schedule from any value that stands for one.

    Args:
        value: A schedule, a number, text that `parse` reads, a list of scales, a JSON object (a dict with its kind), or
            a function Step -> w.

    Returns:
        The schedule: a number becomes a Constant, a list a Table, a function a Function.

    Raises:
        InputError: The value is none of these, or one of its fields is not valid.

    Examples:
        >>> from cfglab import as_schedule
        >>> as_schedule(7.5)
        Constant(7.5)
        >>> as_schedule("2x8+1x6").values(3)
        [8.0, 8.0, 6.0]
    """
    from cfglab.schedules.parser import parse

    if isinstance(value, Schedule):
        return value
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, dict):
        check_tree(value, "a schedule")
        return _validated(lambda: _ADAPTER.validate_python(value))
    if isinstance(value, type):
        raise InputError(f"{value.__name__} is a class: a schedule is a value; write {value.__name__}(…).")
    if callable(value):
        return Function(value)
    if isinstance(value, Iterable) and getattr(value, "ndim", 1) == 1:
        return Table(tuple(itertools.islice(value, limits.SCALES + 1)))
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise InputError(
            f"{shown(value)} is no schedule: a number, text such as 'cosine(max=7.5, min=1)', a list of scales or a "
            "function is; write one of them."
        )
    return Constant(value)


def _validated(read: Callable[[], Schedule], said: str = "", more: str = "") -> Schedule:
    try:
        return read()
    except ValidationError as error:
        raise InputError(said + explain(error, "schedule") + more) from None


def to_json(schedule: Schedule) -> str:
    """See `Schedule.to_json`.

    Args:
        schedule: The schedule to store.

    Returns:
        A JSON object as text.

    Raises:
        InputError: The schedule contains a function.
    """
    try:
        return schedule.model_dump_json()
    except PydanticSerializationError as error:
        said = str(error)
        raise InputError(said[said.find("the function") :]) from None


def from_json(text: str) -> Schedule:
    """See `Schedule.from_json`.

    Args:
        text: A JSON object as text.

    Returns:
        The schedule.

    Raises:
        InputError: The text is not the JSON of a schedule.
    """
    name = "the JSON of a schedule"
    read = read_json(text, name)
    return _validated(lambda: _ADAPTER.validate_python(read), f"{name}: ", NEWER)
