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


def build(cls: str) -> Any:
    @seeded
    def made() -> Any:
        return getattr(diffusers, cls)(**components())

    return made


@seeded
def image() -> Any:
    return diffusers.SkyReelsV2ImageToVideoPipeline(
        **components(36, image_dim=parts.WIDTH),
        image_encoder=parts.clip_vision(),
        image_processor=parts.clip_pictures(),
    )


def components(channels: int = 16, **more: Any) -> dict[str, Any]:
    transformer = diffusers.SkyReelsV2Transformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=channels,
        out_channels=16,
        text_dim=parts.WIDTH,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
        **more,
    )
    return {
        **parts_video.text(),
        "vae": wan_vae(),
        "transformer": parts.awake(parts.loud(transformer, "attn2", "text_embedder")),
        "scheduler": diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0
        ),
    }


APART: dict[str, Any] = {"apart": True, "exact": False}
FORCING: dict[str, Any] = {**CALL, "base_num_frames": 5, "fps": 8}

FAMILY = Family(
    "SkyReels V2",
    tuple(
        Case(
            cls,
            "skyreels_v2",
            image if cls == "SkyReelsV2ImageToVideoPipeline" else build(cls),
            video_calls(**call),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            **facts,
        )
        for cls, call, facts in (
            ("SkyReelsV2Pipeline", CALL, {}),
            (
                "SkyReelsV2ImageToVideoPipeline",
                {**CALL, "image": parts.pil(16)},
                {"single": True},  # the image is not repeated
            ),
            ("SkyReelsV2DiffusionForcingPipeline", FORCING, APART),
            (
                "SkyReelsV2DiffusionForcingPipeline",
                {**FORCING, "num_frames": 13, "base_num_frames": 9, "overlap_history": 5},
                {**APART, "variant": "long", "runs": 2},
            ),
            ("SkyReelsV2DiffusionForcingImageToVideoPipeline", {**FORCING, "image": parts.pil(16)}, APART),
            (
                "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
                {**FORCING, "video": [parts.pil(16)] * 5, "num_frames": 9, "base_num_frames": 9, "overlap_history": 5},
                {**APART, "one": True},
            ),
        )
    ),
)
