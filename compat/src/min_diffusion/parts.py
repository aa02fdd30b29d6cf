"""What MinimalDiffusion is put together from: its noise, its autoencoder, a transform of the notebook as a guidance."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from cfglab.errors import InputError
from cfglab.pipelines.loading.quiet import StableDiffusionPipeline
from cfglab.step import Step

GuideTfm = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]

BETTER_VAES = {"ema": "stabilityai/sd-vae-ft-ema", "mse": "stabilityai/sd-vae-ft-mse"}


class CalledByIndex:
    """A transform of the notebook, `(uncond, cond, index) -> prediction`, where cfglab expects a guidance."""

    def __init__(self, guide_tfm: GuideTfm) -> None:
        self.guide_tfm = guide_tfm

    def start(self, prediction: str) -> "CalledByIndex":  # noqa: ARG002 (it acts on whatever the model predicts)
        return self

    def combine(
        self,
        uncond: torch.Tensor,
        cond: torch.Tensor,
        step: Step,
        latents: torch.Tensor | None = None,  # noqa: ARG002
    ) -> torch.Tensor:
        return self.guide_tfm(uncond, cond, step.index)


class Part:
    """An attribute of MinimalDiffusion that is the pipeline's: `model.unet` reads it, `model.scheduler = x` sets it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, model: Any, owner: type) -> Any:
        return self if model is None else getattr(model.loaded(), self.name)

    def __set__(self, model: Any, value: Any) -> None:
        setattr(model.loaded(), self.name, value)


def copied_state(generator: torch.Generator | None) -> torch.Tensor | None:
    """The state of a CPU generator; for one of another device that of a CPU one with its seed; None for None."""
    if generator is None:
        return None
    if generator.device.type != "cpu":
        generator = torch.Generator().manual_seed(generator.initial_seed())
    return generator.get_state().clone()


@contextmanager
def karras_sigmas(pipe: Any, wanted: bool) -> Iterator[None]:
    """The pipeline's sampler at the noise levels of Karras et al. (2022) inside, if `wanted`."""
    scheduler = pipe.scheduler
    if not wanted:
        yield
        return
    if "use_karras_sigmas" not in inspect.signature(type(scheduler)).parameters:
        raise InputError(
            f"use_karras_sigmas=True: a {type(scheduler).__name__} has no such noise levels; leave it out, or load "
            "with scheduler_kls='euler', 'lms', 'heun' or 'dpm_multi'."
        )
    pipe.scheduler = type(scheduler).from_config(scheduler.config, use_karras_sigmas=True)
    try:
        yield
    finally:
        pipe.scheduler = scheduler


def load_better_vae(name: str, pipe: StableDiffusionPipeline) -> AutoencoderKL:
    """The autoencoder `ema` or `mse` of stability.ai, or that of a local folder, on the pipeline's device and dtype."""
    folder = Path(name)
    if name not in BETTER_VAES and not folder.is_dir():
        raise InputError(
            f"better_vae={name!r}: 'ema', 'mse' or a local folder with an autoencoder; '' for the model's own."
        )
    try:
        vae = AutoencoderKL.from_pretrained(
            BETTER_VAES.get(name, name), torch_dtype=pipe.vae.dtype, use_safetensors=True
        )
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"better_vae={name!r} cannot be loaded ({reason}); '' takes the model's own.") from error
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if factor != pipe.vae_scale_factor:
        raise InputError(
            f"better_vae={name!r} makes {factor} pixels of one latent, this model's own {pipe.vae_scale_factor}: "
            "they have to be the same; '' takes the model's own."
        )
    channels, own = vae.config.latent_channels, pipe.vae.config.latent_channels
    if channels != own:
        raise InputError(
            f"better_vae={name!r} has latents of {channels} channels, this model's own {own}: they have to be the "
            "same; '' takes the model's own."
        )
    return vae.to(pipe.device)
