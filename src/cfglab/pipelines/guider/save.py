"""Guiders on disk: guidances as the JSON objects of a configuration file, and `save_with_guider(pipe, folder)`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.guidance.guidance import as_guidance
from cfglab.pipelines.loading.quiet import quiet

with quiet():
    from diffusers import ComponentSpec, ModularPipeline
    from diffusers.guiders import BaseGuidance


def save_with_guider(pipe: Any, folder: str | os.PathLike[str]) -> None:
    """Save a Modular pipeline together with its guiders, which `pipe.save_pretrained(folder)` leaves out.

    `ModularPipeline.from_pretrained(folder)` and its `load_components()` restore the pipeline with its guidance.
    Nothing is pickled: a guider is the file guider_config.json in a folder of its own.

    Args:
        pipe: a diffusers ModularPipeline.
        folder: the folder to write.

    Raises:
        InputError: before anything is written, if `pipe` is not a Modular pipeline or a guidance cannot be written as
            JSON.
    """
    if not isinstance(pipe, ModularPipeline):
        raise InputError(
            f"{type(pipe).__name__} is not a Modular pipeline: its own save_pretrained saves the guider; use that."
        )
    guiders = {name: part for name, part in pipe.components.items() if isinstance(part, BaseGuidance)}
    for name, guider in guiders.items():
        guider.save_pretrained(Path(folder) / name)
    for name, guider in guiders.items():  # diffusers saves and lists what was loaded, not what was made
        location = {"pretrained_model_name_or_path": str(folder), "subfolder": name}
        pipe.update_components(**{name: ComponentSpec(name, type(guider), **location).load()})
    try:
        pipe.save_pretrained(str(folder), overwrite_modular_index=True)
    finally:
        for name, guider in guiders.items():
            setattr(pipe, name, guider)


def guidance_of(value: Any) -> Any:
    """A guidance from a value that stands for one, or from its JSON object.

    Args:
        value: As for `as_guidance`, or the JSON object of a Guidance.

    Returns:
        The guidance.

    Raises:
        InputError: The value stands for no guidance, or the stored guidance could not be written.
    """
    if value is None:
        raise InputError(
            "no guidance in this configuration of a guider: it was made of something that cannot be stored; "
            "make the guider with to_guider(guidance)."
        )
    return Guidance(**value) if isinstance(value, dict) and "schedule" in value else as_guidance(value)


def as_json_objects(guidances: Sequence[Any]) -> tuple[list[Any] | None, str]:
    """Guidances as JSON objects.

    Args:
        guidances: The guidances.

    Returns:
        The objects and ""; or None and the reason in one line, if one of them cannot be written.
    """
    try:
        return [_object(guidance) for guidance in guidances], ""
    except InputError as error:
        return None, str(error)


def _object(guidance: Any) -> Any:
    if not isinstance(guidance, Guidance):
        raise InputError(f"{guidance!r} cannot be written: only a Guidance is stored; give to_guider one.")
    return json.loads(guidance.to_json())
