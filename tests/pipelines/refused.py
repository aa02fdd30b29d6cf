"""Classes that guide() refuses, built tiny and guided all the same by the rule that their source suggests.

python -m tests.pipelines.refused [CLASS...]      prints what happened to each

A class whose result is that of the untouched pipeline at the same scale should not be refused.
"""

import inspect
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.pipelines import Profile, guide
from cfglab.pipelines.profiles.table import Z_IMAGE
from cfglab.pipelines.profiles.table_unverified import RESCALED, TRANSFORMER, TWO
from tests.pipelines.families import flux2, ltx, parts, sd, stable_audio_3, z_image
from tests.pipelines.families.parts import PROMPT, calls, picture, seeded

LATENT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent"}
SOUND = torch.linspace(-1, 1, 64).reshape(1, 2, 32)
GENERIC = Profile()
ONE_PREDICTION = Profile(off=None)
"""For a pipeline with no scale at all: it makes half of the rows that the generic rule says."""


@dataclass(frozen=True)
class Try:
    """One class: how it is built and called, and the layout that its source suggests."""

    build: Callable[[], Any]
    call: Callable[..., Any]
    profile: Profile = GENERIC


def stable_diffusion(cls: str, unet: dict[str, Any] | None = None, **more: Any) -> Callable[[], Any]:
    """A builder of a pipeline of Stable Diffusion's components."""

    @seeded
    def built() -> Any:
        kind = getattr(diffusers, cls)
        taken = inspect.signature(kind.__init__).parameters
        components = {**sd.components(**(unet or {})), **sd.UNCHECKED, **more}
        return kind(**{name: value for name, value in components.items() if name in taken})

    return built


def unconditional(cls: str, scheduler: str, **arguments: Any) -> Try:
    """A pipeline of one UNet and no text."""

    @seeded
    def built() -> Any:
        unet = diffusers.UNet2DModel(
            sample_size=8,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
        return getattr(diffusers, cls)(unet=unet, scheduler=getattr(diffusers, scheduler)())

    return Try(built, without_scale(**{"batch_size": 1, "output_type": "np", **arguments}), ONE_PREDICTION)


def without_scale(**fixed: Any) -> Callable[..., Tensor]:
    """A call of a pipeline that takes no scale."""

    def call(pipe: Any, _scale: float) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        with parts.calm(0):
            return parts.tensor(pipe(**{"num_inference_steps": 3, "generator": generator, **fixed})[0])

    return call


def of(cls: str, like: Callable[[], Any], **more: Any) -> Callable[[], Any]:
    """A builder of a class that has the components of another one."""

    @seeded
    def built() -> Any:
        taken = inspect.signature(getattr(diffusers, cls).__init__).parameters
        components = {name: part for name, part in like().components.items() if name in taken}
        return getattr(diffusers, cls)(**{**components, **more})

    return built


def lcm() -> Callable[[], Any]:
    """A UNet of Stable Diffusion that reads the scale."""
    return stable_diffusion(
        "LatentConsistencyModelPipeline", {"time_cond_proj_dim": 8}, scheduler=diffusers.LCMScheduler()
    )


TRIES: dict[str, Try] = {
    # -- nothing to combine -------------------------------------------------------------------------------------------
    "DDIMPipeline": unconditional("DDIMPipeline", "DDIMScheduler"),
    "DDPMPipeline": unconditional("DDPMPipeline", "DDPMScheduler"),
    "ConsistencyModelPipeline": unconditional("ConsistencyModelPipeline", "CMStochasticIterativeScheduler"),
    "ScoreSdeVePipeline": unconditional("ScoreSdeVePipeline", "ScoreSdeVeScheduler"),
    "LatentConsistencyModelPipeline": Try(lcm(), calls(**LATENT)),
    "Flux2KleinKVPipeline": Try(
        of("Flux2KleinKVPipeline", flux2.klein("Flux2KleinPipeline")), without_scale(**flux2.TEXT), Profile(**TWO)
    ),
    "StableAudio3AudioToAudioPipeline": Try(
        of("StableAudio3AudioToAudioPipeline", stable_audio_3.text),
        without_scale(prompt=PROMPT, output_type="latent", duration=2.0, audio=SOUND),
        Profile(**TRANSFORMER, off=None),
    ),
    "MarigoldDepthPipeline": Try(
        stable_diffusion("MarigoldDepthPipeline", {"in_channels": 8, "out_channels": 4}, prediction_type="depth"),
        without_scale(image=picture(16), processing_resolution=0, output_type="pt"),
        ONE_PREDICTION,
    ),
    # -- several terms of its own -------------------------------------------------------------------------------------
    "SemanticStableDiffusionPipeline": Try(
        stable_diffusion("SemanticStableDiffusionPipeline"),
        calls(**LATENT, editing_prompt=["snow"], edit_warmup_steps=0),
    ),
    "StableDiffusionPipelineSafe": Try(stable_diffusion("StableDiffusionPipelineSafe"), calls(**LATENT)),
    "CycleDiffusionPipeline": Try(
        stable_diffusion("CycleDiffusionPipeline"),
        calls(**LATENT, source_prompt="a cat", image=picture(16), strength=0.8),
    ),
    "LTXI2VLongMultiPromptPipeline": Try(
        of("LTXI2VLongMultiPromptPipeline", ltx.text),
        calls(**{**ltx.CALL, "num_frames": 17}, temporal_tile_size=16, temporal_overlap=8),
        Profile(**TRANSFORMER, **RESCALED),
    ),
    # -- several calls, or other latents, a step ----------------------------------------------------------------------
    "StableDiffusionSAGPipeline": Try(stable_diffusion("StableDiffusionSAGPipeline"), calls(**LATENT)),
    "StableDiffusionAttendAndExcitePipeline": Try(
        stable_diffusion("StableDiffusionAttendAndExcitePipeline"),
        calls(**LATENT, token_indices=[2], attn_res=(8, 8), max_iter_to_alter=1),
    ),
    "StableDiffusionPanoramaPipeline": Try(
        stable_diffusion("StableDiffusionPanoramaPipeline"), calls(**LATENT, height=16, width=160)
    ),
    "StableDiffusionParadigmsPipeline": Try(
        stable_diffusion(
            "StableDiffusionParadigmsPipeline",
            scheduler=diffusers.DDIMParallelScheduler(beta_schedule="scaled_linear", clip_sample=False),
        ),
        calls(**LATENT, parallel=2),
    ),
    "TextToVideoZeroPipeline": Try(
        stable_diffusion("TextToVideoZeroPipeline"), calls(**LATENT, video_length=2, t0=1, t1=2)
    ),
    "ZImageOmniPipeline": Try(
        of("ZImageOmniPipeline", z_image.build("ZImagePipeline"), siglip=None, siglip_processor=None),
        calls(**z_image.TEXT),
        Profile(**Z_IMAGE),
    ),
}


def tried(attempt: Try) -> str:
    """What happens to one class under guide() at the scale 3, against the untouched pipeline."""
    pipe = attempt.build()
    rows: list[int] = []

    def before(_module: Any, args: Any, named: dict[str, Any]) -> None:
        rows.append(len(args[0] if args else next(iter(named.values()))))

    network = getattr(pipe, attempt.profile.denoisers[0])
    hook = network.register_forward_pre_hook(before, with_kwargs=True)
    untouched = attempt.call(pipe, 3.0)
    hook.remove()
    said = f"rows of the network's calls: {' '.join(map(str, rows))}; "
    try:
        with guide(pipe, 3.0, profile=attempt.profile):
            guided = attempt.call(pipe, 5.0)
    except InputError as error:
        return f"{said}refused: {error}"
    return f"{said}differs by {float((guided - untouched).norm() / untouched.norm()):.1e}"


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    for name in names or TRIES:
        try:
            print(f"{name}: {tried(TRIES[name])}", flush=True)
        except Exception as error:  # of the pipeline, or of a rule that does not fit at all
            frames = traceback.extract_tb(error.__traceback__)
            print(f"{name}: {type(error).__name__} in {frames[-1].filename}: {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
