"""The YAML file of an experiment: its fields, its templates and its axes."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from cfglab.errors import InputError
from cfglab.experiments.prompts import read_seeds
from cfglab.schedules.fields import nearest

Scalar = int | float | str


class GroupDocument(BaseModel):
    """Settings that share a text: one for each point of the product of `axes` (one alone without axes)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    guidance: Scalar
    axes: dict[str, Scalar | list[Scalar]] = {}
    title: str = ""


class BaselineDocument(BaseModel):
    """What every setting is compared with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "baseline"
    guidance: Scalar
    title: str = ""


class SettingDocument(BaseModel):
    """One setting, written out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    group: str = "settings"
    title: str = ""
    guidance: Scalar


class LeftOut(BaseModel):
    """A setting that the experiment does not have, and why: its dose cannot be matched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    reason: str


class Document(BaseModel):
    """An experiment as it is written: `{name}` in a guidance or title is an axis or one of `constants`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str = ""
    question: str = ""
    model: str = "scenes"
    prompts: str | list[str]
    negative: str = ""
    seeds: Scalar | list[int | str] = 0
    steps: int = 50
    sampler: str = "lms"
    width: int | None = None
    height: int | None = None
    dtype: str = "float32"
    compile: bool = False
    constants: dict[str, Scalar] = {}
    baseline: BaselineDocument
    groups: list[GroupDocument] = []
    settings: list[SettingDocument] = []
    left_out: list[LeftOut] = []

    @field_validator("seeds", mode="before")
    @classmethod
    def _are_seeds(cls, value: Any) -> Any:
        """Before they are taken for numbers: true is no 1, and 1.0 no seed."""
        read_seeds(value)
        return value


def read_yaml(source: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file (a Path, or text that ends in .yaml or .yml) or in YAML text itself.

    Raises InputError with the place of a fault.
    """
    name, text = "experiment", str(source)
    if isinstance(source, Path) or ("\n" not in text and text.endswith((".yaml", ".yml"))):
        name = text
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise InputError(f"{name}: the file cannot be read ({reason}); give an experiment's YAML file.") from error
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{name}: no YAML{place} ({problem}); compare it with a preset.") from error
    if not isinstance(document, dict):
        raise InputError(f"{name}: an experiment is a mapping of fields such as `prompts:`; compare it with a preset.")
    return document


def check(document: Mapping[str, Any]) -> Document:
    """The document with every field known and of its type. Raises InputError in one line."""
    try:
        return Document.model_validate(dict(document))
    except ValidationError as error:
        raise InputError(one_line(error, Document)) from None


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault of a pydantic error: the value, the rule, the next step."""
    fault = error.errors(include_url=False)[0]
    if isinstance(cause := fault.get("ctx", {}).get("error"), InputError):
        return str(cause)
    path = ".".join(str(part) for part in fault["loc"] if part not in ("int", "float", "str", "list[union[int,str]]"))
    known = _fields_at(model, fault["loc"])
    if fault["type"] == "extra_forbidden":
        name = str(fault["loc"][-1])
        return f"{path}: there is no field {name!r}; it has {', '.join(known)};{nearest(name, known) or ' use one.'}"
    if fault["type"] == "missing":
        return f"{path}: is missing; write it, as a preset does."
    shown = repr(fault["input"])
    return f"{path}: {shown[:60]}{'…' if len(shown) > 60 else ''}: {fault['msg'].lower()}; compare it with a preset."


def _fields_at(model: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    return fields_of(str(where[0])) if len(where) > 1 else list(model.model_fields)


def fields_of(part: str = "") -> list[str]:
    """The fields of the document, or of one of its parts that have fields of their own."""
    match part:
        case "":
            return list(Document.model_fields)
        case "baseline":
            return list(BaselineDocument.model_fields)
        case "groups":
            return list(GroupDocument.model_fields)
        case "settings":
            return list(SettingDocument.model_fields)
    return []


def written_out(document: Document) -> tuple[SettingDocument, list[SettingDocument]]:
    """The baseline, and every other setting: the listed ones, then each group's product of axes."""
    first, names = document.baseline, document.constants
    baseline = SettingDocument(name=first.name, group="baseline", title=first.title, guidance=first.guidance)
    if names:
        filled = {"title": fill(first.title, names, "baseline.title")}
        filled |= {"guidance": fill(text(first.guidance), names, "baseline.guidance")}
        baseline = baseline.model_copy(update=filled)
    settings = list(document.settings)
    for group in document.groups:
        axes = {name: values if isinstance(values, list) else [values] for name, values in group.axes.items()}
        for name, values in axes.items():
            if not values:
                raise InputError(f"groups.{group.name}.axes.{name}: has no values; write a list such as [0.3, 1].")
        for point in itertools.product(*axes.values()):
            chosen = dict(zip(axes, point, strict=True))
            names = {**document.constants, **chosen}
            suffix = ", ".join(f"{name}={text(value)}" for name, value in chosen.items())
            settings.append(
                SettingDocument(
                    name=f"{group.name} {suffix}".strip(),
                    group=group.name,
                    title=fill(group.title, names, f"groups.{group.name}.title"),
                    guidance=fill(text(group.guidance), names, f"groups.{group.name}.guidance"),
                )
            )
    return baseline, settings


def fill(template: str, names: Mapping[str, Scalar], where: str) -> str:
    """The template with every `{name}` replaced by that axis's or constant's value."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in names:
            has = f"it has {', '.join(names)}" if names else "it has none"
            hint = nearest(found[1], names) or " name an axis or a constant."
            raise InputError(f"{where}: {found[0]} is no axis of this group; {has};{hint}")
        return text(names[found[1]])

    return re.sub(r"\{(\w+)\}", value, template)


def text(value: Scalar) -> str:
    """A value as it stands in a template: 1.0 as 1."""
    return value if isinstance(value, str) else format(value, ".12g")
