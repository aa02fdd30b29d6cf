"""Classes that guide() refuses because of their networks: several in one call, outputs of several kinds, upsamplers."""

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel
from diffusers.pipelines.deprecated.unidiffuser import UniDiffuserModel, UniDiffuserTextDecoder
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from torch import Tensor

from cfglab.pipelines import Profile
from cfglab.pipelines.profiles.table import TRANSFORMER
from tests.pipelines.families import dreamlite, flux, ltx2, parts, unclip, versatile_diffusion
from tests.pipelines.families.parts import PROMPT, calls, pil, seeded
from tests.pipelines.refused_tries import ONE_PREDICTION, Try, small_unet, without_scale


def unclip_of(cls: str, **more: Any) -> Any:
    """A builder of this class of unCLIP: a decoder, and two networks that make its image larger."""

    @seeded
    def built() -> Any:
        decoder = parts.unet(
            in_channels=3,
            out_channels=6,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            class_embed_type="identity",
            resnet_time_scale_shift="scale_shift",
        )
        projection = UnCLIPTextProjModel(
            clip_embeddings_dim=parts.WIDTH, time_embed_dim=64, cross_attention_dim=parts.WIDTH
        )
        larger = {"sample_size": 16, "in_channels": 6, "out_channels": 3}
        return getattr(diffusers, cls)(
            decoder=decoder,
            text_encoder=parts.clip_text(projection=parts.WIDTH),
            tokenizer=parts.clip_tokenizer(),
            text_proj=projection,
            super_res_first=small_unet(**larger),
            super_res_last=small_unet(**larger),
            decoder_scheduler=diffusers.UnCLIPScheduler(variance_type="learned_range", prediction_type="epsilon"),
            super_res_scheduler=diffusers.UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="epsilon"),
            **{name: make() for name, make in more.items()},
        )

    return built


def sampled(scale_argument: str = "", **fixed: Any) -> Callable[..., Tensor]:
    """A call of a pipeline that has no one number of steps; with `scale_argument` it takes a scale."""

    def call(pipe: Any, scale: float) -> Tensor:
        named = {scale_argument: scale} if scale_argument else {}
        with parts.calm(0):
            return parts.tensor(pipe(generator=torch.Generator().manual_seed(0), **named, **fixed)[0])

    return call


STEPS: dict[str, Any] = {"decoder_num_inference_steps": 2, "super_res_num_inference_steps": 2, "output_type": "np"}


@seeded
def image_and_text() -> Any:
    """UniDiffuser, whose network predicts an image twice and a text."""
    network = UniDiffuserModel(
        text_dim=parts.WIDTH,
        clip_img_dim=parts.WIDTH,
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        norm_num_groups=4,
        sample_size=8,
        patch_size=2,
        block_type="unidiffuser",
        use_patch_pos_embed=True,
    )
    return diffusers.UniDiffuserPipeline(
        vae=parts.vae(),
        text_encoder=parts.clip_text(),
        image_encoder=parts.clip_vision(),
        clip_image_processor=parts.clip_pictures(),
        clip_tokenizer=parts.clip_tokenizer(),
        text_decoder=UniDiffuserTextDecoder(77, parts.WIDTH, parts.WIDTH, n_embd=parts.WIDTH, n_layer=1, n_head=2),
        text_tokenizer=parts.tokenizer(),
        unet=parts.awake(network),
        scheduler=parts.sd_scheduler(),
    )


def grid_of_images() -> Any:
    """VisualCloze, which fills the gap in a grid of images and then makes it larger."""
    pipe = seeded(lambda: diffusers.VisualClozePipeline(**flux.components(48, embedded=True), resolution=16))()
    for inside in (pipe.generation_pipe, pipe.upsampling_pipe):
        inside.set_progress_bar_config(disable=True)
    return pipe


@seeded
def text() -> Any:
    """LLaDA 2, with any model of language in place of its own."""
    return diffusers.LLaDA2Pipeline(
        model=parts.language("Llama", head=True), scheduler=diffusers.BlockRefinementScheduler(), tokenizer=None
    )


@seeded
def twice_as_large() -> Any:
    upsampler = LTX2LatentUpsamplerModel(in_channels=4, mid_channels=32, num_blocks_per_stage=1)
    return diffusers.LTX2LatentUpsamplePipeline(vae=ltx2.components()["vae"], latent_upsampler=upsampler)


SIZE: dict[str, Any] = {"height": 32, "width": 32, "output_type": "latent"}
ENCODED = {name: value for name, value in ltx2.TOLD.items() if not name.startswith("negative")}

NETWORKS: dict[str, Try] = {
    "UnCLIPPipeline": Try(
        unclip_of(
            "UnCLIPPipeline",
            prior=unclip.prior,
            prior_scheduler=lambda: diffusers.UnCLIPScheduler(
                variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
            ),
        ),
        sampled("decoder_guidance_scale", **STEPS, prompt=PROMPT, prior_num_inference_steps=2),
        Profile(denoisers=("decoder",), scale="decoder_guidance_scale", variance="half"),
    ),
    "UnCLIPImageVariationPipeline": Try(
        unclip_of(
            "UnCLIPImageVariationPipeline", feature_extractor=parts.clip_pictures, image_encoder=parts.clip_vision
        ),
        sampled("decoder_guidance_scale", **STEPS, image=pil(32)),
        Profile(denoisers=("decoder",), scale="decoder_guidance_scale", variance="half"),
    ),
    "UniDiffuserPipeline": Try(
        image_and_text,
        calls(prompt=PROMPT, height=16, width=16, output_type="latent"),
        Profile(layout="two calls", parts=("cond", "uncond")),
    ),
    "VisualClozePipeline": Try(
        grid_of_images,
        calls(
            task_prompt="an edit",
            content_prompt=PROMPT,
            image=[[pil(16), pil(16)], [pil(16), None]],
            upsampling_height=16,
            upsampling_width=16,
            upsampling_strength=0.7,
            max_sequence_length=24,
            output_type="np",
        ),
        inside="generation_pipe upsampling_pipe",
    ),
    "DreamLiteMobilePipeline": Try(
        dreamlite.build("DreamLiteMobilePipeline"),
        without_scale(prompt=PROMPT, height=16, width=16, output_type="latent"),
        ONE_PREDICTION,
    ),
    "VersatileDiffusionDualGuidedPipeline": Try(
        versatile_diffusion.build("VersatileDiffusionDualGuidedPipeline", "text", "image"),
        calls(**versatile_diffusion.SIZE, prompt=PROMPT, image=pil(32)),
        Profile(denoisers=("image_unet",)),
    ),
    "LTX2DFRPipeline": Try(
        seeded(lambda: diffusers.LTX2DFRPipeline(**ltx2.components())),
        sampled(**ENCODED, **SIZE, generate_slots=False, num_frames=9, sigmas=[1.0, 0.7, 0.3]),
        Profile(**TRANSFORMER, off=None),
    ),
    "LLaDA2Pipeline": Try(
        text,
        lambda pipe, _scale: parts.tensor(
            pipe(
                input_ids=torch.tensor([[9, 10, 11]]),
                mask_token_id=3,
                gen_length=8,
                block_length=4,
                num_inference_steps=3,
                output_type="seq",
            )[0]
        ),
        Profile(denoisers=("model",), off=None),
    ),
    "LTX2LatentUpsamplePipeline": Try(
        twice_as_large,
        lambda pipe, _scale: parts.tensor(pipe(video=torch.zeros(5, 3, 32, 32), **SIZE)[0]),
        Profile(denoisers=("latent_upsampler",), off=None),
    ),
}
"""Class -> how it was tried."""
