"""AnyFlow: a network of Wan's kind that reads the time of the next step too; both rows in one batch."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, parts_video, wan
from tests.pipelines.families.parts import seeded
from tests.pipelines.families.parts_video import video_calls


@seeded
def text() -> Any:
    transformer = diffusers.AnyFlowTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=parts.WIDTH,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        rope_max_seq_len=32,
        gate_value=0.25,
        deltatime_type="r",
    )
    return diffusers.AnyFlowPipeline(
        **parts_video.text(),
        transformer=parts.awake(parts.loud(transformer, "attn2", "text_embedder")),
        vae=parts_video.wan_vae(),
        scheduler=diffusers.FlowMapEulerDiscreteScheduler(num_train_timesteps=1000, shift=5.0),
    )


FAMILY = Family(
    "AnyFlow",
    (Case("AnyFlowPipeline", "anyflow", text, video_calls(**wan.CALL), denoisers=("transformer",)),),
)
