"""CogVideoX: text to video, image to video, video to video, a control video."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, parts_video
from tests.pipelines.families.parts import OMIT, PROMPT, pil, seeded
from tests.pipelines.families.parts_video import video_calls

CALL = {
    "prompt": PROMPT,
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "num_frames": 8,
    "max_sequence_length": 16,
}


def transformer(channels: int = 4) -> Any:
    made = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=channels,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=parts.WIDTH,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=16,
    )
    return parts.loud(made, "text_proj", "attn1")


def vae() -> Any:
    return diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )


def components(channels: int = 4) -> dict[str, Any]:
    return {
        **parts_video.text(),
        "vae": vae(),
        "transformer": transformer(channels),
        "scheduler": diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction"),
    }


@seeded
def text() -> Any:
    return diffusers.CogVideoXPipeline(**components())


@seeded
def image() -> Any:
    return diffusers.CogVideoXImageToVideoPipeline(**components(8))


@seeded
def video() -> Any:
    return diffusers.CogVideoXVideoToVideoPipeline(**components())


@seeded
def control() -> Any:
    return diffusers.CogVideoXFunControlPipeline(**components(8))


SHARED: dict[str, Any] = {"denoisers": ("transformer",), "prediction": "v", "before": "to float32", "one": True}
FAMILY = Family(
    "CogVideoX",
    (
        Case("CogVideoXPipeline", "cogvideo", text, video_calls(**CALL), **SHARED),
        Case("CogVideoXImageToVideoPipeline", "cogvideo", image, video_calls(**CALL, image=pil(16)), **SHARED),
        Case(
            "CogVideoXVideoToVideoPipeline",
            "cogvideo",
            video,
            video_calls(**{**CALL, "num_frames": OMIT}, video=[pil(16)] * 8, strength=0.7),
            **SHARED,
        ),
        Case(
            "CogVideoXFunControlPipeline",
            "cogvideo",
            control,
            video_calls(**{**CALL, "num_frames": OMIT}, control_video=[pil(16)] * 8),
            **SHARED,
        ),
    ),
)
