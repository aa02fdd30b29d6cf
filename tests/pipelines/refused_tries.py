"""How classes that guide() refuses are built tiny and called, and the rule that their source suggests."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import Tensor

from cfglab.pipelines import Profile
from cfglab.pipelines.profiles.table import RESCALED, TRANSFORMER, TWO, Z_IMAGE
from tests.pipelines.families import cascade, flux2, kandinsky, ltx, parts, sd, stable_audio_3, z_image
from tests.pipelines.families.parts import PROMPT, calls, mask, picture, pil, seeded

LATENT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent"}
SOUND = torch.linspace(-1, 1, 64).reshape(1, 2, 32)
GENERIC = Profile()
ONE_PREDICTION = Profile(off=None)
"""For a pipeline with no scale at all: it makes half of the rows that the generic rule says."""


@dataclass(frozen=True)
class Try:
    """One class: how it is built and called, and the layout that its source suggests.

    `inside` are the pipelines in it that are guided in its place; one with a `guider` is given `to_guider` for it.
    """

    build: Callable[[], Any]
    call: Callable[..., Any]
    profile: Profile = GENERIC
    inside: str = ""
    guider: bool = False


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


def image_at(size: int, **fixed: Any) -> Callable[..., Tensor]:
    """A call that takes no scale and gives an image of numbers."""
    return without_scale(output_type="np", image=picture(size), **fixed)


def small_unet(**more: Any) -> Any:
    """A UNet without a text."""
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    shape = {"sample_size": 8, "block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
    return diffusers.UNet2DModel(**{**shape, **blocks, **more})


def codebook() -> Any:
    """An autoencoder with a codebook, which makes images half as wide."""
    return diffusers.VQModel(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
        norm_num_groups=4,
    )


@seeded
def latent_unconditional() -> Any:
    return diffusers.LDMPipeline(vqvae=codebook(), unet=small_unet(), scheduler=diffusers.DDIMScheduler())


@seeded
def latent_super_resolution() -> Any:
    return diffusers.LDMSuperResolutionPipeline(
        vqvae=codebook(), unet=small_unet(in_channels=6, out_channels=3), scheduler=diffusers.DDIMScheduler()
    )


@seeded
def sound_unconditional() -> Any:
    unet = diffusers.UNet1DModel(
        block_out_channels=(32, 64),
        extra_in_channels=64,
        sample_size=64,
        sample_rate=64,
        in_channels=2,
        out_channels=2,
        flip_sin_to_cos=True,
        use_timestep_embedding=False,
        time_embedding_type="fourier",
        mid_block_type="UNetMidBlock1D",
        down_block_types=("DownBlock1DNoSkip", "AttnDownBlock1D"),
        up_block_types=("AttnUpBlock1D", "UpBlock1DNoSkip"),
    )
    return diffusers.DanceDiffusionPipeline(unet=unet, scheduler=diffusers.IPNDMScheduler())


def combined(cls: str, decoder: Callable[[], Any], prior: Callable[[], Any]) -> Callable[[], Any]:
    """A builder of a pipeline of two, from those two."""

    def built() -> Any:
        kind = getattr(diffusers, cls)
        taken = inspect.signature(kind.__init__).parameters
        named = {**decoder().components, **{f"prior_{name}": part for name, part in prior().components.items()}}
        pipe = kind(**{name: part for name, part in named.items() if name in taken})
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return built


def two_stages(scale: str = "guidance_scale", **fixed: Any) -> Callable[..., Tensor]:
    """A call of a pipeline of two: the second one's scale, and two steps of each."""

    def call(pipe: Any, value: float) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        steps = {"num_inference_steps": 2, "prior_num_inference_steps": 2, scale: value}
        with parts.calm(0):
            return parts.tensor(pipe(prompt=PROMPT, generator=generator, output_type="pt", **steps, **fixed)[0])

    return call


SQUARE: dict[str, Any] = {"height": 16, "width": 16}
PRIOR_22 = kandinsky.prior("KandinskyV22PriorPipeline")
PRIOR_21 = kandinsky.prior("KandinskyPriorPipeline")


def of(cls: str, like: Callable[[], Any], **more: Any) -> Callable[[], Any]:
    """A builder of a class that has the components of another one."""

    @seeded
    def built() -> Any:
        taken = inspect.signature(getattr(diffusers, cls).__init__).parameters
        components = {name: part for name, part in like().components.items() if name in taken}
        return getattr(diffusers, cls)(**{**components, **more})

    return built


def filling_sound() -> Any:
    """Stable Audio 3, whose network reads the sound around the gap."""
    whole = stable_audio_3.text()
    config = {**whole.transformer.config, "local_add_cond_dim": whole.vae.config.latent_dim + 1}
    transformer = parts.awake(diffusers.StableAudio3DiTModel.from_config(config).eval())
    return of("StableAudio3InpaintPipeline", lambda: whole, transformer=transformer)()


def filling_kandinsky() -> Any:
    """Kandinsky 2.1, whose UNet reads the image around the gap."""
    pipe = kandinsky.first()
    pipe.unet = kandinsky.decoder("KandinskyV22Pipeline", 9, added="text_image", read="text_image_proj")().unet
    return pipe


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
    "PNDMPipeline": unconditional("PNDMPipeline", "PNDMScheduler", num_inference_steps=6),
    "KarrasVePipeline": unconditional("KarrasVePipeline", "KarrasVeScheduler"),
    "LDMPipeline": Try(latent_unconditional, without_scale(output_type="np"), ONE_PREDICTION),
    "LDMSuperResolutionPipeline": Try(latent_super_resolution, image_at(16), ONE_PREDICTION),
    "DanceDiffusionPipeline": Try(sound_unconditional, without_scale(audio_length_in_s=1.0), ONE_PREDICTION),
    "RePaintPipeline": Try(
        unconditional("RePaintPipeline", "RePaintScheduler").build,
        image_at(8, mask_image=mask(8), jump_length=1, jump_n_sample=1),
        ONE_PREDICTION,
    ),
    "LatentConsistencyModelImg2ImgPipeline": Try(
        of("LatentConsistencyModelImg2ImgPipeline", lcm()), calls(**LATENT, image=picture(16), strength=0.9)
    ),
    "MarigoldNormalsPipeline": Try(
        stable_diffusion("MarigoldNormalsPipeline", {"in_channels": 8, "out_channels": 4}, prediction_type="normals"),
        without_scale(image=picture(16), processing_resolution=0, output_type="pt"),
        ONE_PREDICTION,
    ),
    "MarigoldIntrinsicsPipeline": Try(
        stable_diffusion(
            "MarigoldIntrinsicsPipeline", {"in_channels": 12, "out_channels": 8}, prediction_type="intrinsics"
        ),
        without_scale(image=picture(16), processing_resolution=0, output_type="pt"),
        ONE_PREDICTION,
    ),
    "StableAudio3InpaintPipeline": Try(
        filling_sound,
        without_scale(
            prompt=PROMPT, output_type="latent", duration=2.0, audio=SOUND, mask_start_seconds=0.5, mask_end_seconds=1.0
        ),
        Profile(**TRANSFORMER, off=None),
    ),
    # -- made of two --------------------------------------------------------------------------------------------------
    "KandinskyV22CombinedPipeline": Try(
        combined("KandinskyV22CombinedPipeline", kandinsky.decoder("KandinskyV22Pipeline"), PRIOR_22),
        two_stages(**SQUARE),
        inside="decoder_pipe",
    ),
    "KandinskyV22Img2ImgCombinedPipeline": Try(
        combined("KandinskyV22Img2ImgCombinedPipeline", kandinsky.decoder("KandinskyV22Img2ImgPipeline"), PRIOR_22),
        two_stages(image=pil(16), strength=1.0, **SQUARE),
        inside="decoder_pipe",
    ),
    "KandinskyV22InpaintCombinedPipeline": Try(
        combined("KandinskyV22InpaintCombinedPipeline", kandinsky.decoder("KandinskyV22InpaintPipeline", 9), PRIOR_22),
        two_stages(image=pil(16), mask_image=mask(16)[0, 0].numpy(), **SQUARE),
        inside="decoder_pipe",
    ),
    "KandinskyCombinedPipeline": Try(
        combined("KandinskyCombinedPipeline", kandinsky.first, PRIOR_21), two_stages(**SQUARE), inside="decoder_pipe"
    ),
    "KandinskyImg2ImgCombinedPipeline": Try(
        combined("KandinskyImg2ImgCombinedPipeline", kandinsky.first, PRIOR_21),
        two_stages(image=pil(16), strength=1.0, **SQUARE),
        inside="decoder_pipe",
    ),
    "KandinskyInpaintCombinedPipeline": Try(
        combined("KandinskyInpaintCombinedPipeline", filling_kandinsky, PRIOR_21),
        two_stages(image=pil(16), mask_image=mask(16)[0, 0].numpy(), **SQUARE),
        inside="decoder_pipe",
    ),
    "StableCascadeCombinedPipeline": Try(
        combined("StableCascadeCombinedPipeline", cascade.decoder, cascade.prior),
        two_stages("decoder_guidance_scale", height=128, width=128),
        inside="decoder_pipe",
    ),
    "WuerstchenCombinedPipeline": Try(
        combined("WuerstchenCombinedPipeline", cascade.old_decoder, cascade.old_prior),
        two_stages("decoder_guidance_scale", height=128, width=128),
        inside="decoder_pipe",
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
