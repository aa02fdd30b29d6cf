"""Acceptance (d): a text in ComfyUI and the same text through `guide(pipe)` of diffusers give the same latents."""

from functools import lru_cache
from typing import Any

import comfy.samplers
import pytest
import torch
from cfglab_pack.scenes import load_scenes
from diffusers import EulerDiscreteScheduler
from torch import Tensor

import cfglab as cl

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
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    theirs, ours = of_diffusers(text, noise), of_comfyui(text, noise)
    shaken = of_diffusers(text, noise + ROUNDING * torch.randn(noise.shape, generator=torch.Generator().manual_seed(4)))
    apart, rounding = difference(ours, theirs), difference(shaken, theirs)
    note("d", text, apart, f"diffusers itself: {rounding:.2g} where its noise is rounded otherwise")
    assert apart < max(CLOSE, 2 * rounding) < 1e-4
    if text != "7.5":
        assert difference(of_diffusers("7.5", noise), theirs) > 0.01
