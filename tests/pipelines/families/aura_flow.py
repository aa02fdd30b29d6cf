"""AuraFlow."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, seeded


@seeded
def build() -> Any:
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=parts.WIDTH,
        out_channels=4,
        pos_embed_max_size=64,
    )
    return diffusers.AuraFlowPipeline(
        transformer=parts.loud(transformer, "context_embedder", "time_step_proj", "norm1", "add_v_proj", gain=4.0),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=parts.vae(),
        text_encoder=parts.t5(),
        tokenizer=parts.tokenizer(end=True),
    )


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "max_sequence_length": 24}
FAMILY = Family("AuraFlow", (Case("AuraFlowPipeline", "aura_flow", build, calls(**TEXT), denoisers=("transformer",)),))
