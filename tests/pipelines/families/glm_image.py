"""GLM-Image: a language model writes coarse tokens of the image, which the denoiser reads beside the text."""

from typing import Any

import diffusers
import torch

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import calls, seeded, told


@seeded
def build() -> Any:
    transformer = diffusers.GlmImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=parts.WIDTH,
        time_embed_dim=16,
        condition_dim=4,
        prior_vq_quantizer_codebook_size=16,
    )
    return diffusers.GlmImagePipeline(
        tokenizer=None,
        processor=None,
        text_encoder=parts.t5(),
        vision_language_encoder=None,
        vae=parts.vae(),
        transformer=parts.loud(parts.awake(transformer), "prior", "glyph"),
        scheduler=parts.flow_scheduler(use_dynamic_shifting=True, time_shift_type="linear"),
    )


CALL: dict[str, Any] = {
    **told(),
    "prior_token_ids": torch.arange(16).reshape(1, 16),
    "height": 16,
    "width": 16,
    "output_type": "latent",
}

FAMILY = Family(
    "GLM-Image",
    (
        Case(
            "GlmImagePipeline",
            "glm_image",
            build,
            calls(**CALL),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            before="to float32",
        ),
    ),
)
