"""AnimateDiff: Stable Diffusion's UNet with a motion adapter; the text has one row a frame."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, controlnet, parts, sd, sdxl
from tests.pipelines.families.parts import OMIT, PROMPT, awake, loud, pil, seeded
from tests.pipelines.families.parts_video import video_calls

CALL: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "num_frames": 3}
VIDEO: dict[str, Any] = {**CALL, "num_frames": OMIT, "video": [pil(16)] * 3, "strength": 0.7}
CONTROL: dict[str, Any] = {"conditioning_frames": [pil(16)] * 3}


def adapter(**more: Any) -> Any:
    """What makes a UNet of images one of videos."""
    return diffusers.MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_norm_num_groups=8,
        motion_num_attention_heads=2,
        **more,
    )


def sparse() -> Any:
    """A ControlNet of videos, for some of the frames."""
    made = diffusers.SparseControlNetModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        conditioning_channels=3,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        cross_attention_dim=parts.WIDTH,
        attention_head_dim=2,
        conditioning_embedding_out_channels=(8, 16),
        norm_num_groups=8,
        motion_num_attention_heads=2,
        use_simplified_condition_embedding=False,
    )
    return loud(awake(made, 0.3), "attn2")


def build(cls: str, like: Any = sd.components, motion: dict[str, Any] | None = None, **beside: Any) -> Any:
    """A builder of this class, of the components of `like`; `beside` builds or names what it has beyond them."""

    @seeded
    def made() -> Any:
        more = {name: value() if callable(value) else value for name, value in beside.items()}
        return getattr(diffusers, cls)(**like(), motion_adapter=adapter(**motion or {}), **more)

    return made


FAMILY = Family(
    "AnimateDiff",
    tuple(
        Case(cls, "animatediff", builder, video_calls(**call), prediction="epsilon", one=True, **facts)
        for cls, builder, call, facts in (
            ("AnimateDiffPipeline", build("AnimateDiffPipeline"), CALL, {}),
            ("AnimateDiffVideoToVideoPipeline", build("AnimateDiffVideoToVideoPipeline"), VIDEO, {}),
            (
                "AnimateDiffControlNetPipeline",
                build("AnimateDiffControlNetPipeline", controlnet=controlnet.network),
                CALL | CONTROL,
                {},
            ),
            (
                "AnimateDiffVideoToVideoControlNetPipeline",
                build("AnimateDiffVideoToVideoControlNetPipeline", controlnet=controlnet.network),
                VIDEO | CONTROL,
                {},
            ),
            (
                "AnimateDiffSparseControlNetPipeline",
                build("AnimateDiffSparseControlNetPipeline", controlnet=sparse),
                {**CALL, "conditioning_frames": [pil(16)] * 2, "controlnet_frame_indices": [0, 2]},
                {},
            ),
            (
                "AnimateDiffSDXLPipeline",
                build("AnimateDiffSDXLPipeline", sdxl.components, {"use_motion_mid_block": False}),
                CALL,
                {"after": "guidance_rescale"},
            ),
            (
                "AnimateDiffPAGPipeline",
                build("AnimateDiffPAGPipeline", pag_applied_layers=["mid", "up", "down"]),
                {**CALL, "pag_scale": 2.0},
                {"style": "three parts", "combine": "three parts"},
            ),
            (
                "PIAPipeline",
                build("PIAPipeline", motion={"conv_in_channels": 9}),
                {**CALL, "image": pil(16)},
                {},
            ),
        )
    ),
)
