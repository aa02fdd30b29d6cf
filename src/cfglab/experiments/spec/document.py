"""The YAML file of an experiment: its fields, its templates and its axes."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from sys import float_info
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator

from cfglab import limits
from cfglab.errors import InputError
from cfglab.experiments.spec.arguments import Arguments
from cfglab.experiments.spec.prompts import read_prompts, read_seeds
from cfglab.experiments.spec.starting_noise import Noise
from cfglab.file_input import read_text, user_path
from cfglab.pipelines.candidates import EARLY
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
AxisValue = Annotated[Value, BeforeValidator(_scalar)]
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
    best_of: Scalar = 1
    early: Scalar = EARLY
    axes: dict[str, Annotated[list[Scalar], BeforeValidator(_axis)]] = {}
    title: str = ""


class BaselineDocument(BaseModel):
    """What every setting is compared with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "baseline"
    guidance: Scalar
    best_of: Scalar = 1
    early: Scalar = EARLY
    title: str = ""


class SettingDocument(BaseModel):
    """One setting, written out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    group: str = "settings"
    title: str = ""
    guidance: Scalar
    best_of: Scalar = 1
    early: Scalar = EARLY
    axes: dict[str, Scalar] | None = None


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
    arguments: Arguments = {}
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

    def prompt_list(self) -> tuple[str, ...]:
        """The prompts, with those of files and sets."""
        return read_prompts([self.prompts] if isinstance(self.prompts, str) else self.prompts)


def read_yaml(source: Path | str) -> dict[str, Any]:
    """Read the mapping in a YAML file or in YAML text.

    Args:
        source: a Path, text that ends in .yaml or .yml, or YAML text.

    Raises:
        InputError: with line and column, if it is no YAML mapping.
    """
    if not isinstance(source, str | Path):
        raise InputError(f"experiment {shown(source)}: a path or YAML text is needed; give 'experiment.yaml'.")
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
    """Return a document with every `@file` among its prompts as a path.

    Args:
        document: the document.
        folder: the folder of the document's file.
    """
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
    """Raise InputError if the number of steps is not 1 to `limits.STEPS`."""
    if steps < 1:
        raise InputError(f"steps {shown(steps)}: a run has at least one step; write 50.")
    if steps > limits.STEPS:
        raise InputError(f"steps {shown(steps)}: a run has at most {limits.STEPS} steps; write 50.")


def check(document: Mapping[str, Any]) -> Document:
    """Return a mapping as a Document.

    Args:
        document: the mapping of a YAML file.

    Raises:
        InputError: in one line, if a field does not exist or has a wrong value, or the experiment is too large.
    """
    try:
        checked = Document.model_validate(dict(document))
    except ValidationError as error:
        raise InputError(one_line(error, Document)) from None
    check_steps(checked.steps)
    _check_names(checked)
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


def _check_names(document: Document) -> None:
    names = {"baseline.name": document.baseline.name}
    names |= {f"settings.{place}.name": setting.name for place, setting in enumerate(document.settings)}
    for where, name in names.items():
        if name != name.strip() or len(name.splitlines()) != 1:
            raise InputError(
                f"{where}: {shown(name)}: a name is one line of text without a space at its ends; write one such as "
                "steep."
            )


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first fault of a pydantic error as one line: the value, the rule, the next step.

    Args:
        error: the error.
        model: the model that was validated, whose fields are suggested.
    """
    faults = error.errors(include_url=False)
    of_one_value = [other for other in faults if _path(other["loc"])[:1] == _path(faults[0]["loc"])[:1]]
    fault = max(of_one_value, key=lambda other: len(_path(other["loc"])))  # of a union, the branch that went deepest
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return str(cause)
    path = ".".join(_path(fault["loc"]))
    fields = _fields_at(model, fault["loc"])
    if fault["type"] == "extra_forbidden":
        name = str(fault["loc"][-1])
        if any(sign in name for sign in "=()|'"):
            return (
                f"{'.'.join(_path(fault['loc'][:-1]))}: {shown(name)} is no field: inside of braces a comma ends a "
                'value; put text with commas in quotes, guidance: "linear(max=7, min=1)".'
            )
        hint = nearest(name, fields) or " use one."
        return f"{path}: there is no field {shown(name)}; it has {', '.join(fields)};{hint}"
    if fault["type"] == "missing":
        return f"{path}: is missing; write it, as a preset does."
    if cause is not None:
        return f"{path}: {shown(fault['input'])}: {cause}."
    if fault["type"] == "model_type":
        return (
            f"{path}: {shown(fault['input'])}: a mapping of fields such as `name:` is needed; compare it with a preset."
        )
    branches = [other["msg"].lower() for other in of_one_value if _path(other["loc"]) == _path(fault["loc"])]
    kinds = list(dict.fromkeys(message.removeprefix(_EXPECTED) for message in branches))
    several = len(kinds) > 1 and all(message.startswith(_EXPECTED) for message in branches)
    rule = f"{_EXPECTED}{', '.join(kinds[:-1])} or {kinds[-1]}" if several else fault["msg"].lower()
    return f"{path}: {shown(fault['input'])}: {rule}; compare it with a preset."


_EXPECTED = "input should be a valid "
_BRANCHES = ("bool", "int", "float", "str", "function-before")


def _path(where: tuple[int | str, ...]) -> list[str]:
    """Where a fault is, without the branches of unions that pydantic names."""
    names = (str(part) for part in where if part not in _BRANCHES)
    return [inline(name) for name in names if "[" not in name and not name.startswith("constrained-")]


def _fields_at(model: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    return fields_of(str(where[0])) if len(where) > 1 else list(model.model_fields)


def fields_of(part: str = "") -> list[str]:
    """Return the fields of the document, or of a part of it (`baseline`, `groups`, `settings`)."""
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
    """Return every setting of a document.

    Args:
        document: a checked document.

    Returns:
        The baseline, and all other settings: the listed ones, then each group's product of axes.

    Raises:
        InputError: if a template names no axis, an axis has no values, or it has the name of a constant.
    """
    names = document.constants
    baseline = _filled(SettingDocument(**dict(document.baseline), group="baseline"), names, "baseline")
    settings = [_filled(setting, names, f"settings.{place}") for place, setting in enumerate(document.settings)]
    for group in document.groups:
        axes = group.axes
        for name, values in axes.items():
            if not values:
                raise InputError(f"groups.{group.name}.axes.{name}: has no values; write a list such as [0.3, 1].")
        if repeated := axes.keys() & document.constants.keys():
            raise InputError(
                f"groups.{group.name}.axes.{min(repeated)}: is a constant as well; a name has one meaning, rename one."
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
                    best_of=fill(text(group.best_of), names, f"groups.{group.name}.best_of"),
                    early=fill(text(group.early), names, f"groups.{group.name}.early"),
                    axes=chosen,
                )
            )
        for name in axes:
            if f"{{{name}}}" not in f"{text(group.guidance)} {text(group.best_of)} {text(group.early)}":
                raise InputError(
                    f"groups.{group.name}.axes.{name}: no {{{name}}} is in its guidance, best_of or early, so all its "
                    "values would give the same images; write it there, or leave the axis out."
                )
    return baseline, settings


def _filled(setting: SettingDocument, names: Mapping[str, Value], where: str) -> SettingDocument:
    """A setting that is written out, with the constants in its templates."""
    if not names:
        return setting
    filled = {"title": fill(setting.title, names, f"{where}.title", label)}
    for field in ("guidance", "best_of", "early"):
        filled[field] = fill(text(getattr(setting, field)), names, f"{where}.{field}")
    return setting.model_copy(update=filled)


def fill(template: str, names: Mapping[str, Value], where: str, write: Callable[[Value], str] | None = None) -> str:
    """Return a template with every `{name}` replaced by a value.

    Args:
        template: the text of a guidance or a title.
        names: axis or constant -> value.
        where: the field that holds the template, for errors.
        write: writes a value as text; None is `text`, which is exact.

    Raises:
        InputError: with the nearest name, if a name is no axis or constant.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in names:
            has = f"it has {', '.join(names)}" if names else "it has none"
            hint = nearest(match[1], names) or " name an axis or a constant."
            raise InputError(f"{where}: {{{match[1][: limits.NAME_LETTERS]}}} is no axis of this group; {has};{hint}")
        return (write or text)(names[match[1]])

    return re.sub(r"\{(\w++)\}", value, template)


def text(value: Value) -> str:
    """Return a value as text of a guidance, exactly: 1.0 keeps its point, because 1 is a step and 1.0 is not."""
    if isinstance(value, str):
        return value
    return f"[{', '.join(map(text, value))}]" if isinstance(value, tuple) else repr(_plain(value))


def axes_in_name(name: str, group: str) -> dict[str, Value]:
    """Return the axis values that the name of a setting states, for experiments that were stored without `axes`.

    Examples:
        >>> axes_in_name("cosine k=0.3, shape=f(a=1, b=2)", "cosine")
        {'k': 0.3, 'shape': 'f(a=1, b=2)'}
        >>> axes_in_name("a name without values", "cosine")
        {}
    """
    fields = [re.fullmatch(r"(\w+)=(.+)", part, re.DOTALL) for part in _outer_parts(name.removeprefix(group))]
    return {field[1]: _read_value(field[2]) for field in fields if field} if all(fields) else {}


def _outer_parts(text: str) -> Iterator[str]:
    """The text cut at commas outside of brackets."""
    depth = start = 0
    for index, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            yield text[start:index].strip()
            start = index + 1
    yield text[start:].strip()


def _read_value(text: str) -> Value:
    for read in (int, float):
        try:
            value = read(text)
        except ValueError:
            continue
        return value if abs(value) <= float_info.max else text
    return text


def label(value: Value) -> str:
    """Return a value as text of a name or title, exactly, with 1.0 as 1."""
    if isinstance(value, str):
        return value
    return f"[{', '.join(map(label, value))}]" if isinstance(value, tuple) else number(_plain(value))


def _plain(value: float) -> float:
    """Without what numpy would write around it, and without a sign on 0."""
    return value if isinstance(value, int) else float(value) + 0.0


def _labels(values: Sequence[Value]) -> list[str]:
    """Return the values of an axis as text; 1 and 1.0 differ only where the axis has both."""
    labels = [label(value) for value in values]
    counts = Counter(labels)
    return [text(value) if counts[shown] > 1 else shown for value, shown in zip(values, labels, strict=True)]
