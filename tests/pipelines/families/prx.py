"""PRX, from prompt embeddings (its tokenizer's cleaning needs a further package)."""

from typing import Any

import diffusers
import torch

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import awake, calls, seeded


@seeded
def build() -> Any:
    transformer = diffusers.PRXTransformer2DModel(
        patch_size=2,
        in_channels=4,
        context_in_dim=parts.WIDTH,
        hidden_size=32,
        mlp_ratio=2.0,
        num_heads=2,
        depth=2,
        axes_dim=[8, 8],
    )
    return diffusers.PRXPipeline(
        transformer=awake(parts.loud(transformer, "txt_in", "txt_kv_proj", gain=3.0), 0.3),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=parts.flux_vae(),
        text_encoder=None,
        tokenizer=parts.tokenizer(),
    )


def words(seed: int) -> torch.Tensor:
    return torch.randn(1, 8, parts.WIDTH, generator=torch.Generator().manual_seed(seed))


TEXT: dict[str, Any] = {
    "prompt_embeds": words(1),
    "negative_prompt_embeds": words(2),
    "prompt_attention_mask": torch.ones(1, 8, dtype=torch.bool),
    "negative_prompt_attention_mask": torch.ones(1, 8, dtype=torch.bool),
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "use_resolution_binning": False,
}

FAMILY = Family("PRX", (Case("PRXPipeline", "prx", build, calls(**TEXT), denoisers=("transformer",), single=True),))
