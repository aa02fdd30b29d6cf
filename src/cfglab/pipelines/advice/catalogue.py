"""The catalogue of model families: its files, and who answers for a family name, a pipeline class or a hub id."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from cfglab.errors import InputError
from cfglab.pipelines.advice.family import Family, read_family
from cfglab.schedules.fields import shown
from cfglab.yaml_text import read_yaml

GROUPS = {
    "unet": "Images, with a UNet",
    "transformer": "Images, with a transformer",
    "video": "Video",
    "audio": "Sound",
}
"""The files of the catalogue, and their titles."""


@cache
def sources() -> Mapping[str, Mapping[str, str]]:
    """The sources by name: each has a title and the day on which it was read."""
    return MappingProxyType(_document("sources"))


@cache
def families() -> Mapping[str, Family]:
    """Every family by its name.

    Raises:
        InputError: An entry is not valid, or two of them answer for the same name.
    """
    return MappingProxyType(read_catalogue({group: _document(group) for group in GROUPS}, dict(sources())))


@cache
def tried() -> Mapping[tuple[str, str], tuple[bool, str]]:
    """What was found where the facts do not tell: (pipeline class, method) -> whether the method acts, and why."""
    found: dict[tuple[str, str], tuple[bool, str]] = {}
    for entry in _document("tried").values():
        acts = "acts" in entry
        for pipeline in entry["pipelines"]:
            found |= {(pipeline, method): (acts, entry["acts" if acts else "refused"]) for method in entry["methods"]}
    return MappingProxyType(found)


def read_catalogue(documents: Mapping[str, Any], known_sources: dict[str, Any]) -> dict[str, Family]:
    """The families of some documents, checked.

    Args:
        documents: The name of a file -> its entries.
        known_sources: The sources by name.

    Returns:
        The families by name.

    Raises:
        InputError: An entry is not valid, or two of them answer for the same name.
    """
    for name, source in known_sources.items():
        if not isinstance(source, dict) or not source.get("title") or not source.get("read"):
            raise InputError(f"sources.yaml: {name} has no title or date; write title and read.")
    entries: dict[str, Family] = {}
    owners: dict[str, str] = {}
    for group, document in documents.items():
        for name, data in document.items():
            family = read_family(name, group, data, known_sources)
            for key in (name, *_names(family)):
                if key.lower() in owners:
                    raise InputError(f"{group}.yaml: {key} leads to {owners[key.lower()]} and to {name}; keep one.")
                owners[key.lower()] = name
            entries[name] = family
    return entries


def find_family(model: str) -> Family:
    """The family that answers for a model.

    Args:
        model: The name or title of a family, a pipeline class, or a hub id with or without its owner; upper and lower
            case are the same.

    Returns:
        The family.

    Raises:
        InputError: There is none; the message has the closest names.
    """
    if not isinstance(model, str):
        raise InputError(f"model {shown(model)}: it is a name; write a pipeline class, such as 'FluxPipeline'.")
    owners = {key.lower(): (key, family) for family in families().values() for key in (family.name, *_names(family))}
    wanted = model.lower()
    short = {key.rpartition("/")[2]: key for key in owners} | {it.title.lower(): it.name for it in families().values()}
    found = owners.get(wanted) or owners.get(short.get(wanted, ""))
    if found:
        return found[1]
    similar = [name for name in families() if wanted and name.startswith(wanted)][:8]
    similar = similar or [owners[key][0] for key in get_close_matches(wanted[:100], owners, n=3, cutoff=0.5)]
    hint = f"the closest names are {', '.join(similar)}" if similar else "cfglab advise lists them"
    raise InputError(
        f"no model {shown(model)} in the catalogue of {len(families())} families: name a family, a pipeline class or a "
        f"hub id; {hint}."
    )


def variants_of(family: Family) -> list[Family]:
    """The other families that the same pipeline class runs.

    Args:
        family: A family.

    Returns:
        The others, in the order of the catalogue.
    """
    return [entry for entry in families().values() if entry.pipeline == family.pipeline and entry is not family]


def _names(family: Family) -> list[str]:
    """What leads to a family besides its own name."""
    own = [] if family.variant else [family.pipeline]
    return [name for name in (*own, *family.classes, *family.models) if name != family.name]


def _document(name: str) -> Any:
    path = files("cfglab.pipelines.advice") / "families" / f"{name}.yaml"
    return read_yaml(path.read_text(encoding="utf-8"), f"{name}.yaml")
