"""Latent diffusion, the first of them."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, seeded, shown


@seeded
def build() -> Any:
    return diffusers.LDMTextToImagePipeline(
        vqvae=parts.Shown(),
        bert=parts.clip_text(),
        tokenizer=parts.clip_tokenizer(),
        unet=parts.unet(),
        scheduler=parts.sd_scheduler(),
    )


FAMILY = Family(
    "Latent Diffusion",
    (
        Case(
            "LDMTextToImagePipeline",
            "latent_diffusion",
            build,
            shown(prompt=[PROMPT], output_type="np", height=64, width=64),
            prediction="epsilon",
        ),
    ),
)
