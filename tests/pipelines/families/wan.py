"""Wan: text to video with one and with two transformers, a timestep a token, image to video, VACE, video to video."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, parts_video
from tests.pipelines.families.parts import OMIT, PROMPT, pil, seeded
from tests.pipelines.families.parts_video import video_calls, wan_vae

CALL = {
    "prompt": PROMPT,
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "num_frames": 5,
    "max_sequence_length": 16,
}


def transformer(channels: int = 16, **more: Any) -> Any:
    kind = more.pop("kind", diffusers.WanTransformer3DModel)
    made = kind(
        **{
            "patch_size": (1, 2, 2),
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "in_channels": channels,
            "out_channels": channels,
            "text_dim": parts.WIDTH,
            "freq_dim": 32,
            "ffn_dim": 32,
            "num_layers": 2,
            "cross_attn_norm": True,
            "qk_norm": "rms_norm_across_heads",
            "rope_max_seq_len": 32,
            **more,
        }
    )
    return parts.awake(parts.loud(made, "attn2", "text_embedder"))


def unipc() -> Any:
    return diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def components(**more: Any) -> dict[str, Any]:
    return {
        **parts_video.text(),
        "vae": wan_vae(),
        "scheduler": unipc(),
        "transformer": transformer(),
        **more,
    }


@seeded
def text() -> Any:
    return diffusers.WanPipeline(**components(transformer_2=None))


@seeded
def two() -> Any:
    return diffusers.WanPipeline(**components(transformer_2=transformer()), boundary_ratio=0.875)


@seeded
def tokens() -> Any:
    return diffusers.WanPipeline(**components(transformer_2=None), expand_timesteps=True)


@seeded
def image() -> Any:
    return diffusers.WanImageToVideoPipeline(
        **components(
            transformer=transformer(in_channels=36, image_dim=parts.WIDTH),
            transformer_2=None,
            image_encoder=parts.clip_vision(),
            image_processor=parts.clip_pictures(),
        )
    )


@seeded
def vace() -> Any:
    return diffusers.WanVACEPipeline(
        **components(
            transformer=transformer(
                kind=diffusers.WanVACETransformer3DModel, num_layers=3, vace_layers=[0, 2], vace_in_channels=96
            ),
            transformer_2=None,
        )
    )


@seeded
def video() -> Any:
    return diffusers.WanVideoToVideoPipeline(**components())


@seeded
def edit() -> Any:
    return diffusers.LucyEditPipeline(**components(transformer=transformer(in_channels=32), transformer_2=None))


@seeded
def animate() -> Any:
    """A character that moves as in one video and has the face of another."""
    return diffusers.WanAnimatePipeline(
        **components(
            transformer=transformer(
                kind=diffusers.WanAnimateTransformer3DModel,
                in_channels=36,
                latent_channels=16,
                image_dim=parts.WIDTH,
                motion_encoder_channel_sizes={"4": 8, "8": 8, "16": 8},
                motion_encoder_size=16,
                motion_style_dim=8,
                motion_dim=4,
                motion_encoder_dim=16,
                face_encoder_hidden_dim=16,
                face_encoder_num_heads=2,
                inject_face_latents_blocks=2,
            ),
            image_encoder=parts.clip_vision(),
            image_processor=parts.clip_pictures(),
        )
    )


ANIMATE: dict[str, Any] = {
    "image": pil(16),
    "pose_video": [pil(16)] * 9,
    "face_video": [pil(16)] * 9,
    "segment_frame_length": 5,
}
"""Two segments, the second of which begins with the last frame of the first."""

FAMILY = Family(
    "Wan",
    (
        Case(
            "WanAnimatePipeline",
            "wan",
            animate,
            video_calls(**CALL | {"num_frames": OMIT}, **ANIMATE),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            runs=2,
        ),
        Case(
            "LucyEditPipeline",
            "lucy",
            edit,
            video_calls(**CALL, video=[pil(16)] * 5),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            single=True,  # the video is not repeated
        ),
        Case(
            "WanPipeline",
            "wan",
            text,
            video_calls(**CALL),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
        ),
        Case(
            "WanPipeline",
            "wan",
            two,
            video_calls(**CALL),
            denoisers=("transformer", "transformer_2"),
            style="two calls",
            order="cond uncond",
            variant="two transformers",
        ),
        Case(
            "WanPipeline",
            "wan",
            tokens,
            video_calls(**CALL),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            variant="timestep a token",
        ),
        Case(
            "WanImageToVideoPipeline",
            "wan",
            image,
            video_calls(**CALL, image=pil(16)),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            single=True,  # the image is not repeated
        ),
        Case(
            "WanVACEPipeline",
            "wan",
            vace,
            video_calls(**CALL),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            single=True,  # says that it cannot
        ),
        Case(
            "WanVideoToVideoPipeline",
            "wan",
            video,
            video_calls(**{**CALL, "num_frames": OMIT}, video=[pil(16)] * 5, strength=0.7),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            one=True,
        ),
    ),
)
