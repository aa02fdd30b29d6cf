"""A setting: a named Guidance of an experiment. Loads no torch."""

import re
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from cfglab.errors import InputError, NotMatchable
from cfglab.experiments.spec.document import AxisValue, SettingDocument, Value, axes_in_name, one_line, text
from cfglab.experiments.spec.starting_noise import Noise
from cfglab.guidance import Guidance
from cfglab.guidance.guidance import parse_guidance
from cfglab.pipelines.candidates import EARLY, check_candidates
from cfglab.schedules.fields import shown


class Setting(BaseModel):
    """A named Guidance of an experiment; its cells are prompts × seeds.

    Attributes:
        name: the unique name of the setting.
        group: the name of its group.
        title: a title for reports.
        guidance: a Guidance, or text, a number or a list that is parsed to one.
        axes: axis -> its value in this setting, for the settings of a grid. Without it, the values that the name
            states as `axis=value, …`.
        best_of: candidates of each starting noise, 1 to 64; see `Cell`. More than 1 costs `best_of * early` steps an
            image more (CFG-Rejection, arXiv:2505.23343).
        early: the first steps, which candidates are compared by.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    group: str
    title: str
    guidance: Guidance
    axes: dict[str, AxisValue] = {}
    best_of: int = 1
    early: int = EARLY

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise InputError(f"setting {shown(data.get('name'))}: {one_line(error, Setting)}") from None

    @model_validator(mode="before")
    @classmethod
    def _axes_of_the_name(cls, value: Any) -> Any:
        """Settings that were stored before they had axes state them in their names."""
        if isinstance(value, dict) and value.get("axes") is None:
            value = {field: content for field, content in value.items() if field != "axes"}
            if isinstance(value.get("name"), str) and isinstance(value.get("group"), str):
                value["axes"] = axes_in_name(value["name"], value["group"])
        if isinstance(value, dict) and value.get("best_of", 1) == 1:
            value = {field: content for field, content in value.items() if field != "early"}
        return value

    @model_serializer(mode="wrap")
    def _as_stored(self, write: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Without axes where the name states them, and in what an id is made of: experiments keep their ids."""
        content: dict[str, Any] = write(self)
        if self.best_of == 1:
            del content["best_of"], content["early"]
        hashed = bool(info.context and info.context.get("hashed"))
        if hashed or self.axes == axes_in_name(self.name, self.group):
            content.pop("axes", None)
        return content

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_candidates(self.best_of, self.early)
        self.guidance.to_json()  # raises where a function cannot be stored
        return self

    @field_validator("guidance", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        value = tuple(value) if isinstance(value, list) else value
        if callable(value):  # a schedule, or a function, which `_check` refuses
            return Guidance(value)
        return parse_guidance(text(value)) if isinstance(value, str | int | float | tuple) else value


def read_setting(written: SettingDocument) -> Setting:
    """Return the Setting that a document describes.

    Args:
        written: a setting with all templates filled.

    Raises:
        NotMatchable: if its mean scale cannot be matched.
        InputError: with the name of the setting, if its guidance cannot be parsed.
    """
    try:
        guidance = parse_guidance(text(written.guidance))
    except NotMatchable:
        raise
    except InputError as error:
        raise InputError(f"setting {shown(written.name, 80)}: {error}") from error
    axes = axes_in_name(written.name, written.group) if written.axes is None else written.axes
    best_of, early = _whole(written.best_of), _whole(written.early)
    try:
        check_candidates(best_of, early)
    except InputError as error:
        raise InputError(f"setting {shown(written.name, 80)}: {error}") from error
    return Setting(
        name=written.name,
        group=written.group,
        title=written.title or written.name,
        guidance=guidance,
        axes=axes,
        best_of=best_of,
        early=early,
    )


def _whole(value: Value) -> Value:
    """A whole number that a template was filled with; anything else stays as it is."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value) else value


def check_schedule(setting: Setting, steps: int) -> None:
    """Compute w at every step, on noise levels like those of Stable Diffusion, to refuse a bad schedule early.

    Args:
        setting: the setting.
        steps: sampling steps.

    Raises:
        NotMatchable: if its mean scale cannot be matched.
        InputError: with the name of the setting, if its schedule cannot run these steps.
    """
    levels = [14.6 * (0.03 / 14.6) ** (index / max(1, steps - 1)) for index in range(steps)]
    try:
        setting.guidance.schedule.values(steps, levels)
    except NotMatchable:
        raise
    except InputError as error:
        raise InputError(f"setting {shown(setting.name, 80)}: {error}") from error


def check_candidate_noises(setting: Setting, noise: Noise, prompts: int) -> None:
    """Raise InputError if a setting has several candidates and prompts share their starting noises.

    Args:
        setting: the setting.
        noise: the design of the starting noises.
        prompts: the number of prompts.
    """
    if setting.best_of > 1 and noise == "crossed" and prompts > 1:
        raise InputError(
            f"setting {shown(setting.name, 80)}: with crossed noises prompts would choose among the same candidates, "
            "and the noises of a seed would differ all the same; best_of wants noise: nested."
        )


def written_setting(setting: Setting, *fields: str) -> dict[str, Any]:
    """Return a setting as it is written in a YAML document.

    Args:
        setting: the setting.
        *fields: the fields to write beside the guidance.
    """
    written = {**{field: getattr(setting, field) for field in fields}, "guidance": str(setting.guidance)}
    if setting.best_of > 1:
        written |= {"best_of": setting.best_of, "early": setting.early}
    if setting.axes == axes_in_name(setting.name, setting.group):
        return written
    axes = {name: list(value) if isinstance(value, tuple) else value for name, value in setting.axes.items()}
    return written | {"axes": axes}
