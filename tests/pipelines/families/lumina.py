"""Lumina (conditional rows first, three of four channels guided) and Lumina 2 (two calls); the sign is flipped."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, seeded


@seeded
def first() -> Any:
    transformer = diffusers.LuminaNextDiT2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        num_layers=2,
        num_attention_heads=2,
        num_kv_heads=2,
        multiple_of=16,
        norm_eps=1e-5,
        learn_sigma=True,
        qk_norm=True,
        cross_attention_dim=parts.WIDTH,
        scaling_factor=1.0,
    )
    for layer in transformer.layers:
        layer.gate.data.fill_(1.0)  # the text's gate is born closed
    return diffusers.LuminaPipeline(
        transformer=parts.loud(transformer, "caption_embedder", "attn2.to_v", gain=4.0),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=parts.vae(),
        text_encoder=parts.language("Gemma"),
        tokenizer=parts.tokenizer(start=True),
    )


@seeded
def second() -> Any:
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=2,
        multiple_of=16,
        norm_eps=1e-5,
        scaling_factor=1.0,
        axes_dim_rope=(8, 4, 4),
        cap_feat_dim=parts.WIDTH,
    )
    return diffusers.Lumina2Pipeline(
        transformer=parts.loud(transformer, "caption_embedder", "to_v", "to_out", gain=4.0),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=parts.flux_vae(),
        text_encoder=parts.language("Gemma2"),
        tokenizer=parts.tokenizer(start=True),
    )


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "height": 64, "width": 64, "max_sequence_length": 48}

FAMILY = Family(
    "Lumina",
    (
        Case(
            "LuminaPipeline",
            "lumina",
            first,
            calls(**TEXT, clean_caption=False),
            denoisers=("transformer",),
            order="cond uncond",
            combine="other",
            variance="discarded",
            before="drops the variance channels; guides the first three channels, the rest are those of c",
            after="the sign is flipped",
        ),
        Case(
            "Lumina2Pipeline",
            "lumina2",
            second,
            calls(**TEXT, system_prompt="draw"),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            after="cfg_normalization (to the length of c along the last dim), then the sign is flipped",
            exact=False,
        ),
    ),
)
