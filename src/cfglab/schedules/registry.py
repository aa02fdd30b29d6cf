"""The one list of what the language of schedules has: kinds, published constructors, and the words after a dot.

Each enters itself where it is defined: a kind by being a subclass of Schedule, a constructor and a word by a decorator.
Text, JSON and the command line look them up here, so nothing is listed a second time.
"""

import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin

from cfglab import limits
from cfglab.errors import InputError
from cfglab.plugins import EnteredLater, EntryPoints, Registry, is_outside, path_of
from cfglab.schedules.fields import nearest, shown

P = ParamSpec("P")
R = TypeVar("R")

PLUGINS = EntryPoints("cfglab.schedules")
KINDS: Registry[Any] = Registry("schedule", PLUGINS)
"""Every kind of schedule by its name in JSON: shapes, composites, and the live function."""
PUBLISHED: Registry[Callable[..., Any]] = Registry("schedule", PLUGINS)
"""The constructors of published schedules by the name they have in text."""
WORDS: Registry[Callable[..., Any]] = Registry("word")
"""The methods that text may call after a dot."""

NAME = re.compile(r"[a-z][a-z0-9_]*")
NOT_NUMBERS = ("nan", "inf", "infinity")
RESERVED = (*NOT_NUMBERS, "steps", "effective")
"""Words of the language that are neither kind nor method."""
QUOTED = {"steps", "effective"}
"""What may stand in quotes: the weights of a dose, and what a field of a kind may be, entered with the kind."""


class Shapes(Mapping[str, Any]):
    """The kinds that text calls by name; composites are made by words and operators instead."""

    def __getitem__(self, name: str) -> Any:
        kind = KINDS[name]
        if not kind.in_text:
            raise KeyError(name)
        return kind

    def __iter__(self) -> Iterator[str]:
        return (name for name, kind in KINDS.items() if kind.in_text)

    def __len__(self) -> int:
        return sum(1 for _ in self)


SHAPES = Shapes()
"""The shapes by the name they have in text."""


def enter_kind(name: str, kind: type, check: Callable[[Any], None] | None = None) -> None:
    """Enter a kind of schedule under its name.

    Args:
        name: The name in text and in JSON.
        kind: The class.
        check: Raises InputError if the class breaks a contract.

    Raises:
        InputError: The name is taken or is no name of the language, or a contract is broken.
    """
    check_name(name, kind, PUBLISHED, WORDS)
    QUOTED.update(
        word
        for field, about in getattr(kind, "model_fields", {}).items()
        if field != "kind" and get_origin(about.annotation) is Literal
        for word in get_args(about.annotation)
    )
    KINDS.enter(name, kind, check)


def enter_constructor(name: str, make: Callable[..., Any]) -> None:
    """Enter a function that text calls by name.

    Args:
        name: The name in text.
        make: The function; it returns a schedule.

    Raises:
        InputError: The name is taken or is no name of the language.
    """
    check_name(name, make, KINDS, WORDS)
    PUBLISHED.enter(name, make)


def word(method: Callable[P, R]) -> Callable[P, R]:
    """Enter a method of Schedule as a word that text may write after a dot.

    Args:
        method: The method.

    Returns:
        The same method.
    """
    check_name(method.__name__, method, PUBLISHED)  # a composite may have the name of its word
    WORDS.enter(method.__name__, method)
    return method


def check_name(name: str, owner: Any, *taken: Registry[Any], noun: str = "schedule") -> None:
    """Refuse a name that the language cannot have, or uses otherwise.

    Args:
        name: The name to enter.
        owner: The class or function, for the message.
        taken: Registries that must not have the name.
        noun: What the owner is.

    Raises:
        InputError: The name is not made of small letters, digits and _, is a word of the language, or is taken.
    """
    if not NAME.fullmatch(name) or len(name) > limits.NAME_LETTERS or keyword.iskeyword(name):
        raise InputError(
            f"{noun} {shown(name)} of {path_of(owner)}: a name has small letters, digits and _, begins with a letter "
            f"and is no keyword of Python, at most {limits.NAME_LETTERS} of them; choose another."
        )
    is_word = name in RESERVED or any(registry is WORDS and name in registry.names() for registry in taken)
    if (is_word or any(name in registry.names() for registry in taken)) and not _is_own_word(name, owner):
        what = "a word of the language" if is_word else "the name of a schedule"
        raise InputError(f"{noun} {name!r} of {path_of(owner)}: {name} is {what}; choose another name.")


def _is_own_word(name: str, owner: Any) -> bool:
    """A composite of cfglab itself may have the name of the word that makes it."""
    return name not in RESERVED and not is_outside(owner) and not getattr(owner, "in_text", True)


def kind_of(value: Mapping[str, Any]) -> Any:
    """The class of a JSON object.

    Args:
        value: The object, a mapping with its `kind`.

    Returns:
        The subclass of Schedule.

    Raises:
        ValueError: There is no such kind; the message lists them.
    """
    name = value.get("kind")
    if not isinstance(name, str) or name not in KINDS:
        names = [*SHAPES, *(name for name in KINDS if name not in SHAPES)]
        hint = nearest(str(name), names) or " name one of them, or install the package that adds it."
        raise ValueError(f"a schedule of kind {shown(name)}: the kinds are {', '.join(names)};{hint}")
    return KINDS[name]


coerce = EnteredLater()
"""`as_schedule`, which enters itself; fields that hold a schedule call it."""
