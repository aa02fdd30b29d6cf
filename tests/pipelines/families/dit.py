"""DiT: classes instead of prompts, conditional rows first, and the sampler steps the doubled batch."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import OMIT, seeded, shown


@seeded
def build() -> Any:
    transformer = diffusers.DiTTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        in_channels=4,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )
    return diffusers.DiTPipeline(
        transformer=parts.loud(transformer, "class_embedder", "norm1.linear", gain=3.0),
        scheduler=parts.sd_scheduler(),
        vae=parts.Shown(),
    )


FAMILY = Family(
    "DiT",
    (
        Case(
            "DiTPipeline",
            "dit",
            build,
            shown(class_labels=[1], output_type="np", negative=OMIT),
            denoisers=("transformer",),
            order="cond uncond",
            prediction="epsilon",
            variance="discarded",
            after="drops the variance channels; scheduler.step sees both halves",
        ),
    ),
)
