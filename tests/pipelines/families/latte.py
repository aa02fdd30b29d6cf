"""Latte: text to video, with a learned variance that is dropped."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, seeded

CALL = {
    "prompt": PROMPT,
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "video_length": 2,
    "clean_caption": False,
}


@seeded
def text() -> Any:
    transformer = diffusers.LatteTransformer3DModel(
        sample_size=8,
        video_length=2,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=parts.WIDTH,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
    )
    return diffusers.LattePipeline(
        tokenizer=parts.tokenizer(128, end=True),
        text_encoder=parts.t5(),
        vae=parts.vae(),
        transformer=parts.loud(transformer, "attn2", "caption_projection"),
        scheduler=parts.sd_scheduler(),
    )


FAMILY = Family(
    "Latte",
    (
        Case(
            "LattePipeline",
            "latte",
            text,
            calls(**CALL),
            denoisers=("transformer",),
            prediction="epsilon",
            variance="discarded",
        ),
    ),
)
