"""The classic pipelines that have a `guider` component: tiny HunyuanImage and HunyuanVideo 1.5."""

from typing import Any

import diffusers
import torch

from tests.pipelines.families import parts, qwenimage
from tests.pipelines.families.parts import seeded

NETWORK: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 1,
    "num_refiner_layers": 1,
    "text_embed_dim": parts.WIDTH,
    "text_embed_2_dim": parts.WIDTH,
}
SHARED: dict[str, Any] = {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 1}
TEXT: dict[str, Any] = {"prompt": parts.PROMPT, "negative_prompt": "grey", "output_type": "latent"}
CALLS: dict[str, dict[str, Any]] = {
    "HunyuanImage": {**TEXT, "height": 16, "width": 16},
    "HunyuanVideo 1.5": {**TEXT, "height": 16, "width": 16, "num_frames": 5},
}


def _text() -> dict[str, Any]:
    return {
        "tokenizer": parts.tokenizer(64),
        "text_encoder_2": parts.t5(),
        "tokenizer_2": parts.tokenizer(16),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    }


def image(guider: Any) -> Any:
    transformer = diffusers.HunyuanImageTransformer2DModel(
        **NETWORK, in_channels=4, out_channels=4, num_single_layers=1, rope_axes_dim=(8, 8)
    )
    vae = diffusers.AutoencoderKLHunyuanImage(
        **SHARED, block_out_channels=(32, 32), spatial_compression_ratio=2, sample_size=16
    )
    pipe = diffusers.HunyuanImagePipeline(
        **_text(),
        vae=vae,
        text_encoder=qwenimage.text_encoder(),
        transformer=parts.loud(transformer, "context_embedder", "add_v", "to_out", gain=3.0),
        guider=guider,
    )
    # the published template is longer than everything else here
    pipe.prompt_template_encode, pipe.prompt_template_encode_start_idx = "{}", 0
    pipe.tokenizer_max_length, pipe.tokenizer_2_max_length = 32, 16
    return pipe


def video(guider: Any) -> Any:
    transformer = diffusers.HunyuanVideo15Transformer3DModel(
        **NETWORK, in_channels=9, out_channels=4, image_embed_dim=8, rope_axes_dim=(4, 6, 6), target_size=16
    )
    vae = diffusers.AutoencoderKLHunyuanVideo15(
        **SHARED, block_out_channels=(32, 32), spatial_compression_ratio=2, temporal_compression_ratio=2
    )
    pipe = diffusers.HunyuanVideo15Pipeline(
        **_text(),
        vae=vae,
        text_encoder=parts.language("Qwen2"),
        transformer=parts.loud(transformer, "context_embedder", "add_v", "to_out", gain=3.0),
        guider=guider,
    )
    pipe.system_message, pipe.prompt_template_encode_start_idx = "", 0
    pipe.tokenizer_max_length, pipe.tokenizer_2_max_length, pipe.vision_num_semantic_tokens = 32, 16, 4
    return pipe


def build(name: str, guider: Any) -> Any:
    """A tiny pipeline of that family with this guider."""
    return seeded(lambda: {"HunyuanImage": image, "HunyuanVideo 1.5": video}[name](guider))()


def draw(pipe: Any, name: str, steps: int = 3, **more: Any) -> torch.Tensor:
    """Latents."""
    call = {"generator": torch.Generator().manual_seed(0), "num_inference_steps": steps, "return_dict": False}
    with parts.calm(0):
        return pipe(**CALLS[name], **call, **more)[0]
