"""Krea 2: two calls a step, `c + g (c - u)`."""

from typing import Any

import diffusers
import transformers

from tests.pipelines.families import Case, Family, parts, qwenimage
from tests.pipelines.families.parts import PROMPT, calls, seeded


def text_encoder(layers: int = 2) -> Any:
    """Qwen 3 VL, of so many layers."""
    text = {
        "vocab_size": parts.VOCABULARY,
        "hidden_size": parts.WIDTH,
        "intermediate_size": 37,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rope_parameters": {"mrope_section": [2, 1, 1], "rope_type": "default", "rope_theta": 10000.0},
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": parts.WIDTH,
        "deepstack_visual_indexes": [0],
    }
    return transformers.Qwen3VLModel(transformers.Qwen3VLConfig(text_config=text, vision_config=vision))


@seeded
def build() -> Any:
    transformer = diffusers.Krea2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        timestep_embed_dim=8,
        text_hidden_dim=parts.WIDTH,
        num_text_layers=3,
        text_num_attention_heads=2,
        text_num_key_value_heads=1,
        text_intermediate_size=16,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
        rope_theta=1000.0,
    )
    pipe = diffusers.Krea2Pipeline(
        transformer=parts.loud(transformer, "to_v", "to_out", gain=4.0),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=6400
        ),
        vae=qwenimage.vae(),
        text_encoder=text_encoder(),
        tokenizer=parts.tokenizer(),
        text_encoder_select_layers=(0, 1, 2),
    )
    pipe.prompt_template_encode_prefix, pipe.prompt_template_encode_start_idx = "", 0  # longer than everything else
    return pipe


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "max_sequence_length": 24}

FAMILY = Family(
    "Krea 2",
    (
        Case(
            "Krea2Pipeline",
            "krea2",
            build,
            calls(**TEXT),
            off=0.0,
            offset=1.0,
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            combine="c + g (c - u)",
        ),
    ),
)
