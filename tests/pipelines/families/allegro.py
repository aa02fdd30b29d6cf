"""Allegro: text to video."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, parts_video
from tests.pipelines.families.parts import PROMPT, seeded
from tests.pipelines.families.parts_video import video_calls

CALL = {
    "prompt": PROMPT,
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "num_frames": 8,
    "max_sequence_length": 16,
    "clean_caption": False,
}


@seeded
def text() -> Any:
    transformer = diffusers.AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        cross_attention_dim=24,
        sample_width=8,
        sample_height=8,
        sample_frames=8,
        caption_channels=parts.WIDTH,
    )
    return diffusers.AllegroPipeline(
        **parts_video.text(),
        vae=diffusers.AutoencoderKLAllegro(
            down_block_types=("AllegroDownBlock3D",) * 4,
            up_block_types=("AllegroUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            norm_num_groups=2,
        ),
        transformer=parts.loud(transformer, "attn2", "caption_projection"),
        scheduler=parts.sd_scheduler(),
    )


FAMILY = Family(
    "Allegro",
    (
        Case(
            "AllegroPipeline",
            "allegro",
            text,
            video_calls(**CALL),
            denoisers=("transformer",),
            prediction="epsilon",
            one=True,
        ),
    ),
)
