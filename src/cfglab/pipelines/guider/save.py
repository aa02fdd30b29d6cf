"""save_with_guider(pipe, folder): a Modular pipeline and its guiders, so that loading brings both back."""

import os
from pathlib import Path
from typing import Any

from cfglab.errors import InputError
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
        place = {"pretrained_model_name_or_path": str(folder), "subfolder": name}
        pipe.update_components(**{name: ComponentSpec(name, type(guider), **place).load()})
    try:
        pipe.save_pretrained(str(folder), overwrite_modular_index=True)
    finally:
        for name, guider in guiders.items():
            setattr(pipe, name, guider)
