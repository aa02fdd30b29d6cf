"""Stable Video Diffusion: an image is the only condition; the scale grows from frame to frame."""

from typing import Any

import diffusers
from torch import Tensor

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import pil, seeded
from tests.pipelines.families.parts_video import video_calls


@seeded
def image() -> Any:
    unet = diffusers.UNetSpatioTemporalConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=4,
        block_out_channels=(32, 64),  # it normalises in 32 groups
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=parts.WIDTH,
        num_attention_heads=(2, 4),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
    )
    vae = diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
    )
    return diffusers.StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=parts.clip_vision(size=224, patch=32),
        unet=parts.loud(unet, "attn2"),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            sigma_max=700.0,
            sigma_min=0.002,
            steps_offset=1,
            timestep_spacing="leading",
            timestep_type="continuous",
            use_karras_sigmas=True,
        ),
        feature_extractor=parts.clip_pictures(),
    )


CALL = {"image": pil(16), "output_type": "latent", "height": 16, "width": 16, "num_frames": 3}
plain = video_calls("num_videos_per_prompt", **CALL, scale_argument="max_guidance_scale", min_guidance_scale=1.0)


def constant(pipe: Any, scale: float, **arguments: Any) -> Tensor:
    """One scale for all frames."""
    return plain(pipe, scale, **{"min_guidance_scale": scale, **arguments})


FAMILY = Family(
    "Stable Video Diffusion",
    (
        Case(
            "StableVideoDiffusionPipeline", "svd", image, constant, scale_argument="max_guidance_scale", prediction="v"
        ),
    ),
)
