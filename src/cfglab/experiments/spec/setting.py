"""A setting: a named Guidance of an experiment. Loads no torch."""

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from cfglab.errors import InputError, NotMatchable
from cfglab.experiments.spec.document import AxisValue, SettingDocument, axes_in_name, text
from cfglab.guidance import Guidance
from cfglab.guidance.guidance import parse_guidance
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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    group: str
    title: str
    guidance: Guidance
    axes: dict[str, AxisValue] = {}

    @model_validator(mode="before")
    @classmethod
    def _axes_of_the_name(cls, value: Any) -> Any:
        """Settings that were stored before they had axes state them in their names."""
        if isinstance(value, dict) and value.get("axes") is None:
            value = {field: content for field, content in value.items() if field != "axes"}
            if isinstance(value.get("name"), str) and isinstance(value.get("group"), str):
                value["axes"] = axes_in_name(value["name"], value["group"])
        return value

    @model_serializer(mode="wrap")
    def _as_stored(self, write: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Without axes where the name states them, and in what an id is made of: experiments keep their ids."""
        content: dict[str, Any] = write(self)
        hashed = bool(info.context and info.context.get("hashed"))
        if hashed or self.axes == axes_in_name(self.name, self.group):
            content.pop("axes", None)
        return content

    @field_validator("guidance", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        value = tuple(value) if isinstance(value, list) else value
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
    return Setting(
        name=written.name, group=written.group, title=written.title or written.name, guidance=guidance, axes=axes
    )


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


def written_setting(setting: Setting, *fields: str) -> dict[str, Any]:
    """Return a setting as it is written in a YAML document.

    Args:
        setting: the setting.
        *fields: the fields to write beside the guidance.
    """
    written = {**{field: getattr(setting, field) for field in fields}, "guidance": str(setting.guidance)}
    if setting.axes == axes_in_name(setting.name, setting.group):
        return written
    axes = {name: list(value) if isinstance(value, tuple) else value for name, value in setting.axes.items()}
    return written | {"axes": axes}
