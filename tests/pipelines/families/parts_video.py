"""What the families of video and sound share: autoencoders of video, and one way to call such a pipeline."""

from collections.abc import Callable
from typing import Any

import diffusers
from torch import Tensor

from tests.pipelines.families import parts

KANDINSKY: dict[str, Any] = {
    **dict.fromkeys(("in_visual_dim", "out_visual_dim"), 4),
    **dict.fromkeys(("in_text_dim", "in_text_dim2"), parts.WIDTH),
    **dict.fromkeys(("num_text_blocks", "num_visual_blocks"), 1),
    "time_dim": 16,
    "model_dim": 12,
    "ff_dim": 16,
    "axes_dims": (4, 4, 4),
}
"""The transformers of Kandinsky 5 and 6."""


def video_calls(images_argument: str = "num_videos_per_prompt", /, **fixed: Any) -> Callable[..., Tensor]:
    """As `parts.calls`, for pipelines that count the videos (or waveforms) of a prompt under another name."""

    def call(pipe: Any, scale: float, **arguments: Any) -> Tensor:
        images = arguments.pop("images", 1)
        more = {} if images == 1 else {images_argument: images}
        return parts.run(pipe, scale, **{**fixed, **more, **arguments})

    return call


def text() -> dict[str, Any]:
    """The T5 encoder that most video models read, and its tokenizer."""
    return {"text_encoder": parts.t5(), "tokenizer": parts.tokenizer(end=True)}


def wan_vae(**more: Any) -> Any:
    """Wan's autoencoder: 8 times smaller images, 4 times fewer frames, 16 channels."""
    return diffusers.AutoencoderKLWan(
        **{
            "base_dim": 3,
            "z_dim": 16,
            "dim_mult": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "temperal_downsample": [False, True, True],
            **more,
        }
    )


def hunyuan_vae(channels: int = 4, **more: Any) -> Any:
    """HunyuanVideo's autoencoder: 8 times smaller images, 4 times fewer frames."""
    return diffusers.AutoencoderKLHunyuanVideo(
        **{
            "latent_channels": channels,
            "down_block_types": ("HunyuanVideoDownBlock3D",) * 4,
            "up_block_types": ("HunyuanVideoUpBlock3D",) * 4,
            "block_out_channels": (8, 8, 8, 8),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "scaling_factor": 0.476986,
            "spatial_compression_ratio": 8,
            "temporal_compression_ratio": 4,
            "mid_block_add_attention": True,
            **more,
        }
    )
