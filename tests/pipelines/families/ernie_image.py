"""ERNIE-Image: encodings of different lengths, padded to the longest of the batch."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import awake, calls, seeded


@seeded
def build() -> Any:
    transformer = diffusers.ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=2,
        ffn_hidden_size=32,
        in_channels=4,
        out_channels=4,
        text_in_dim=parts.WIDTH,
        rope_axes_dim=(8, 4, 4),
    )
    return diffusers.ErnieImagePipeline(
        transformer=awake(parts.loud(transformer, "text_proj", "to_v", "to_out", gain=8.0)),
        vae=parts.flux_vae(),
        text_encoder=None,
        tokenizer=None,
        scheduler=parts.flow_scheduler(),
    )


FAMILY = Family(
    "ERNIE-Image",
    (
        Case(
            "ErnieImagePipeline",
            "ernie_image",
            build,
            calls(
                prompt_embeds=[parts.words(1)[0]],
                negative_prompt_embeds=[parts.words(2, length=5)[0]],
                output_type="latent",
                height=128,
                width=128,
            ),
            denoisers=("transformer",),
        ),
    ),
)
