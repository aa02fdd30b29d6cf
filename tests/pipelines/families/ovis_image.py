"""Ovis-Image: two calls a step."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, seeded

CALL = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "max_sequence_length": 24}


@seeded
def text() -> Any:
    transformer = diffusers.OvisImageTransformer2DModel(
        patch_size=1,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=parts.WIDTH,
        axes_dims_rope=(4, 4, 8),
    )
    pipe = diffusers.OvisImagePipeline(
        transformer=parts.loud(transformer, "context_embedder", "add_v_proj", gain=8.0),
        scheduler=parts.flow_scheduler(),
        vae=parts.flux_vae(),
        text_encoder=parts.language("Qwen3"),
        tokenizer=parts.tokenizer(256),
    )
    pipe.system_prompt, pipe.user_prompt_begin_id = "", 6  # hundreds of equal bytes would drown the prompt
    return pipe


FAMILY = Family(
    "Ovis-Image",
    (
        Case(
            "OvisImagePipeline",
            "ovis_image",
            text,
            calls(**CALL),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
        ),
    ),
)
