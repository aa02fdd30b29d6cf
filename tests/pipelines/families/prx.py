"""PRX, from prompt embeddings (its tokenizer's cleaning needs a further package)."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import awake, calls, seeded


def transformer(channels: int, **more: Any) -> Any:
    made = diffusers.PRXTransformer2DModel(
        patch_size=2,
        in_channels=channels,
        context_in_dim=parts.WIDTH,
        hidden_size=32,
        mlp_ratio=2.0,
        num_heads=2,
        depth=2,
        axes_dim=[8, 8],
        **more,
    )
    return awake(parts.loud(made, "txt_in", "txt_kv_proj", gain=3.0), 0.3)


@seeded
def build() -> Any:
    return diffusers.PRXPipeline(
        transformer=transformer(4),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=parts.flux_vae(),
        text_encoder=None,
        tokenizer=parts.tokenizer(),
    )


@seeded
def pixels() -> Any:
    return diffusers.PRXPixelPipeline(
        transformer=transformer(3, bottleneck_size=8, resolution_embeds=True),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=None,
        tokenizer=parts.tokenizer(),
    )


TEXT: dict[str, Any] = {
    **parts.told(mask="_attention_mask"),
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "use_resolution_binning": False,
}

FAMILY = Family(
    "PRX",
    (
        Case("PRXPipeline", "prx", build, calls(**TEXT), denoisers=("transformer",), single=True),
        Case(
            "PRXPixelPipeline",
            "prx",
            pixels,
            calls(**{**TEXT, "output_type": "pt"}),
            denoisers=("transformer",),
            single=True,
            prediction="sample",
            exact=False,
            after="its x0 is made a velocity",
        ),
    ),
)
