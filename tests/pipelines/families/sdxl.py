"""SDXL: text, image, inpainting, edits."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, mask, picture, seeded

TIME = 8  # width of each of the six sizes that go into the time embedding
ADDED: dict[str, Any] = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": TIME,
    "projection_class_embeddings_input_dim": 6 * TIME + parts.WIDTH,
    "cross_attention_dim": 2 * parts.WIDTH,
    "transformer_layers_per_block": 1,
    "use_linear_projection": True,
}


def components(**more: Any) -> dict[str, Any]:
    """What every pipeline of the family is made of; `more` goes to the UNet."""
    return {
        "vae": parts.vae(),
        "text_encoder": parts.clip_text(),
        "tokenizer": parts.clip_tokenizer(),
        "text_encoder_2": parts.clip_text(projection=parts.WIDTH),
        "tokenizer_2": parts.clip_tokenizer(),
        "unet": parts.unet(**ADDED, **more),
        "scheduler": diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
    }


LATENT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent"}


@seeded
def text() -> Any:
    return diffusers.StableDiffusionXLPipeline(**components())


@seeded
def image() -> Any:
    return diffusers.StableDiffusionXLImg2ImgPipeline(**components())


@seeded
def inpaint() -> Any:
    return diffusers.StableDiffusionXLInpaintPipeline(**components(in_channels=9))


@seeded
def edit() -> Any:
    return diffusers.StableDiffusionXLInstructPix2PixPipeline(**components(in_channels=8, out_channels=4))


FAMILY = Family(
    "SDXL",
    (
        Case(
            "StableDiffusionXLPipeline",
            "sdxl",
            text,
            calls(**LATENT),
            prediction="epsilon",
            after="guidance_rescale",
        ),
        Case(
            "StableDiffusionXLImg2ImgPipeline",
            "sdxl",
            image,
            calls(**LATENT, image=picture(), strength=0.7),
            prediction="epsilon",
            after="guidance_rescale",
        ),
        Case(
            "StableDiffusionXLInpaintPipeline",
            "sdxl",
            inpaint,
            calls(**LATENT, image=picture(), mask_image=mask(), height=16, width=16, strength=0.9999),
            prediction="epsilon",
            after="guidance_rescale",
        ),
        Case(
            "StableDiffusionXLInstructPix2PixPipeline",
            "sdxl",
            edit,
            calls(**LATENT, image=picture(), image_guidance_scale=1.5, height=16, width=16),
            prediction="epsilon",
            style="three parts",
            order="other",
            combine="three parts",
            after="guidance_rescale",
        ),
    ),
)
