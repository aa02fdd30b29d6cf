"""UNets of videos: ModelScope's text to video and video to video, and I2VGen-XL, which reads an image too."""

from typing import Any

import diffusers
import numpy as np

from tests.pipelines.families import Case, Family, parts, sd
from tests.pipelines.families.parts import PROMPT, calls, pil, seeded
from tests.pipelines.families.parts_video import video_calls

NETWORK: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "cross_attention_dim": parts.WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}


def build(cls: str) -> Any:
    """A builder of this class of ModelScope."""

    @seeded
    def made() -> Any:
        unet = parts.awake(diffusers.UNet3DConditionModel(**NETWORK))
        return getattr(diffusers, cls)(**sd.components() | {"unet": parts.loud(unet, "attn2")})

    return made


@seeded
def image() -> Any:
    unet = parts.awake(diffusers.I2VGenXLUNet(**NETWORK))
    return diffusers.I2VGenXLPipeline(
        **sd.components() | {"unet": parts.loud(unet, "attn2")},
        image_encoder=parts.clip_vision(),
        feature_extractor=parts.clip_pictures(),
    )


CALL: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent"}
NEW: dict[str, Any] = {**CALL, "height": 16, "width": 16, "num_frames": 3}
FACTS: dict[str, Any] = {
    "prediction": "epsilon",
    "after": "the frames are put side by side for scheduler.step",
    "exact": False,
}

FAMILY = Family(
    "ModelScope",
    (
        Case("TextToVideoSDPipeline", "modelscope", build("TextToVideoSDPipeline"), calls(**NEW), **FACTS),
        Case(
            "VideoToVideoSDPipeline",
            "modelscope",
            build("VideoToVideoSDPipeline"),
            calls(**CALL, video=[np.asarray(pil(16))] * 3, strength=0.7),
            **FACTS,
        ),
        Case(
            "I2VGenXLPipeline",
            "i2vgen_xl",
            image,
            video_calls(**NEW, image=pil(16), target_fps=8, clip_skip=None),
            **FACTS,
        ),
    ),
)
