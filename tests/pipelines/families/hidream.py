"""HiDream: one argument has its rows on dim 1, and the sign is flipped before the combine."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, seeded


@seeded
def build() -> Any:
    transformer = diffusers.HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=[parts.WIDTH, parts.WIDTH],
        text_emb_dim=2 * parts.WIDTH,
        num_routed_experts=4,
        num_activated_experts=2,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(32, 32),
        llama_layers=(0, 1),
    )
    pipe = diffusers.HiDreamImagePipeline(
        transformer=parts.loud(transformer, "caption_projection", "p_embedder", "_t."),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=parts.flux_vae(),
        text_encoder=parts.clip_text(projection=parts.WIDTH),
        tokenizer=parts.clip_tokenizer(),
        text_encoder_2=parts.clip_text(projection=parts.WIDTH),
        tokenizer_2=parts.clip_tokenizer(),
        text_encoder_3=parts.t5(),
        tokenizer_3=parts.tokenizer(end=True),
        text_encoder_4=parts.language("Llama", head=True, attn_implementation="eager"),
        tokenizer_4=parts.tokenizer(start=True),
    )
    pipe.default_sample_size = 8  # every image is scaled to this many latents
    return pipe


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "max_sequence_length": 24}

FAMILY = Family(
    "HiDream",
    (
        Case(
            "HiDreamImagePipeline",
            "hidream_image",
            build,
            calls(**TEXT),
            denoisers=("transformer",),
            before="the sign is flipped",
        ),
    ),
)
