"""Chroma: two calls a step."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, mask, picture, seeded


def build(cls: str) -> Any:
    @seeded
    def made() -> Any:
        transformer = diffusers.ChromaTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=parts.WIDTH,
            axes_dims_rope=(4, 4, 8),
            approximator_hidden_dim=32,
            approximator_layers=1,
            approximator_num_channels=16,
        )
        transformer.register_to_config(guidance_embeds=False)  # the inpainting pipeline asks for it
        return getattr(diffusers, cls)(
            transformer=parts.loud(transformer, "context_embedder", "add_k", "add_v"),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=parts.flux_vae(),
            text_encoder=parts.t5(),
            tokenizer=parts.tokenizer(end=True),
        )

    return made


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "max_sequence_length": 24}
IMAGE: dict[str, Any] = {**TEXT, "image": picture(), "strength": 0.7}
FACTS: dict[str, Any] = {"denoisers": ("transformer",), "style": "two calls", "order": "cond uncond"}

FAMILY = Family(
    "Chroma",
    (
        Case("ChromaPipeline", "chroma", build("ChromaPipeline"), calls(**TEXT), **FACTS),
        Case("ChromaImg2ImgPipeline", "chroma", build("ChromaImg2ImgPipeline"), calls(**IMAGE), **FACTS),
        Case(
            "ChromaInpaintPipeline",
            "chroma",
            build("ChromaInpaintPipeline"),
            calls(**IMAGE, mask_image=mask()),
            **FACTS,
        ),
    ),
)
