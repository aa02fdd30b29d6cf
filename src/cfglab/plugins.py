"""Registries of names that other packages extend: by subclassing, or by entry points, imported when first needed.

A lookup of a known name imports nothing. An unknown name, or the whole list, loads the entry points of the group once.
A distribution whose entry point cannot be loaded costs one line of warning and nothing else.
"""

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from cfglab.errors import InputError
from cfglab.terminal import one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Value = TypeVar("Value")
P = ParamSpec("P")
R = TypeVar("R")


class PluginWarning(UserWarning):
    """An entry point of another distribution was left out; the message names the distribution and the reason."""


class NotReadyError(Exception):
    """A class cannot be checked yet: its module has not defined all that it uses. It is checked at its first lookup."""


class EntryPoints:
    """The entry points of one group, loaded once, for the registries that they fill.

    Attributes:
        group: The name of the group, such as `cfglab.schedules`.
        registries: The registries that the loaded modules may enter names into.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        self.registries: list[Registry[Any]] = []
        self._lock = threading.RLock()
        self._loaded = False

    def load(self) -> None:
        """Import every entry point of the group, once; a broken one is left out with a PluginWarning."""
        with self._lock:
            if self._loaded:
                return
            self._loaded = True  # first of all: a module may look up names while it is imported
            entries = self._entries()
            counts = Counter(entry.name for _, entry in entries)
            for distribution, entry in entries:
                if counts[entry.name] > 1:
                    owners = " and ".join(owner for owner, namesake in entries if namesake.name == entry.name)
                    self._warn(distribution, entry.name, f"{owners} have the same name; remove one of them")
                else:
                    self._load(distribution, entry)

    def _entries(self) -> "list[tuple[str, EntryPoint]]":
        """(distribution, entry point), ordered by name; of two copies of a distribution the first one counts."""
        from importlib.metadata import distributions

        entries: dict[str, list[EntryPoint]] = {}
        for distribution in distributions():
            name = "a distribution without a name"
            try:
                if f"[{self.group}]" not in (distribution.read_text("entry_points.txt") or ""):
                    continue
                name = distribution.metadata["Name"] or name
                own = [entry for entry in distribution.entry_points if entry.group == self.group]
                entries.setdefault(f"{name} {distribution.metadata['Version'] or ''}".strip(), own)
            except Exception as error:
                self._warn(name, "", _first_line(error))
        return [(name, entry) for name in sorted(entries) for entry in sorted(entries[name])]

    def _load(self, distribution: str, entry: "EntryPoint") -> None:
        before = [registry.names() for registry in self.registries]
        try:
            value = entry.load()
            for registry, names in zip(self.registries, before, strict=True):
                registry.check_now(registry.names() - names)
            if not isinstance(value, ModuleType) and not any(
                registry.holds(entry.name, value) for registry in self.registries
            ):
                raise InputError(
                    f"{entry.value} is no {self.registries[0].noun} with the name {entry.name!r}: an entry point has "
                    "the name of the class that it names, or names a module; rename it."
                )
        except (Exception, SystemExit) as error:
            for registry, names in zip(self.registries, before, strict=True):
                for name in registry.names() - names:
                    del registry[name]
            self._warn(distribution, entry.name, _first_line(error))

    def _warn(self, distribution: str, name: str, reason: str) -> None:
        """One line: a warning with a file of its own would print the line of code below."""
        message = one_line(f"the entry point {name!r} of {self.group} is left out: {reason}")
        warnings.warn_explicit(message, PluginWarning, one_line(distribution), 1, registry=None)


def _first_line(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


class EnteredLater:
    """A function of a module above, which enters itself when it is imported; modules below call it."""

    def enter(self, function: Callable[P, R]) -> Callable[P, R]:
        """Enter the function, as a decorator; returns it unchanged."""
        self._function: Callable[..., Any] = function
        return function

    def __call__(self, value: Any) -> Any:
        """The result of the function that was entered."""
        return self._function(value)


class Registry(Mapping[str, Value], Generic[Value]):
    """Names and what they stand for. The package enters its own when it is imported, other packages add theirs.

    Attributes:
        noun: What a value is, for messages.
    """

    def __init__(self, noun: str, plugins: EntryPoints | None = None) -> None:
        self.noun = noun
        self._plugins = plugins
        self._values: dict[str, Value] = {}
        self._unchecked: dict[str, Callable[[Value], None]] = {}
        if plugins is not None:
            plugins.registries.append(self)

    def enter(self, name: str, value: Value, check: Callable[[Value], None] | None = None) -> None:
        """Add a name.

        A class or function that is defined again, as in a notebook, takes the place of its former definition.

        Args:
            name: The name.
            value: A class or a function.
            check: Raises InputError if the value breaks a contract, NotReadyError if that cannot be known yet. The name
                can be looked up while it runs.

        Raises:
            InputError: Something else has the name, or a contract is broken; the registry is as before.
        """
        former = self._values.get(name)
        if former is not None and path_of(former) != path_of(value):
            raise InputError(
                f"{self.noun} {name!r} of {path_of(value)}: {path_of(former)} has this name, and a name stands for one "
                f"{self.noun}; choose another."
            )
        self._values[name] = value
        if check is None:
            return
        self._unchecked[name] = check
        try:
            self._check(name)
        except NotReadyError:
            pass
        except InputError:
            if former is not None:
                self._values[name] = former
            raise

    def _check(self, name: str) -> None:
        """Run the check that is due. A value that breaks a contract loses its name."""
        check = self._unchecked.pop(name, None)
        if check is None:
            return
        try:
            check(self._values[name])
        except NotReadyError:
            self._unchecked[name] = check
            raise
        except InputError:
            del self._values[name]
            raise

    def _check_now(self, name: str) -> None:
        """As `_check`, at a lookup: what is still not ready is refused."""
        try:
            self._check(name)
        except NotReadyError as error:
            value = self._values.pop(name)
            del self._unchecked[name]
            raise InputError(f"{self.noun} {name!r} of {path_of(value)}: {error}") from None

    def check_now(self, names: Iterable[str]) -> None:
        """Run the checks of these names that are still due.

        Args:
            names: Names of the registry.

        Raises:
            InputError: A value breaks a contract; it has lost its name.
        """
        for name in names:
            self._check_now(name)

    def names(self) -> set[str]:
        """The names that are entered now, without loading entry points.

        Returns:
            A new set.
        """
        return set(self._values)

    def entered(self) -> list[Value]:
        """The values that are entered now, without loading entry points.

        Returns:
            A new list.
        """
        return list(self._values.values())

    def holds(self, name: str, value: object) -> bool:
        """Whether the name stands for this very value, without loading entry points.

        Args:
            name: A name.
            value: Any value.

        Returns:
            True if it does.
        """
        return self._values.get(name) is value

    def __getitem__(self, name: str) -> Value:
        if self._plugins is not None and name not in self._values:
            self._plugins.load()
        self._check_now(name)
        return self._values[name]

    def __delitem__(self, name: str) -> None:
        del self._values[name]
        self._unchecked.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        if self._plugins is not None:
            self._plugins.load()
        for name in list(self._unchecked):
            try:
                self._check_now(name)
            except InputError as error:
                warnings.warn_explicit(str(error), PluginWarning, "cfglab", 1, registry=None)
        return iter(dict(self._values))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def path_of(value: Any) -> str:
    """Where a class or function is defined, for messages and to tell two of one name apart.

    Args:
        value: A class or a function.

    Returns:
        Its module and qualified name.
    """
    return f"{value.__module__}.{value.__qualname__}"


def is_outside(value: Any) -> bool:
    """Whether a class or function is another package's.

    Args:
        value: A class or a function.

    Returns:
        False for those of cfglab itself, whose contracts its tests check.
    """
    return str(value.__module__).partition(".")[0] != "cfglab"
