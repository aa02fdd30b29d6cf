"""Nucleus-MoE: two calls a step, the length of c kept token by token, and the sign flipped."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, qwenimage
from tests.pipelines.families.parts import awake, calls, seeded


@seeded
def build() -> Any:
    transformer = diffusers.NucleusMoEImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=parts.WIDTH,
        axes_dims_rope=(8, 4, 4),
        mlp_ratio=8.0,
        moe_enabled=False,
        capacity_factors=[8.0, 8.0],
    )
    return diffusers.NucleusMoEImagePipeline(
        transformer=awake(parts.loud(transformer, "txt_in", "add_v", "to_out", gain=6.0)),
        scheduler=parts.flow_scheduler(),
        vae=qwenimage.vae(),
        text_encoder=None,
        processor=None,
    )


FAMILY = Family(
    "Nucleus",
    (
        Case(
            "NucleusMoEImagePipeline",
            "nucleusmoe_image",
            build,
            calls(**parts.told(mask="_embeds_mask"), output_type="latent", height=16, width=16),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            after=f"{qwenimage.LENGTH}, then the sign is flipped",
            exact=False,
        ),
    ),
)
