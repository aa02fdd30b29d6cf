"""The list of all transforms. A subclass of Transform with a kind enters itself; text and JSON look it up here."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from cfglab.plugins import EntryPoints, Registry
from cfglab.schedules.registry import KINDS, PUBLISHED, WORDS, check_name

P = ParamSpec("P")
R = TypeVar("R")

TRANSFORMS: Registry[Any] = Registry("transform", EntryPoints("cfglab.transforms"))
"""Every transform by its kind, the name it has in text and in JSON."""


def enter_transform(name: str, kind: type, check: Callable[[Any], None] | None = None) -> None:
    """Enter a transform under its name.

    Args:
        name: The name in text and in JSON.
        kind: The class.
        check: Raises InputError if the class breaks a contract.

    Raises:
        InputError: The name is taken or is no name of the language, or a contract is broken.
    """
    check_name(name, kind, KINDS, PUBLISHED, WORDS, noun="transform")
    TRANSFORMS.enter(name, kind, check)


_readers: list[Callable[..., Any]] = []


def reader(function: Callable[P, R]) -> Callable[P, R]:
    """Enter the function that reads the text of a transform.

    Args:
        function: `parse_transform`; the contracts of a new transform call it.

    Returns:
        The same function.
    """
    _readers[:] = [function]
    return function


def read(text: str) -> Any:
    """The transform of a text; see `parse_transform`.

    Args:
        text: The text.

    Returns:
        The transform.

    Raises:
        InputError: The text is not that of a transform.
    """
    return _readers[0](text)
