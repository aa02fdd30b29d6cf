"""Published models at their full size on a simulated device: their configurations, without their weights.

The numbers are those of the models' own config.json: Stable Diffusion 1.5, SDXL, Stable Diffusion 3.5 Large,
FLUX.1-dev, Wan 2.2 T2V-A14B (two experts) and Qwen-Image. With `few_layers`, the depth of a network is cut and its
widths are left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from benchmarks import gpu
from tests.cuda.simulated import DEVICE, Device
from tests.tiny import tokenizer

SD_SCHEDULER: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
SD15_UNET = gpu.SD15
SDXL_UNET: dict[str, Any] = {
    **gpu.SDXL,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD35: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 38,
    "attention_head_dim": 64,
    "num_attention_heads": 38,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 2432,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
    "qk_norm": "rms_norm",
}
FLUX: dict[str, Any] = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
WAN22: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 40,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 1024,
}
QWEN: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 64,
    "out_channels": 16,
    "num_layers": 60,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 3584,
    "axes_dims_rope": (16, 56, 56),
}


@dataclass(frozen=True, eq=False)
class Model:
    """A family on the simulated device.

    Attributes:
        name: The model.
        dtype: The dtype in which it is published to be run.
        latents: The size of the latents of one image: the unit of memory.
        build: `build(device, few_layers)` makes the pipeline.
        inputs: `inputs(images, same)` makes the prompt embeddings of a call; `same` gives every image the same ones.
        arguments: The other arguments of a call.
        scale: The argument that switches guidance on, and its value.
        prompts: Whether its pipeline can encode further prompts here.
    """

    name: str
    dtype: torch.dtype
    latents: int
    build: Callable[[Device, bool], Any]
    inputs: Callable[[int, bool], dict[str, Any]]
    arguments: dict[str, Any]
    scale: dict[str, float]
    prompts: bool = False

    def call(self, pipe: Any, images: int = 1, *, steps: int = 2, same: bool = False, **more: Any) -> Tensor:
        """The latents of a call; the generators are on the CPU, as diffusers advises."""
        seeds = [0] * images if same else range(images)
        arguments = {
            **self.arguments,
            **self.scale,
            **self.inputs(images, same),
            "num_inference_steps": steps,
            "output_type": "latent",
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "return_dict": False,
        }
        result: Tensor = pipe(**(arguments | more))[0]
        return result


def _text(dtype: torch.dtype, images: int, same: bool, *shape: int, seed: int = 0) -> Tensor:
    """Random embeddings, moved to the device as a text encoder's would be there."""
    rows = torch.randn(1 if same else images, *shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return (rows.expand(images, *shape).contiguous() if same else rows).to(DEVICE)


def _on_meta(kind: Any, **config: Any) -> Any:
    with torch.device("meta"):
        return kind(**config)


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


# -- Stable Diffusion 1.5 ----------------------------------------------------------------------------------------------


def sd15_parts(device: Device, **unet: Any) -> dict[str, Any]:
    """The components of Stable Diffusion 1.5; `unet` changes the configuration of its UNet."""
    text = _on_meta(
        transformers.CLIPTextModel,
        config=transformers.CLIPTextConfig(
            vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
        ),
    )
    return {
        "vae": None,
        "text_encoder": device.place(text, torch.float16),
        "tokenizer": tokenizer(),
        "unet": device.place(_on_meta(diffusers.UNet2DConditionModel, **SD15_UNET | unet), torch.float16),
        "scheduler": diffusers.DDIMScheduler(**SD_SCHEDULER),
        "safety_checker": None,
        "feature_extractor": None,
    }


FEW_BLOCKS: dict[str, Any] = {
    "block_out_channels": (320,),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
}


def _sd15(device: Device, few_layers: bool) -> Any:
    parts = sd15_parts(device, **FEW_BLOCKS if few_layers else {})
    return _quiet(diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False))


def _sd15_inputs(images: int, same: bool) -> dict[str, Any]:
    half = torch.float16
    return {
        "prompt_embeds": _text(half, images, same, 77, 768),
        "negative_prompt_embeds": _text(half, images, True, 77, 768, seed=1),
    }


# -- the others --------------------------------------------------------------------------------------------------------


def _sdxl(device: Device, few_layers: bool) -> Any:
    config = SDXL_UNET | ({"transformer_layers_per_block": (1, 1, 1), "layers_per_block": 1} if few_layers else {})
    return _quiet(
        diffusers.StableDiffusionXLPipeline(
            vae=None,
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
            unet=device.place(_on_meta(diffusers.UNet2DConditionModel, **config), torch.float16),
            scheduler=diffusers.EulerDiscreteScheduler(
                beta_schedule="scaled_linear",
                beta_start=0.00085,
                beta_end=0.012,
                steps_offset=1,
                timestep_spacing="leading",
            ),
            add_watermarker=False,
        )
    )


def _sdxl_inputs(images: int, same: bool) -> dict[str, Any]:
    half = torch.float16
    return {
        "prompt_embeds": _text(half, images, same, 77, 2048),
        "negative_prompt_embeds": _text(half, images, True, 77, 2048, seed=1),
        "pooled_prompt_embeds": _text(half, images, same, 1280, seed=2),
        "negative_pooled_prompt_embeds": _text(half, images, True, 1280, seed=3),
    }


def _sd35(device: Device, few_layers: bool) -> Any:
    config = SD35 | ({"num_layers": 2} if few_layers else {})
    return _quiet(
        diffusers.StableDiffusion3Pipeline(
            transformer=device.place(_on_meta(diffusers.SD3Transformer2DModel, **config), torch.bfloat16),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            **dict.fromkeys(
                ("vae", "text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3")
            ),
        )
    )


def _sd35_inputs(images: int, same: bool) -> dict[str, Any]:
    kind = torch.bfloat16
    return {
        "prompt_embeds": _text(kind, images, same, 333, 4096),
        "negative_prompt_embeds": _text(kind, images, True, 333, 4096, seed=1),
        "pooled_prompt_embeds": _text(kind, images, same, 2048, seed=2),
        "negative_pooled_prompt_embeds": _text(kind, images, True, 2048, seed=3),
    }


def _flux(device: Device, few_layers: bool) -> Any:
    config = FLUX | ({"num_layers": 1, "num_single_layers": 1} if few_layers else {})
    return _quiet(
        diffusers.FluxPipeline(
            transformer=device.place(_on_meta(diffusers.FluxTransformer2DModel, **config), torch.bfloat16),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            **dict.fromkeys(("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")),
        )
    )


def _flux_inputs(images: int, same: bool) -> dict[str, Any]:
    kind = torch.bfloat16
    return {
        "prompt_embeds": _text(kind, images, same, 512, 4096),
        "pooled_prompt_embeds": _text(kind, images, same, 768, seed=2),
    }


def _flux_negative_inputs(images: int, same: bool) -> dict[str, Any]:
    kind = torch.bfloat16
    return _flux_inputs(images, same) | {
        "negative_prompt_embeds": _text(kind, images, True, 512, 4096, seed=1),
        "negative_pooled_prompt_embeds": _text(kind, images, True, 768, seed=3),
    }


def _wan22(device: Device, few_layers: bool) -> Any:
    config = WAN22 | ({"num_layers": 1} if few_layers else {})
    experts = [device.place(_on_meta(diffusers.WanTransformer3DModel, **config), torch.bfloat16) for _ in range(2)]
    return _quiet(
        diffusers.WanPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=None,
            transformer=experts[0],
            transformer_2=experts[1],
            scheduler=diffusers.UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
            ),
            boundary_ratio=0.875,
        )
    )


def _wan22_inputs(images: int, same: bool) -> dict[str, Any]:
    kind = torch.bfloat16
    return {
        "prompt_embeds": _text(kind, images, same, 512, 4096),
        "negative_prompt_embeds": _text(kind, images, True, 512, 4096, seed=1),
    }


def _qwen(device: Device, few_layers: bool) -> Any:
    config = QWEN | ({"num_layers": 1} if few_layers else {})
    return _quiet(
        diffusers.QwenImagePipeline(
            vae=None,
            text_encoder=None,
            tokenizer=None,
            transformer=device.place(_on_meta(diffusers.QwenImageTransformer2DModel, **config), torch.bfloat16),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        )
    )


def _qwen_inputs(images: int, same: bool) -> dict[str, Any]:
    kind = torch.bfloat16
    mask = torch.ones(images, 128, dtype=torch.int64)
    return {
        "prompt_embeds": _text(kind, images, same, 128, 3584),
        "negative_prompt_embeds": _text(kind, images, True, 128, 3584, seed=1),
        "prompt_embeds_mask": mask.to(DEVICE),
        "negative_prompt_embeds_mask": mask.to(DEVICE),
    }


SQUARE: dict[str, Any] = {"height": 1024, "width": 1024}
SD15 = Model(
    "Stable Diffusion 1.5",
    torch.float16,
    4 * 64 * 64,
    _sd15,
    _sd15_inputs,
    {"height": 512, "width": 512},
    {"guidance_scale": 7.5},
    prompts=True,
)
MODELS = (
    SD15,
    Model("SDXL", torch.float16, 4 * 128 * 128, _sdxl, _sdxl_inputs, SQUARE, {"guidance_scale": 5.0}),
    Model("SD 3.5 Large", torch.bfloat16, 16 * 128 * 128, _sd35, _sd35_inputs, SQUARE, {"guidance_scale": 3.5}),
    Model("FLUX.1-dev", torch.bfloat16, 16 * 128 * 128, _flux, _flux_inputs, SQUARE, {"guidance_scale": 3.5}),
    Model(
        "FLUX.1-dev with a negative prompt",
        torch.bfloat16,
        16 * 128 * 128,
        _flux,
        _flux_negative_inputs,
        SQUARE,
        {"guidance_scale": 1.0, "true_cfg_scale": 4.0},
    ),
    Model(
        "Wan 2.2 T2V-A14B",
        torch.bfloat16,
        16 * 21 * 60 * 104,
        _wan22,
        _wan22_inputs,
        {"height": 480, "width": 832, "num_frames": 81},
        {"guidance_scale": 4.0},
    ),
    Model("Qwen-Image", torch.bfloat16, 16 * 128 * 128, _qwen, _qwen_inputs, SQUARE, {"true_cfg_scale": 4.0}),
)
