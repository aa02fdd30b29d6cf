"""Acceptance (d): a text in ComfyUI and the same text through `guide(pipe)` of diffusers give the same latents.

And the bundled model with ComfyUI's own nodes: its eight latent channels, and previews of them.
"""

from functools import lru_cache
from random import Random
from typing import Any

import comfy.samplers
import latent_preview
import nodes
import numpy as np
import pytest
import torch
from cfglab_pack.scenes import load_scenes
from comfy.cli_args import LatentPreviewMethod
from diffusers import EulerDiscreteScheduler
from torch import Tensor
from torch.nn.functional import avg_pool2d

import cfglab as cl
from cfglab.scenes.renderer import render
from cfglab.scenes.vocabulary import Scene

from .figures import note
from .test_acceptance import CLOSE, difference, guided

PROMPT, FURTHER = "a photograph of an astronaut riding a horse", "a photograph of a horse"
STEPS = 8
ROUNDING = 3e-7
"""A change of the noise in its last bits; the two tables of sigmas are 1.8e-6 apart."""
TEXTS = [
    "7.5",
    "cosine(max=7.5, min=1, k=0.3)",
    "constant(5).inside(progress=(0.25, 0.75))",
    "constant(5).inside(sigma=(0.5, 6))",
    "7.5 | apg()",
    "7.5 | rescale() | tcfg()",
    "5 | pag()",
    "5 | seg(sigma=1)",
    "5 | skip_layers(layers=mid, start=0, stop=1)",
    "5 | sag()",
    "5 | tsg(w=2, s=1)",
    "5 | icg()",
    "1 | autoguidance(w=2, model=twin)",
    f"7.5 | perp_neg(prompt='{FURTHER}')",
    f"7.5 | dual_cfg(prompt='{FURTHER}', middle=2)",
    f"1 | nag(s=5, prompt='{FURTHER}')",
]


@lru_cache(maxsize=1)
def pipeline() -> Any:
    pipe = cl.load("scenes", device="cpu")
    pipe.scheduler = EulerDiscreteScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing", steps_offset=0
    )
    return pipe


def of_diffusers(text: str, noise: Tensor) -> Tensor:
    pipe = pipeline()
    pipe.set_progress_bar_config(disable=True)
    with cl.guide(pipe, text):
        return pipe(PROMPT, num_inference_steps=STEPS, latents=noise, output_type="latent").images


def shaken(noise: Tensor) -> list[Tensor]:
    """The noise, rounded otherwise three times: one change alone moves a sample three times less than another does."""
    generators = [torch.Generator().manual_seed(seed) for seed in (4, 5, 6)]
    return [noise + ROUNDING * torch.randn(noise.shape, generator=generator) for generator in generators]


def of_comfyui(text: str, noise: Tensor) -> Tensor:
    model, encoder, _ = load_scenes()

    def encoded(prompt: str) -> Any:
        return encoder.encode_from_tokens_scheduled(encoder.tokenize(prompt))

    scheduler = pipeline().scheduler
    scheduler.set_timesteps(STEPS)
    sigmas = scheduler.sigmas.clone()
    patched = guided(model, text, prompts=(encoded(FURTHER),) if FURTHER in text else ())
    guider = comfy.samplers.CFGGuider(patched)
    guider.set_conds(encoded(PROMPT), encoded(""))
    sampling = model.get_model_object("model_sampling")
    start = noise * (sigmas[0] / (1 + sampling.sigma_max**2).sqrt())  # ComfyUI starts a whole run at unit variance
    sampler = comfy.samplers.sampler_object("euler")
    latent = guider.sample(start, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True, seed=0)
    return model.model.process_latent_in(latent)


@pytest.mark.parametrize("text", TEXTS)
def test_d_a_text_gives_the_latents_that_it_gives_on_diffusers(text: str) -> None:
    noise = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(3))
    theirs, ours = of_diffusers(text, noise), of_comfyui(text, noise)
    apart, rounding = difference(ours, theirs), max(difference(of_diffusers(text, x), theirs) for x in shaken(noise))
    note("d", text, apart, f"diffusers itself: {rounding:.2g} where its noise is rounded otherwise")
    assert apart < max(CLOSE, 2 * rounding) < 1e-4
    if text != "7.5":
        assert difference(of_diffusers("7.5", noise), theirs) > 0.01


def test_an_empty_latent_of_four_channels_becomes_an_image_of_its_size() -> None:
    model, encoder, vae = load_scenes()
    (empty,) = nodes.EmptyLatentImage().generate(width=128, height=128)
    assert empty["samples"].shape == (1, 4, 16, 16)
    positive, negative = (encoder.encode_from_tokens_scheduled(encoder.tokenize(text)) for text in (PROMPT, ""))
    (latent,) = nodes.common_ksampler(guided(model, "4"), 3, 2, 1.0, "euler", "simple", positive, negative, empty)
    assert latent["samples"].shape == (1, 8, 16, 16)
    assert vae.decode(latent["samples"]).shape == (1, 128, 128, 3)


def test_a_preview_shows_the_colours_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, vae = load_scenes()
    monkeypatch.setattr(latent_preview.args, "preview_method", LatentPreviewMethod.Latent2RGB)
    previewer = latent_preview.get_previewer(torch.device("cpu"), model.model.latent_format)
    scenes = [Scene("car", "next to", "balloon", background) for background in ("white", "purple", "black")]
    images = torch.from_numpy(render(scenes, Random(5))) / 255
    latents = model.model.process_latent_in(vae.encode(images))
    small = avg_pool2d(images.movedim(-1, 1), 8).movedim(1, -1)
    for latent, colours in zip(latents, small, strict=True):
        preview = np.array(previewer.decode_latent_to_preview(latent[None]))
        apart = torch.from_numpy(preview) / 255 - colours
        assert apart.square().mean() < 0.1 * small.var()
