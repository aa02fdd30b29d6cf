"""The YAML file of an experiment: its fields, its templates and its axes."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from sys import float_info
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator

from cfglab import limits
from cfglab.errors import InputError
from cfglab.experiments.spec.prompts import read_seeds
from cfglab.experiments.spec.starting_noise import Noise
from cfglab.file_input import read_text, user_path
from cfglab.schedules.fields import inline, nearest, shown
from cfglab.schedules.printer import number
from cfglab.yaml_text import read_yaml as read_yaml_text
from cfglab.yaml_text import refuse_unclear

Clear = BeforeValidator(refuse_unclear)
"""Refuses what YAML 1.1 and YAML 1.2 read differently, where a number or truth value may stand."""


def _scalar(value: Any) -> Any:
    """A number, text, a truth value, or a list of numbers: one scale a step."""
    if isinstance(value, list | tuple):
        if any(isinstance(part, bool) or not isinstance(part, int | float) for part in value) or not value:
            raise ValueError("a list here is a list of scales, one number a step; write [8, 6, 4]")
        return tuple(value)
    if value is None:
        raise ValueError("a value is needed; write a number such as 7.5, or text")
    if isinstance(value, int | float) and not abs(value) <= float_info.max:
        raise ValueError("a finite number is needed; write one such as 7.5")
    return value


Value = bool | int | float | str | tuple[int | float, ...]
"""What fills a template: a number, text, a truth value, a list of scales."""
Scalar = Annotated[Value, BeforeValidator(_scalar), Clear]


def _count(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a whole number is needed; write one such as 50")
    return refuse_unclear(value)


Count = Annotated[int, BeforeValidator(_count)]


def _axis(value: Any) -> Any:
    """The values of an axis: a list of them, or one alone."""
    return value if isinstance(value, list) else [value]


class GroupDocument(BaseModel):
    """Settings that share a text: one for each point of the product of `axes` (one alone without axes)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    guidance: Scalar
    axes: dict[str, Annotated[list[Scalar], BeforeValidator(_axis)]] = {}
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


class ExcludedSettings(BaseModel):
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
    seeds: Annotated[int | float | str | list[int | str], Clear] = 0
    noise: Noise | None = None
    prompt_offset: Count = 0
    steps: Count = 50
    sampler: str = "lms"
    width: Count | None = None
    height: Count | None = None
    dtype: str = "float32"
    compile: Annotated[bool, Clear] = False
    constants: dict[str, Scalar] = {}
    baseline: BaselineDocument
    groups: list[GroupDocument] = []
    settings: list[SettingDocument] = []
    left_out: list[ExcludedSettings] = []

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
            text = read_text(user_path(source), limits.DOCUMENT_BYTES)
        except OSError as error:
            raise InputError(
                f"{name}: the file cannot be read ({error.strerror}); give an experiment's YAML file."
            ) from error
    document = read_yaml_text(text, name)
    if not isinstance(document, dict):
        raise InputError(f"{name}: an experiment is a mapping of fields such as `prompts:`; compare it with a preset.")
    return document


def with_files(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The document with every `@file` among its prompts as a path from the folder that the document lies in."""
    prompts = document.get("prompts")
    if not isinstance(prompts, str | list):
        return dict(document)
    entries = [prompts] if isinstance(prompts, str) else prompts
    placed = [
        f"@{folder / entry[1:]}" if isinstance(entry, str) and entry[:1] == "@" and len(entry) > 1 else entry
        for entry in entries
    ]
    return {**document, "prompts": placed[0] if isinstance(prompts, str) else placed}


def check_steps(steps: int) -> None:
    """Raise InputError for a number of steps that no run has."""
    if steps < 1:
        raise InputError(f"steps {shown(steps)}: a run has at least one step; write 50.")
    if steps > limits.STEPS:
        raise InputError(f"steps {shown(steps)}: a run has at most {limits.STEPS} steps; write 50.")


def check(document: Mapping[str, Any]) -> Document:
    """The document with every field known and of its type. Raises InputError in one line."""
    try:
        checked = Document.model_validate(dict(document))
    except ValidationError as error:
        raise InputError(one_line(error, Document)) from None
    check_steps(checked.steps)
    for name in ("width", "height"):
        if (size := getattr(checked, name)) is not None and size > limits.PIXELS:
            raise InputError(f"{name} {shown(size)}: an image has at most {limits.PIXELS} pixels a side; write 512.")
    count = 1 + len(checked.settings) + sum(prod(map(len, group.axes.values())) for group in checked.groups)
    if count > limits.SETTINGS or count * checked.steps > limits.VALUES:
        raise InputError(
            f"{shown(count)} settings of {checked.steps} steps: an experiment has at most {limits.SETTINGS:,} settings "
            f"and {limits.VALUES:,} settings times steps; give fewer values on an axis."
        )
    return checked


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault of a pydantic error: the value, the rule, the next step."""
    fault = error.errors(include_url=False)[0]
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return str(cause)
    path = ".".join(
        inline(str(part))
        for part in fault["loc"]
        if part not in ("bool", "int", "float", "str", "function-before") and "[" not in str(part)
    )
    known = _fields_at(model, fault["loc"])
    if fault["type"] == "extra_forbidden":
        name = str(fault["loc"][-1])
        return (
            f"{path}: there is no field {shown(name)}; it has {', '.join(known)};{nearest(name, known) or ' use one.'}"
        )
    if fault["type"] == "missing":
        return f"{path}: is missing; write it, as a preset does."
    if cause is not None:
        return f"{path}: {shown(fault['input'])}: {cause}."
    return f"{path}: {shown(fault['input'])}: {fault['msg'].lower()}; compare it with a preset."


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


def expand_grid(document: Document) -> tuple[SettingDocument, list[SettingDocument]]:
    """The baseline, and every other setting: the listed ones, then each group's product of axes."""
    first, names = document.baseline, document.constants
    baseline = SettingDocument(name=first.name, group="baseline", title=first.title, guidance=first.guidance)
    if names:
        filled = {"title": fill(first.title, names, "baseline.title", label)}
        filled |= {"guidance": fill(text(first.guidance), names, "baseline.guidance")}
        baseline = baseline.model_copy(update=filled)
    settings = list(document.settings)
    for group in document.groups:
        axes = group.axes
        for name, values in axes.items():
            if not values:
                raise InputError(f"groups.{group.name}.axes.{name}: has no values; write a list such as [0.3, 1].")
        if both := axes.keys() & document.constants.keys():
            raise InputError(
                f"groups.{group.name}.axes.{min(both)}: is a constant as well; a name has one meaning, rename one."
            )
        labels = {name: _labels(values) for name, values in axes.items()}
        for places in itertools.product(*(range(len(values)) for values in axes.values())):
            chosen = {name: axes[name][place] for name, place in zip(axes, places, strict=True)}
            names = {**document.constants, **chosen}
            suffix = ", ".join(f"{name}={labels[name][place]}" for name, place in zip(axes, places, strict=True))
            settings.append(
                SettingDocument(
                    name=f"{group.name} {suffix}".strip(),
                    group=group.name,
                    title=fill(group.title, names, f"groups.{group.name}.title", label),
                    guidance=fill(text(group.guidance), names, f"groups.{group.name}.guidance"),
                )
            )
    return baseline, settings


def fill(template: str, names: Mapping[str, Value], where: str, said: Callable[[Value], str] | None = None) -> str:
    """The template with every `{name}` replaced by that axis's or constant's value: exactly, or as `said` has it."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in names:
            has = f"it has {', '.join(names)}" if names else "it has none"
            hint = nearest(found[1], names) or " name an axis or a constant."
            raise InputError(f"{where}: {{{found[1][: limits.NAME_LETTERS]}}} is no axis of this group; {has};{hint}")
        return (said or text)(names[found[1]])

    return re.sub(r"\{(\w++)\}", value, template)


def text(value: Value) -> str:
    """A value as it stands in a guidance, exactly: 1.0 keeps its point, for a moment of 1 is a step and 1.0 is not."""
    if isinstance(value, str):
        return value
    return f"[{', '.join(map(text, value))}]" if isinstance(value, tuple) else repr(_plain(value))


def label(value: Value) -> str:
    """A value as it stands in a name or title, exactly: 1.0 as 1."""
    if isinstance(value, str):
        return value
    return f"[{', '.join(map(label, value))}]" if isinstance(value, tuple) else number(_plain(value))


def _plain(value: float) -> float:
    """Without what numpy would write around it, and without a sign on 0."""
    return value if isinstance(value, int) else float(value) + 0.0


def _labels(values: Sequence[Value]) -> list[str]:
    """The values of an axis as names tell them: where 1 and 1.0 are both there, each as it is."""
    labels = [label(value) for value in values]
    counts = Counter(labels)
    return [text(value) if counts[shown] > 1 else shown for value, shown in zip(values, labels, strict=True)]
