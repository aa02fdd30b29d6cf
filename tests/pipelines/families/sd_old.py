"""Stable Diffusion's kin that diffusers no longer extends: texts of many languages, an example for a text, depth."""

from typing import Any

import diffusers
import transformers

from tests.pipelines.families import Case, Family, parts, sd
from tests.pipelines.families.parts import OMIT, calls, mask, picture, pil, seeded
from tests.pipelines.families.parts_text import MULTILINGUAL


def build(cls: str, **more: Any) -> Any:
    """A builder of this class, of Stable Diffusion's components and those that `more` builds."""

    @seeded
    def made() -> Any:
        others = {name: value() for name, value in more.items()}
        return getattr(diffusers, cls)(**sd.components() | others, **sd.UNCHECKED)

    return made


def roberta() -> Any:
    """A text encoder of many languages, which AltDiffusion has in place of CLIP's."""
    from diffusers.pipelines.deprecated.alt_diffusion.modeling_roberta_series import (
        RobertaSeriesConfig,
        RobertaSeriesModelWithTransformation,
    )

    return RobertaSeriesModelWithTransformation(
        RobertaSeriesConfig(
            project_dim=parts.WIDTH,
            **MULTILINGUAL,
        )
    )


def alt(cls: str) -> Any:
    """A builder of this class of AltDiffusion."""
    return build(
        cls, text_encoder=roberta, tokenizer=lambda: parts.tokenizer(parts.TOKENS, start=True, end=True), **UNSEEN
    )


UNSEEN: dict[str, Any] = {"image_encoder": lambda: None}


@seeded
def example() -> Any:
    from diffusers.pipelines.deprecated.paint_by_example.image_encoder import PaintByExampleImageEncoder

    encoder = PaintByExampleImageEncoder(
        transformers.CLIPVisionConfig(
            hidden_size=parts.WIDTH,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=5,
            image_size=32,
            patch_size=8,
        ),
        proj_size=parts.WIDTH,
    )
    return diffusers.PaintByExamplePipeline(
        vae=parts.vae(),
        image_encoder=encoder,
        unet=parts.unet(in_channels=9, out_channels=4),
        scheduler=parts.sd_scheduler(),
        safety_checker=None,
        feature_extractor=parts.clip_pictures(),
    )


IMAGE: dict[str, Any] = {**sd.LATENT, "image": picture(), "strength": 0.7}

FAMILY = Family(
    "Stable Diffusion, old",
    tuple(
        Case(cls, family, builder, call, prediction="epsilon", **facts)
        for cls, family, builder, call, facts in (
            (
                "AltDiffusionPipeline",
                "alt_diffusion",
                alt("AltDiffusionPipeline"),
                calls(**sd.LATENT),
                {"after": "guidance_rescale"},
            ),
            (
                "AltDiffusionImg2ImgPipeline",
                "alt_diffusion",
                alt("AltDiffusionImg2ImgPipeline"),
                calls(**IMAGE),
                {},
            ),
            (
                "StableDiffusionInpaintPipelineLegacy",
                "sd",
                build("StableDiffusionInpaintPipelineLegacy"),
                calls(**IMAGE, mask_image=mask()),
                {},
            ),
            (
                "StableDiffusionModelEditingPipeline",
                "sd",
                build("StableDiffusionModelEditingPipeline"),
                calls(**sd.LATENT),
                {},
            ),
            (
                "StableDiffusionLDM3DPipeline",
                "ldm3d",
                build("StableDiffusionLDM3DPipeline", vae=lambda: parts.vae(picture_channels=6), **UNSEEN),
                calls(**sd.LATENT | {"output_type": "np"}),
                {"after": "guidance_rescale"},
            ),
            (
                "PaintByExamplePipeline",
                "paint_by_example",
                example,
                calls(
                    example_image=pil(32),
                    image=picture(),
                    mask_image=mask(),
                    height=16,
                    width=16,
                    output_type="latent",
                    negative=OMIT,
                ),
                {},
            ),
        )
    ),
)
