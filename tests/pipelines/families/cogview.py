"""CogView 3+ (one call) and CogView 4 (two calls)."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, picture, seeded


@seeded
def three() -> Any:
    transformer = diffusers.CogView3PlusTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        out_channels=4,
        text_embed_dim=parts.WIDTH,
        time_embed_dim=8,
        condition_dim=2,
        pos_embed_max_size=8,
        sample_size=8,
    )
    return diffusers.CogView3PlusPipeline(
        transformer=parts.loud(transformer, "text_proj", "to_v", "to_out", gain=3.0),
        scheduler=diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction"),
        vae=parts.vae(),
        text_encoder=parts.t5(),
        tokenizer=parts.tokenizer(end=True),
    )


def four(cls: str, channels: int = 4) -> Any:
    """A builder of this class; the network reads `channels`."""

    @seeded
    def made() -> Any:
        transformer = diffusers.CogView4Transformer2DModel(
            patch_size=2,
            in_channels=channels,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            out_channels=4,
            text_embed_dim=parts.WIDTH,
            time_embed_dim=8,
            condition_dim=4,
            rope_axes_dim=(64, 64),
        )
        return getattr(diffusers, cls)(
            transformer=parts.loud(transformer, "text_proj", "to_v", "to_out", gain=6.0),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
                base_shift=0.25,
                max_shift=0.75,
                base_image_seq_len=256,
                use_dynamic_shifting=True,
                time_shift_type="linear",
            ),
            vae=parts.vae(),
            text_encoder=parts.language("Glm"),
            tokenizer=parts.tokenizer(start=True, side="left"),
        )

    return made


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "max_sequence_length": 24}
TWO: dict[str, Any] = {"denoisers": ("transformer",), "style": "two calls", "order": "cond uncond"}

FAMILY = Family(
    "CogView",
    (
        Case(
            "CogView3PlusPipeline",
            "cogview3",
            three,
            calls(**TEXT),
            denoisers=("transformer",),
            prediction="v",
            before="cast to float32",
        ),
        Case("CogView4Pipeline", "cogview4", four("CogView4Pipeline"), calls(**TEXT), **TWO),
        Case(
            "CogView4ControlPipeline",
            "cogview4",
            four("CogView4ControlPipeline", 8),
            calls(**TEXT, control_image=picture()),
            **TWO,
        ),
    ),
)
