"""MinimalDiffusion against its two oracles: min-diffusion 0.0.3 itself, and diffusers' untouched pipeline."""

import warnings
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import cfglab
from cf_guidance.schedules import get_cos_sched
from cf_guidance.transforms import GuidanceTfm, TNormGuidance
from cfglab.errors import InputError
from min_diffusion.core import MinimalDiffusion
from tests.oracles import Published

PROMPT, STEPS = "a b c", 4
MODELS = ["tiny", "tiny_v"]
DTYPES = [torch.float32, torch.bfloat16]
SAMPLERS = {
    "euler": "EulerDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "dpm_multi": "DPMSolverMultistepScheduler",
}


class TheirModel:
    """min-diffusion 0.0.3 with the sampler put in by hand: it raises when it is asked for LMS."""

    def __init__(self, published: Published, folder: Path, dtype: torch.dtype, sampler: str) -> None:
        self.model = published.module("min_diffusion.core").MinimalDiffusion(str(folder), "cpu", dtype, "main")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model.load()
            self.model.scheduler = getattr(diffusers, sampler).from_pretrained(folder, subfolder="scheduler")
        self.dtype = dtype

    def generate(self, guide_tfm: Any, latents: torch.Tensor, **options: Any) -> Image.Image:
        self.model.set_initial_latents(latents.to(self.dtype))
        with warnings.catch_warnings():  # torch.has_mps
            warnings.simplefilter("ignore")
            return self.model.generate(PROMPT, guide_tfm, width=128, height=128, steps=STEPS, **options)


def model(folder: Path, dtype: torch.dtype, **options: Any) -> MinimalDiffusion:
    return MinimalDiffusion(str(folder), "cpu", dtype, generator=torch.Generator().manual_seed(7), **options)


def largest_difference(a: Image.Image, b: Image.Image) -> int:
    assert a.size == b.size
    assert np.asarray(a).std() > 5  # not one flat colour
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max())


def decoded(part: Any, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What the autoencoder is given, call after call."""
    seen: list[torch.Tensor] = []
    decode = part.decode
    monkeypatch.setattr(part, "decode", lambda z, *args, **kwargs: seen.append(z) or decode(z, *args, **kwargs))
    return seen


@pytest.mark.parametrize(
    ("name", "dtype", "sampler", "tfm"),
    [
        ("tiny", torch.float32, "euler", "TNormGuidance"),
        ("tiny_v", torch.float32, "euler", "FullNormGuidance"),
        ("tiny", torch.bfloat16, "euler", "GuidanceTfm"),
        ("tiny_v", torch.bfloat16, "euler", "GuidanceTfm"),
        ("tiny", torch.float32, "lms", "GuidanceTfm"),
        ("tiny_v", torch.bfloat16, "lms", "TNormGuidance"),
        ("tiny", torch.float32, "euler_ancestral", "BaseNormGuidance"),
        ("tiny_v", torch.float32, "dpm_multi", "GuidanceTfm"),
    ],
)
def test_the_same_picture_as_min_diffusion(
    request: pytest.FixtureRequest,
    published: Published,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    dtype: torch.dtype,
    sampler: str,
    tfm: str,
) -> None:
    folder: Path = request.getfixturevalue(name)
    schedules = {"g": get_cos_sched(num_steps=STEPS, min_val=1.0, k_decay=0.5)}
    their_tfm = getattr(published.module("cf_guidance.transforms"), tfm)(schedules)
    ours = model(folder, dtype, scheduler_kls=sampler)
    theirs = TheirModel(published, folder, dtype, SAMPLERS[sampler])
    our_latents, their_latents = decoded(ours.vae, monkeypatch), decoded(theirs.model.vae, monkeypatch)

    torch.manual_seed(3)  # the noise that an ancestral sampler adds
    picture = ours.generate(PROMPT, their_tfm, steps=STEPS, negative_prompt="d")
    assert ours.init_latents is not None
    torch.manual_seed(3)
    wanted = theirs.generate(their_tfm, ours.init_latents, negative_prompt="d")

    # They decode (1 / 0.18215) * latents, diffusers latents / 0.18215: the last bit, here and there one level of 255.
    last_bit = torch.finfo(dtype).eps
    torch.testing.assert_close(our_latents[0], their_latents[0], rtol=2 * last_bit, atol=0)
    assert largest_difference(picture, wanted) <= 1


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("style", "sampler"), [((), "lms"), (("main",), "euler")])
def test_a_constant_scale_is_the_untouched_pipeline(
    request: pytest.FixtureRequest, name: str, dtype: torch.dtype, style: tuple[str, ...], sampler: str
) -> None:
    folder: Path = request.getfixturevalue(name)
    ours = MinimalDiffusion(str(folder), "cpu", dtype, *style, generator=torch.Generator().manual_seed(7))
    picture = ours.generate(PROMPT, GuidanceTfm({"g": [7.5] * STEPS}), steps=STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, safety_checker=None)
        pipe.scheduler = getattr(diffusers, SAMPLERS[sampler]).from_pretrained(folder, subfolder="scheduler")
    pipe.enable_attention_slicing()
    assert ours.init_latents is not None
    wanted = pipe(PROMPT, num_inference_steps=STEPS, guidance_scale=7.5, latents=ours.init_latents.to(dtype)).images[0]
    assert largest_difference(picture, wanted) == 0


def test_every_way_to_say_the_scale_is_one(tiny: Path) -> None:
    ours = model(tiny, torch.float32)
    ways = [None, 7.5, "7.5", cfglab.Constant(7.5), cfglab.Guidance(7.5), GuidanceTfm({"g": 7.5}), by_hand]
    pictures = [ours.generate(PROMPT, way, steps=2) for way in ways]
    assert [largest_difference(picture, pictures[0]) for picture in pictures] == [0] * len(ways)


def by_hand(u: torch.Tensor, t: torch.Tensor, idx: int) -> torch.Tensor:  # noqa: ARG001
    return u + 7.5 * (t - u)


def test_their_schedule_runs_out_where_the_sampler_calls_twice_and_ours_does_not(
    published: Published, tiny: Path
) -> None:
    tfm = GuidanceTfm({"g": [7.5] * STEPS})
    with pytest.raises(InputError, match="step 4 of the schedule 'g' with 4 values"):
        TheirModel(published, tiny, torch.float32, "HeunDiscreteScheduler").generate(tfm, torch.zeros(1, 4, 16, 16))
    model(tiny, torch.float32, scheduler_kls="heun").generate(PROMPT, tfm, steps=STEPS)


def test_the_schedule_matters_and_a_norm_too(tiny: Path) -> None:
    ours = model(tiny, torch.float32)
    guides = [None, GuidanceTfm({"g": get_cos_sched(num_steps=STEPS)}), TNormGuidance({"g": 0.15})]
    pictures = [np.asarray(ours.generate(PROMPT, guide_tfm, steps=STEPS)).tobytes() for guide_tfm in guides]
    assert len(set(pictures)) == 3
