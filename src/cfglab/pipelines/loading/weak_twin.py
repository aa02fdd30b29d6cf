"""The weak twin of the bundled denoiser, which `autoguidance(model=twin)` asks for."""

from functools import lru_cache
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from cfglab.errors import InputError
from cfglab.pipelines.loading.compiled_blocks import compile_in_blocks
from cfglab.pipelines.loading.quiet import quiet
from cfglab.scenes import folder, twin_folder


def twin(denoiser: Any) -> UNet2DConditionModel:
    """The twin on the device and in the dtype of `denoiser`, compiled where that is, read once. Raises InputError for
    another network than the bundled model's."""
    config = UNet2DConditionModel.load_config(folder() / "unet")
    ours = {key: value for key, value in config.items() if not key.startswith("_")}
    theirs = dict(getattr(denoiser, "config", {}))
    if any(theirs.get(key) != _frozen(value, theirs.get(key)) for key, value in ours.items()):
        raise InputError(
            f"model=twin: it is the twin of the bundled model, and this {type(denoiser).__name__} is another; register "
            "a weaker version of yours with register_weak_model(name, model)."
        )
    parameter = next(denoiser.parameters())
    return _twin(parameter.device, parameter.dtype, hasattr(denoiser, "uncompiled"))


def _frozen(value: Any, like: Any) -> Any:
    """Lists of a configuration file are tuples in some configurations."""
    return type(like)(value) if isinstance(value, list) and isinstance(like, list | tuple) else value


@lru_cache(maxsize=2)
def _twin(device: torch.device, dtype: torch.dtype, compiled: bool) -> UNet2DConditionModel:
    with quiet():
        network = UNet2DConditionModel.from_pretrained(
            twin_folder(), torch_dtype=dtype, use_safetensors=True, local_files_only=True
        )
    network = network.to(device).requires_grad_(False).eval()
    if compiled:
        compile_in_blocks(network)
    return network
