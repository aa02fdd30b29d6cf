"""The catalogue of methods as controls: each field's kind, bounds and default, read from the classes themselves."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from cfglab.errors import InputError
from cfglab.guidance import TRANSFORMS, Guidance, Transform, parse_transform
from cfglab.guidance.guidance import parse_guidance
from cfglab.method_card import Card
from cfglab.schedules import PUBLISHED, SHAPES, parse
from cfglab.schedules.published.cards import CARDS
from cfglab.schedules.registry import WORDS

_LOWEST = (-1e6, -1.0, -0.99, 0.0, 0.01, 1.0, 2.0)
_HIGHEST = (1e6, 1000.0, 100.0, 10.0, 1.0, 0.99)
_FIRST = (7.5, 1.0, 0.5, 0.05)
"""Values that are tried, in this order, where a field has no default."""


@dataclass(frozen=True, slots=True)
class Control:
    """How one field is set.

    Attributes:
        name: the field.
        kind: a slider, a list of choices, a switch, text in quotes, or a raw value such as `(1, 0.5)`.
        default: the default of the field; `required` fields have a value to start with.
        required: whether the field must be written.
        low: the lower end of a slider.
        high: the upper end of a slider; larger values can be typed where the field allows them.
        step: the step of a slider.
        choices: the choices.
    """

    name: str
    kind: Literal["slider", "choice", "switch", "text", "raw"]
    default: Any
    required: bool = False
    low: float = 0.0
    high: float = 1.0
    step: float = 0.01
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """A schedule or a transform with its facts and controls."""

    name: str
    role: Literal["schedule", "transform"]
    title: str
    says: str
    formula: str
    paper: str | None
    rows: str
    controls: tuple[Control, ...]

    def text(self, values: dict[str, Any]) -> str:
        """The text of the method with these values; values that equal the default are left out."""
        parts = []
        for control in self.controls:
            value = values.get(control.name, control.default)
            absent = value is None or (control.kind == "raw" and value == "")  # as a page has an empty box
            if not absent and (control.required or value != control.default):
                written = _written(control, value)
                quoted = self.role == "schedule" and control.kind == "choice"  # as the text form of schedules has it
                parts.append(f'{control.name}="{written}"' if quoted else f"{control.name}={written}")
        return f"{self.name}({', '.join(parts)})"


@cache
def methods() -> dict[str, Method]:
    """Every method of the catalogue by its name in text: schedules first, then transforms."""
    known = {}
    for name in dict.fromkeys((*SHAPES, *PUBLISHED)):
        fields = _fields_of_function(PUBLISHED[name]) if name in PUBLISHED else _fields_of_model(SHAPES[name])
        known[name] = _method(name, "schedule", CARDS.get(name), fields, PUBLISHED.get(name) or SHAPES[name])
    for name, transform in TRANSFORMS.items():
        known[name] = _method(name, "transform", transform.card, _fields_of_model(transform), transform)
    return known


def compose(guidance: str, method: Method, values: dict[str, Any]) -> str:
    """The guidance with this method in it: another schedule, or a transform in the place of one of its kind.

    Args:
        guidance: the text of a guidance; where it cannot be read, the constant 7.5 is taken.
        method: the method.
        values: the values of its controls by name.

    Returns:
        The text of the new guidance.

    Raises:
        InputError: a value is not valid.
    """
    try:
        before = parse_guidance(guidance)
    except InputError:
        before = Guidance(7.5)
    if method.role == "schedule":
        return str(Guidance(parse(method.text(values)), before.transforms))
    added = parse_transform(method.text(values))
    transforms: list[Transform] = [added if item.kind == added.kind else item for item in before.transforms]
    return str(Guidance(before.schedule, transforms if added in transforms else [*transforms, added]))


def completions() -> dict[str, Any]:
    """The words of the text form: schedules and transforms with their fields, and the methods of the algebra."""
    return {
        "schedules": {m.name: [c.name for c in m.controls] for m in methods().values() if m.role == "schedule"},
        "transforms": {m.name: [c.name for c in m.controls] for m in methods().values() if m.role == "transform"},
        "words": list(WORDS),
    }


def _method(
    name: str,
    role: Literal["schedule", "transform"],
    card: Card | None,
    fields: dict[str, tuple[Any, Any]],
    source: Callable[..., Any],
) -> Method:
    line = (inspect.getdoc(source) or name).splitlines()[0].rstrip(".")
    formula, _, about = line.partition(": ") if "=" in line else ("", "", line)
    example = getattr(source, "example", {})
    controls = tuple(
        _control(field, annotation, default, example.get(field, "")) for field, (annotation, default) in fields.items()
    )
    if card is None:
        return Method(name, role, name.replace("_", " ").capitalize(), about, formula, None, "2", controls)
    return Method(name, role, card.title, card.says, card.formula, card.paper, card.rows, controls)


def _fields_of_model(model: Any) -> dict[str, tuple[Any, Any]]:
    return {
        name: (Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation, field.default)
        for name, field in model.model_fields.items()
        if name != "kind"
    }


def _fields_of_function(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    return {
        name: (hints[name], PydanticUndefined if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
    }


def _control(name: str, annotation: Any, default: Any, example: Any) -> Control:
    required = default is PydanticUndefined
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    allows = _validator(annotation)
    if get_origin(plain) is Literal:
        choices = tuple(map(str, get_args(plain)))
        return Control(name, "choice", choices[0] if required else str(default), required, choices=choices)
    if plain is bool:
        return Control(name, "switch", False if required else default, required)
    if plain in (int, float) or (_is_union(plain) and set(get_args(plain)) == {int, float}):
        return _slider(name, plain is int, None if required else default, allows, fraction=plain not in (int, float))
    if get_origin(plain) is not tuple and str in (plain, *get_args(plain)):
        return Control(name, "text", example if required else default, required)
    start = _raw(() if required else default)
    return Control(name, "raw", start, required)


def _slider(
    name: str, whole: bool, default: float | None, allows: Callable[[Any], bool], *, fraction: bool = False
) -> Control:
    """A slider between the ends that the field itself accepts; without an end, around the default. A field that takes
    a step or a fraction has a slider over the fractions."""
    if fraction:
        return Control(name, "slider", 0.5 if default is None else default, default is None)
    kind: Callable[[float], Any] = int if whole else float
    low = float(next((kind(value) for value in _LOWEST if allows(kind(value))), 0.0))
    high = next((value for value in _HIGHEST if allows(kind(value))), 1.0)
    required = default is None
    start = next((value for value in _FIRST if allows(kind(value))), low) if default is None else default
    if low == _LOWEST[0]:
        low = min(0.0, 2.0 * start)
    if high >= 1000.0:
        high = max(4.0 * abs(start), 20.0 if start == 0 or abs(start) >= 5 else 4.0)
    step = 1.0 if whole else 0.01 if high - low <= 5 else 0.1
    return Control(name, "slider", kind(start), required, low, high, step)


def _validator(annotation: Any) -> Callable[[Any], bool]:
    adapter = TypeAdapter(annotation)

    def allows(value: Any) -> bool:
        try:
            adapter.validate_python(value)
        except (ValidationError, InputError):
            return False
        return True

    return allows


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def _written(control: Control, value: Any) -> str:
    if control.kind == "text":
        return repr(str(value)).replace("|", r"\x7c")
    if control.kind == "slider":
        number = float(value)
        return f"{number:.0f}" if isinstance(control.default, int) else f"{number!r}"
    return str(value)


def _raw(value: Any) -> str | None:
    """A default that is no number, as the text form writes it."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(str, value))}{',' if len(value) == 1 else ''})"
    return None if value is None else str(value)
