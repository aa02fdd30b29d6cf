"""AnimateDiff: Stable Diffusion's UNet with a motion adapter; the text has one row a frame."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import OMIT, PROMPT, pil, seeded
from tests.pipelines.families.parts_video import video_calls

CALL = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "num_frames": 3}


def components() -> dict[str, Any]:
    return {
        "vae": parts.vae(),
        "text_encoder": parts.clip_text(),
        "tokenizer": parts.clip_tokenizer(),
        "unet": parts.unet(),
        "motion_adapter": diffusers.MotionAdapter(
            block_out_channels=(16, 32),
            motion_layers_per_block=1,
            motion_norm_num_groups=8,
            motion_num_attention_heads=2,
        ),
        "scheduler": parts.sd_scheduler(),
    }


@seeded
def text() -> Any:
    return diffusers.AnimateDiffPipeline(**components())


@seeded
def video() -> Any:
    return diffusers.AnimateDiffVideoToVideoPipeline(**components())


FAMILY = Family(
    "AnimateDiff",
    (
        Case("AnimateDiffPipeline", "animatediff", text, video_calls(**CALL), prediction="epsilon", one=True),
        Case(
            "AnimateDiffVideoToVideoPipeline",
            "animatediff",
            video,
            video_calls(**{**CALL, "num_frames": OMIT}, video=[pil(16)] * 3, strength=0.7),
            prediction="epsilon",
            one=True,
        ),
    ),
)
