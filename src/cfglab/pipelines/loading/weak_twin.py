"""The weak twins of the models of `cfglab.scenes`, which `autoguidance(model=twin)` asks for."""

from functools import lru_cache
from typing import Any

import diffusers
import torch

from cfglab import scenes
from cfglab.errors import InputError
from cfglab.pipelines.loading.compiled_blocks import compile_in_blocks
from cfglab.pipelines.loading.quiet import quiet

_DENOISERS: dict[str, tuple[str, Any]] = {
    "scenes": ("unet", diffusers.UNet2DConditionModel),
    "scenes-flow": ("transformer", diffusers.SD3Transformer2DModel),
}
"""Name of a model -> the folder of its denoiser, and the class."""


def twin(denoiser: Any) -> Any:
    """The twin on the device and in the dtype of `denoiser`, compiled where that is, read once. Raises InputError for
    the network of another model."""
    for name in scenes.installed():
        if _is_of(denoiser, name):
            parameter = next(denoiser.parameters())
            return _twin(name, parameter.device, parameter.dtype, hasattr(denoiser, "uncompiled"))
    raise InputError(
        f"model=twin: {' and '.join(scenes.installed())} have a twin, and this {type(denoiser).__name__} is of another "
        "model; register a weaker version of yours with register_weak_model(name, model)."
    )


def _is_of(denoiser: Any, name: str) -> bool:
    """Whether a network has the configuration of a model's denoiser."""
    ours = _configuration(name)
    theirs = dict(getattr(denoiser, "config", {}))
    return all(theirs.get(key) == _frozen(value, theirs.get(key)) for key, value in ours.items())


@lru_cache(maxsize=len(_DENOISERS))
def _configuration(name: str) -> dict[str, Any]:
    """That of a model's denoiser, read once: the twin is asked for at every step."""
    part, kind = _DENOISERS[name]
    config = kind.load_config(scenes.folder(name) / part)
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _frozen(value: Any, like: Any) -> Any:
    """Lists of a configuration file are tuples in some configurations."""
    return type(like)(value) if isinstance(value, list) and isinstance(like, list | tuple) else value


@lru_cache(maxsize=2)
def _twin(name: str, device: torch.device, dtype: torch.dtype, compiled: bool) -> Any:
    with quiet():
        _, kind = _DENOISERS[name]
        network = kind.from_pretrained(
            scenes.twin_folder(name), torch_dtype=dtype, use_safetensors=True, local_files_only=True
        )
    network = network.to(device).requires_grad_(False).eval()
    if compiled:
        compile_in_blocks(network)
    return network
