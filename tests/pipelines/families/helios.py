"""Helios: a long video in chunks, each of which is a run of its own."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, parts_video
from tests.pipelines.families.parts import PROMPT, seeded
from tests.pipelines.families.parts_video import video_calls, wan_vae


@seeded
def build() -> Any:
    transformer = diffusers.HeliosTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=parts.WIDTH,
        freq_dim=32,
        ffn_dim=32,
        num_layers=1,
        rope_dim=(4, 4, 4),
    )
    return diffusers.HeliosPipeline(
        **parts_video.text(),
        vae=wan_vae(),
        transformer=parts.awake(parts.loud(transformer, "attn2", "text_embedder")),
        scheduler=diffusers.HeliosScheduler(stage_range=[0, 1], stages=1, use_dynamic_shifting=True),
    )


FAMILY = Family(
    "Helios",
    (
        Case(
            "HeliosPipeline",
            "helios",
            build,
            video_calls(
                prompt=PROMPT,
                negative="grey",
                output_type="latent",
                height=16,
                width=16,
                num_frames=5,
                num_latent_frames_per_chunk=2,
                history_sizes=[4, 2, 1],
                max_sequence_length=16,
            ),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            single=True,  # the history is not repeated
        ),
    ),
)
