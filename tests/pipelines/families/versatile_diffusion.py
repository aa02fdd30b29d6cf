"""Versatile Diffusion: a UNet whose attention blocks are those of a text or of an image."""

from typing import Any

import diffusers
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, pil, seeded

FLAT: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlockFlat", "DownBlockFlat"),
    "up_block_types": ("UpBlockFlat", "CrossAttnUpBlockFlat"),
}


def build(cls: str, *reads: str) -> Any:
    """A builder of this class, which reads a "text", an "image", or both."""

    @seeded
    def made() -> Any:
        text = {
            "tokenizer": parts.clip_tokenizer(),
            "text_encoder": parts.clip_text(projection=parts.WIDTH),
            "text_unet": parts.loud(UNetFlatConditionModel(**{**parts.BLOCKS, **FLAT}), "attn2"),
        }
        image = {
            "image_feature_extractor": parts.clip_pictures(),
            "image_encoder": parts.clip_vision(patch=2),  # 257 tokens, as the pipeline says
        }
        return getattr(diffusers, cls)(
            **(text if "text" in reads else {}),
            **(image if "image" in reads else {}),
            image_unet=parts.unet(),
            vae=parts.vae(),
            scheduler=parts.sd_scheduler(),
        )

    return made


SIZE: dict[str, Any] = {"height": 16, "width": 16, "output_type": "latent"}
FACTS: dict[str, Any] = {"denoisers": ("image_unet",), "prediction": "epsilon"}

FAMILY = Family(
    "Versatile Diffusion",
    (
        Case(
            "VersatileDiffusionTextToImagePipeline",
            "versatile_diffusion",
            build("VersatileDiffusionTextToImagePipeline", "text"),
            calls(**SIZE, prompt=PROMPT),
            **FACTS,
        ),
        Case(
            "VersatileDiffusionImageVariationPipeline",
            "versatile_diffusion",
            build("VersatileDiffusionImageVariationPipeline", "image"),
            calls(**SIZE, image=pil(32)),
            **FACTS,
        ),
    ),
)
