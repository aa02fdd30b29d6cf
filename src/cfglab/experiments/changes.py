"""Changes to an experiment's document by dotted path, as `--set field=value` makes them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from cfglab.errors import InputError
from cfglab.experiments.document import fields_of
from cfglab.schedules.fields import nearest


def read_assignments(texts: Sequence[str]) -> dict[str, Any]:
    """`--set field=value` texts as a mapping of dotted paths to values; a value is read as YAML."""
    changes: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise InputError(f"--set {text}: write field=value, as in --set steps=20 or --set groups.0.axes.k=[0.3,1].")
        try:
            changes[path.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {text}: the value is no YAML; quote it, as in --set 'steps=20'.") from error
    return changes


def changed(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the document with values set at dotted paths, such as `groups.0.axes.k` or `groups.k-decay.axes.k`.

    Raises InputError with the nearest name for a path that leads nowhere.
    """
    result = dict(document)
    for path, value in changes.items():
        result = _with(result, path.split("."), value, (), path)
    return result


def _with(node: Any, parts: list[str], value: Any, above: tuple[str, ...], path: str) -> Any:
    """The node with the value at `parts` below it; `above` are the names that led here, list positions left out."""
    first, *rest = parts
    if isinstance(node, list):
        index = _position(node, first, path)
        new = _with(node[index], rest, value, above, path) if rest else value
        return [*node[:index], new, *node[index + 1 :]]
    if not isinstance(node, Mapping):
        raise InputError(f"--set {path}: {above[-1]} is one value with nothing below it; set {'.'.join(above)} itself.")
    known = list(dict.fromkeys([*node, *(fields_of(*above) if len(above) < 2 else [])]))
    if first not in known:
        hint = nearest(first, known) or " use one of these."
        raise InputError(f"--set {path}: there is no field {first!r}; there are {', '.join(known)};{hint}")
    if rest and first not in node:
        raise InputError(f"--set {path}: {first} is not in this experiment yet; set {first} as a whole.")
    new = _with(node[first], rest, value, (*above, first), path) if rest else value
    return {**node, first: new}


def _position(node: list[Any], part: str, path: str) -> int:
    """An index, or the position of the item of that name."""
    if re.fullmatch(r"\d+", part) and int(part) < len(node):
        return int(part)
    known = [str(item.get("name", "")) if isinstance(item, Mapping) else "" for item in node]
    if part in known and part:
        return known.index(part)
    there = ", ".join(f"{index} {name}".strip() for index, name in enumerate(known)) or "nothing"
    raise InputError(
        f"--set {path}: there is no {part!r}; there is {there};{nearest(part, known) or ' use one of these.'}"
    )
