"""The list of all transforms. A subclass of Transform with a kind enters itself; text and JSON look it up here."""

from collections.abc import Callable
from typing import Any

from cfglab.plugins import EnteredLater, EntryPoints, Registry
from cfglab.schedules.registry import KINDS, PUBLISHED, WORDS, check_name

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


read = EnteredLater()
"""`parse_transform`, which enters itself; the contracts of a new transform call it."""
