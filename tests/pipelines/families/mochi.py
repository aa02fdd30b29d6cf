"""Mochi: text to video, combined in float32."""

from typing import Any

import diffusers
import torch

from tests.pipelines.families import Case, Family, parts, parts_video
from tests.pipelines.families.parts import PROMPT, seeded
from tests.pipelines.families.parts_video import video_calls

CALL = {
    "prompt": PROMPT,
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "num_frames": 7,
    "max_sequence_length": 16,
}


@seeded
def text() -> Any:
    transformer = diffusers.MochiTransformer3DModel(
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=12,
        text_embed_dim=parts.WIDTH,
        time_embed_dim=4,
        max_sequence_length=16,
    )
    transformer.pos_frequencies.data = torch.zeros_like(transformer.pos_frequencies)  # born uninitialised
    return diffusers.MochiPipeline(
        **parts_video.text(),
        vae=diffusers.AutoencoderKLMochi(
            latent_channels=12,
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            layers_per_block=(1, 1, 1, 1, 1),
        ),
        transformer=parts.loud(transformer, "caption", "add_v_proj", "pooler"),
        scheduler=parts.flow_scheduler(),
    )


FAMILY = Family(
    "Mochi",
    (
        Case(
            "MochiPipeline",
            "mochi",
            text,
            video_calls(**CALL),
            denoisers=("transformer",),
            before="to float32",
        ),
    ),
)
