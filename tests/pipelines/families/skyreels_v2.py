"""SkyReels V2: two calls a step of a network of Wan's kind."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, parts_video
from tests.pipelines.families.parts import PROMPT, seeded
from tests.pipelines.families.parts_video import video_calls, wan_vae

CALL = {
    "prompt": PROMPT,
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "num_frames": 5,
    "max_sequence_length": 16,
}


@seeded
def text() -> Any:
    transformer = diffusers.SkyReelsV2Transformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=parts.WIDTH,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    return diffusers.SkyReelsV2Pipeline(
        **parts_video.text(),
        vae=wan_vae(),
        transformer=parts.awake(parts.loud(transformer, "attn2", "text_embedder")),
        scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0
        ),
    )


FAMILY = Family(
    "SkyReels V2",
    (
        Case(
            "SkyReelsV2Pipeline",
            "skyreels_v2",
            text,
            video_calls(**CALL),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
        ),
    ),
)
