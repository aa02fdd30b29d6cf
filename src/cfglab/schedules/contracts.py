"""The contracts of a kind of schedule, checked when a class of another package enters its name."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cfglab.errors import CfglabError, InputError
from cfglab.plugins import NotReadyError, path_of
from cfglab.schedules import registry
from cfglab.schedules.fields import shown
from cfglab.step import Step

COUNTS = (1, 2, 7, 50)
"""Numbers of steps of the runs on which a new kind is called."""
TRIED = (2.0, 2, (2.0, 3.0), (2, 3))
"""Values that are tried for a field without a default, besides those in `example`."""


def check_kind(kind: Any) -> None:
    """Refuse a class that breaks a contract of schedules, by the name of the contract.

    A schedule of this class is built from its defaults and its `example`, then once more for each field with another
    value, and each is compared, printed, stored and called.

    Args:
        kind: A subclass of Schedule whose name is entered.

    Raises:
        InputError: A contract is broken.
        NotReadyError: The module of the class does not yet define all that the class uses.
    """
    with refused_by_name(kind, "schedule") as owner:
        check_frozen(kind, owner)
        for schedule in _examples(kind, owner):
            check_value(schedule, owner, registry.coerce, _names(kind))
            _check_scales(schedule, owner)


@contextmanager
def refused_by_name(kind: Any, noun: str) -> Iterator[str]:
    """What goes wrong inside as an InputError that names the class.

    Args:
        kind: The class whose contracts are checked inside.
        noun: "schedule" or "transform".

    Yields:
        The name of the class, for messages.

    Raises:
        InputError: Anything but a name that is not defined yet was raised inside.
        NotReadyError: A name is not defined yet.
    """
    owner = f"{noun} {kind.model_fields['kind'].default!r} of {path_of(kind)}"
    try:
        yield owner
    except NameError as error:
        raise NotReadyError(f"{error} while its contracts are checked; define it, or import it") from None
    except (CfglabError, NotReadyError):
        raise
    except Exception as error:
        raise InputError(
            f"{owner}: {type(error).__name__} while its contracts are checked ({shown(str(error))}); mend it."
        ) from error


def check_frozen(kind: Any, owner: str) -> None:
    """The contracts of an immutable value: frozen, and complete.

    Args:
        kind: A pydantic class.
        owner: The class, for messages.

    Raises:
        InputError: The class is not frozen, or takes fields that it does not have.
        NotReadyError: An annotation of the class names what is not defined.
    """
    if not kind.__pydantic_complete__:
        raise NotReadyError(f"an annotation of {kind.__name__} names what is not defined; import it")
    if kind.model_config.get("frozen") is not True:
        raise InputError(f"{owner}: it is an immutable value, frozen=True in its model_config; leave that as it is.")
    if kind.model_config.get("extra") != "forbid":
        raise InputError(f"{owner}: it refuses fields that it does not have, extra='forbid'; leave that as it is.")


def check_value(value: Any, owner: str, parse: Callable[[str], Any], names: dict[str, Any]) -> None:
    """The contracts of a value: it hashes, and repr, text and JSON give an equal one back.

    Args:
        value: The schedule or transform.
        owner: Its class, for messages.
        parse: Reads the text.
        names: The names with which Python evaluates a repr.

    Raises:
        InputError: A contract is broken.
        NameError: The class uses a name that is not defined yet.
    """
    kind = type(value)
    try:
        is_hashed = hash(value) == hash(kind(**{name: getattr(value, name) for name in _fields(kind)}))
    except TypeError:
        is_hashed = False
    if not is_hashed:
        raise InputError(f"{owner}: equal values have one hash; give its fields types that hash, a tuple for a list.")
    ways = {
        "eval(repr(x)) == x": lambda: eval(repr(value), {"__builtins__": {}, **names}),
        "parse(str(x)) == x": lambda: parse(str(value)),
        "from_json(x.to_json()) == x": lambda: kind.model_validate_json(value.model_dump_json()),
    }
    for contract, way in ways.items():
        try:
            is_equal = way() == value
        except NameError:
            raise
        except Exception as error:
            raise InputError(f"{owner} breaks the contract {contract}, for {shown(str(value))}: {error}") from None
        if not is_equal:
            raise InputError(
                f"{owner} breaks the contract {contract}, for {shown(str(value))}; leave its texts as they are, and "
                "compare all its fields."
            )


def _fields(kind: Any) -> list[str]:
    return [name for name in kind.model_fields if name != "kind"]


def _names(kind: Any) -> dict[str, Any]:
    return {entered.__name__: entered for entered in registry.KINDS.entered()} | {kind.__name__: kind}


def _examples(kind: Any, owner: str) -> Iterator[Any]:
    """A schedule of the class, and for each field one with another value there, as far as it is accepted."""
    schedule = first_example(kind, owner)
    for name in _fields(kind):
        if isinstance(value := getattr(schedule, name), str | bool):
            raise InputError(
                f"{owner} breaks the contract parse(str(x)) == x: its text has numbers, tuples of numbers "
                f"and schedules, but {name} is {shown(value)}; write numbers, or two classes."
            )
    yield schedule
    yield from numbers_changed(schedule)


def first_example(kind: Any, owner: str) -> Any:
    """A value of a class, from its defaults, its `example`, and plain values for other fields.

    Args:
        kind: A class with a ClassVar `example`.
        owner: The class, for messages.

    Returns:
        The value.

    Raises:
        InputError: No value of the class could be made.
    """
    values = dict(kind.example)
    required = [name for name, field in kind.model_fields.items() if field.is_required() and name not in values]
    message = ""
    for value in TRIED if required else (None,):
        try:
            return kind(**values, **dict.fromkeys(required, value))
        except InputError as error:
            message = message or str(error)
    raise InputError(
        f"{owner}: no example of it could be made to check its contracts ({message}); write "
        f"example = {{{', '.join(f'{name!r}: …' for name in required)}}} in the class, a ClassVar[dict[str, Any]]."
    )


def numbers_changed(value: Any) -> Iterator[Any]:
    """For each field that is a number, a value with another number there, if the class accepts one.

    Args:
        value: A value.

    Yields:
        Values of the same class.
    """
    fields = {name: getattr(value, name) for name in _fields(type(value))}
    for name, number in fields.items():
        if isinstance(number, bool) or not isinstance(number, int | float | None):
            continue
        for changed in (2.0, 2) if number is None else (number + 1, number + 0.25, number / 2, number - 1):
            try:
                yield type(value)(**fields | {name: changed})
            except InputError:
                continue
            break


def _check_scales(schedule: Any, owner: str) -> None:
    """Finite numbers, the same at a second call, and no value of the sampler that the class does not say it reads."""
    for count in COUNTS:
        for index in range(count):
            level = 14.0 * 0.8**index
            step = Step(index, count, 999 * (1 - index / count), level, level * 0.8, 1 / math.hypot(1, level), level)
            if not schedule.is_on(step):
                continue
            try:
                w = schedule._w(step)
            except InputError:  # a schedule may refuse a run, as a list that is too short does
                break
            if not isinstance(w, int | float) or not math.isfinite(w):
                raise InputError(
                    f"{owner} breaks the contract that w is a finite number: {shown(w)} at step {index} of {count} of "
                    f"{shown(str(schedule))}; bound it, or refuse the field."
                )
            if (second := schedule(step)) != w:
                raise InputError(
                    f"{owner} breaks the contract that w depends on the step alone: {shown(w)}, then {shown(second)} "
                    f"at step {index} of {count}; keep nothing between calls."
                )
            if not schedule.reads_sigma() and schedule(Step(index, count)) != w:
                raise InputError(
                    f"{owner} breaks the contract of reads_sigma: w differs without sigma and timestep; return True."
                )
