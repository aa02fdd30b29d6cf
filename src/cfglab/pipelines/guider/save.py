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
    """`pipe.save_pretrained(folder)` with the guiders, which it leaves out, those of diffusers too.

    `ModularPipeline.from_pretrained(folder)` and its `load_components()` then give the pipeline with its guidance.

    Nothing is pickled: a guider is the JSON file guider_config.json of its own folder. Raises InputError for another
    kind of pipeline, and for a guidance that cannot be written, before anything is.
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
