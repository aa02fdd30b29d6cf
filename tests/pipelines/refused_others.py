"""More classes that guide() refuses: several networks one after the other, caches, stages, and none that denoises."""

from collections.abc import Callable
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from torch import Tensor, nn

from cfglab.pipelines import Profile
from cfglab.pipelines.profiles.table import TRANSFORMER, TWO
from tests.pipelines.families import helios, ltx, parts, parts_video, sd, sdxl
from tests.pipelines.families.parts import PROMPT, calls, pil, seeded
from tests.pipelines.refused_tries import LATENT, Try, stable_diffusion

SQUARE: dict[str, Any] = {"height": 16, "width": 16}


@seeded
def far() -> Any:
    transformer = diffusers.AnyFlowFARTransformer3DModel(
        patch_size=(1, 2, 2),
        compressed_patch_size=(1, 4, 4),
        full_chunk_limit=3,
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=parts.WIDTH,
        freq_dim=32,
        ffn_dim=32,
        num_layers=1,
        rope_max_seq_len=32,
        gate_value=0.25,
        deltatime_type="r",
        chunk_partition=(1, 1, 1),
    )
    return diffusers.AnyFlowFARPipeline(
        **parts_video.text(),
        transformer=transformer,
        vae=parts_video.wan_vae(),
        scheduler=diffusers.FlowMapEulerDiscreteScheduler(num_train_timesteps=1000, shift=5.0),
    )


def upsampler() -> Any:
    return LTXLatentUpsamplerModel(in_channels=8, mid_channels=32, num_blocks_per_stage=1, dims=3)


@seeded
def upsampled() -> Any:
    return diffusers.LTXLatentUpsamplePipeline(vae=ltx.vae(), latent_upsampler=upsampler())


@seeded
def redux() -> Any:
    config = transformers.SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
    )
    return diffusers.FluxPriorReduxPipeline(
        image_encoder=transformers.SiglipVisionModel(config),
        feature_extractor=transformers.SiglipImageProcessorPil(size={"height": 16, "width": 16}),
        image_embedder=ReduxImageEncoder(redux_dim=16, txt_in_features=4096),
    )


def encoded(pipe: Any, _scale: float) -> Tensor:
    """A call that encodes an image."""
    with torch.no_grad():
        return parts.tensor(pipe(pil(16)).prompt_embeds)


def made_twice(cls: str, like: Callable[[], dict[str, Any]]) -> Callable[[], Any]:
    """A builder of a class that inverts an image before it edits it."""

    @seeded
    def built() -> Any:
        more = {} if "XL" in cls else sd.UNCHECKED
        scheduler = diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", solver_order=2)
        return getattr(diffusers, cls)(**{**like(), "scheduler": scheduler}, **more)

    return built


def inverted(pipe: Any, scale: float) -> Tensor:
    """A call of LEDITS++: an inversion, whose calls the pipeline makes too, and an edit of one prompt."""
    with parts.calm(0):
        pipe.invert(image=pil(64), num_inversion_steps=4, skip=0.2, generator=torch.Generator().manual_seed(0))
        made = pipe(editing_prompt=["snow"], edit_guidance_scale=scale, output_type="latent", use_intersect_mask=False)
    return parts.tensor(made[0])


def zero(pipe: Any, scale: float) -> Tensor:
    """A call of Pix2Pix-Zero, with the directions of an edit."""
    return parts.run(
        pipe,
        scale,
        prompt=PROMPT,
        source_embeds=parts.words(1, length=77),
        target_embeds=parts.words(2, length=77),
        output_type="latent",
    )


@seeded
def boxes_of_images() -> Any:
    class Projection(nn.Module):
        def forward(self, feature: Tensor) -> Tensor:
            return feature

    return diffusers.StableDiffusionGLIGENTextImagePipeline(
        **sd.components(attention_type="gated-text-image"),
        **sd.UNCHECKED,
        processor=None,
        image_encoder=None,
        image_project=None,
    )


STAGES: dict[str, Any] = {
    **{"prompt": PROMPT, "negative": "grey", "output_type": "latent", "height": 32, "width": 32, "num_frames": 5},
    **{"num_latent_frames_per_chunk": 2, "history_sizes": [4, 2, 1], "max_sequence_length": 16},
    "pyramid_num_inference_steps_list": [2, 2],
}


def pyramid(pipe: Any, scale: float) -> Tensor:
    """A call of Helios in two stages, which counts its steps stage by stage."""
    arguments = {name: value for name, value in STAGES.items() if name != "negative"}
    with parts.calm(0):
        generator = torch.Generator().manual_seed(0)
        return parts.tensor(pipe(**arguments, negative_prompt="grey", guidance_scale=scale, generator=generator)[0])


@seeded
def staged() -> Any:
    whole = helios.build().components
    whole["scheduler"] = diffusers.HeliosScheduler(
        stages=2, stage_range=[0, 1 / 2, 1], gamma=0.2, use_dynamic_shifting=True
    )
    return diffusers.HeliosPyramidPipeline(**whole)


OTHERS: dict[str, Try] = {
    "AnyFlowFARPipeline": Try(
        far,
        parts_video.video_calls(
            prompt=PROMPT, negative="grey", **SQUARE, num_frames=9, max_sequence_length=16, output_type="latent"
        ),
        Profile(**TRANSFORMER),
    ),
    "LTXLatentUpsamplePipeline": Try(
        upsampled,
        lambda pipe, _scale: parts.tensor(pipe(video=torch.zeros(5, 3, 32, 32), **SQUARE, output_type="latent")[0]),
        Profile(denoisers=("latent_upsampler",), off=None),
    ),
    "FluxPriorReduxPipeline": Try(redux, encoded, Profile(denoisers=("image_embedder",), off=None)),
    "TextToVideoZeroSDXLPipeline": Try(
        seeded(lambda: diffusers.TextToVideoZeroSDXLPipeline(**sdxl.components())),
        calls(prompt=PROMPT, output_type="latent", video_length=2, t0=1, t1=2),
    ),
    "StableDiffusionPix2PixZeroPipeline": Try(
        stable_diffusion(
            "StableDiffusionPix2PixZeroPipeline", inverse_scheduler=None, caption_generator=None, caption_processor=None
        ),
        zero,
    ),
    "LEditsPPPipelineStableDiffusion": Try(made_twice("LEditsPPPipelineStableDiffusion", sd.components), inverted),
    "LEditsPPPipelineStableDiffusionXL": Try(
        made_twice("LEditsPPPipelineStableDiffusionXL", sdxl.components), inverted
    ),
    "StableDiffusionGLIGENTextImagePipeline": Try(
        boxes_of_images,
        calls(**LATENT, gligen_phrases=["a fox"], gligen_images=[None], gligen_boxes=[[0.1, 0.1, 0.6, 0.6]]),
    ),
    "HeliosPyramidPipeline": Try(staged, pyramid, Profile(**TWO)),
}
"""Class -> how it was tried."""
