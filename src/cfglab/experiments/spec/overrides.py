"""Changes to an experiment's document by dotted path, as `--set field=value` makes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from cfglab import limits
from cfglab.errors import InputError
from cfglab.experiments.spec.document import fields_of
from cfglab.schedules.fields import inline, nearest, shown
from cfglab.yaml_text import read_yaml


def read_assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Read the texts of `--set field=value`.

    Args:
        texts: such as `steps=20`; a value is read as YAML.

    Returns:
        Dotted path -> value.

    Raises:
        InputError: if a text is no assignment, or sets a field twice.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        option = f"--set {inline(text)}"
        if not equals or not path.strip():
            raise InputError(f"{option}: write field=value, as in --set steps=20 or --set groups.0.axes.k=[0.3,1].")
        if path.strip() in changes:
            raise InputError(f"{option}: {shown(path.strip())} is given twice; a field has one value, leave one out.")
        try:
            changes[path.strip()] = value.strip() if value.strip()[:1] == "@" else read_yaml(value, "the value")
        except InputError as error:
            raise InputError(f"{option}: the value is no YAML; quote it, as in --set 'steps=20' ({error}).") from None
    return changes


def changed(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a document with values set at dotted paths.

    Args:
        document: the document.
        changes: dotted path -> value; such as `groups.0.axes.k` or `groups.k-decay.axes.k`.

    Raises:
        InputError: with the nearest name, if there is no such field.
    """
    result = dict(document)
    for path, value in changes.items():
        if len(path) > limits.NAME_LETTERS * 4:
            raise InputError(f"--set {inline(path)}: no field lies so deep; write a path such as groups.0.axes.k.")
        result = _with(result, path.split("."), value, (), inline(path))
    return result


def _with(node: Any, parts: list[str], value: Any, above: tuple[str, ...], path: str) -> Any:
    """The node with the value at `parts` below it; `above` are the names that led here, list positions left out."""
    name, *rest = parts
    if isinstance(node, list):
        index = _position(node, name, path)
        new = _with(node[index], rest, value, above, path) if rest else value
        return [*node[:index], new, *node[index + 1 :]]
    if not isinstance(node, Mapping):
        raise InputError(f"--set {path}: {above[-1]} is one value with nothing below it; set {'.'.join(above)} itself.")
    fields = [*dict.fromkeys([*node, *(fields_of(*above) if len(above) < 2 else [])])]
    if name not in fields:
        hint = nearest(name, fields) or " use one of these."
        raise InputError(f"--set {path}: there is no field {name!r}; there are {_listed(fields)};{hint}")
    if rest and name not in node:
        raise InputError(f"--set {path}: {name} is not in this experiment yet; set {name} as a whole.")
    new = _with(node[name], rest, value, (*above, name), path) if rest else value
    return {**node, name: new}


def _position(node: list[Any], part: str, path: str) -> int:
    """An index, or the position of the item of that name."""
    if part.isascii() and part.isdigit() and len(part) <= 9 and int(part) < len(node):
        return int(part)
    names = [str(item.get("name", "")) if isinstance(item, Mapping) else "" for item in node]
    if part in names and part:
        return names.index(part)
    positions = _listed([f"{index} {name}".strip() for index, name in enumerate(names)]) or "nothing"
    raise InputError(
        f"--set {path}: there is no {part!r}; there is {positions};{nearest(part, names) or ' use one of these.'}"
    )


def _listed(names: Sequence[str], most: int = 30) -> str:
    return ", ".join([*map(inline, names[:most]), *(["…"] if len(names) > most else [])])
