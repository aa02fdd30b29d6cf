"""Stable Cascade and Wuerstchen: a prior and a decoder each, conditional rows first, `lerp`."""

from typing import Any

import diffusers
import torch

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, awake, calls, seeded

LAYER = ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock")
UNET: dict[str, Any] = {
    "conditioning_dim": 32,
    "block_out_channels": (16, 32),
    "num_attention_heads": (2, 2),
    "down_num_layers_per_block": (1, 1),
    "up_num_layers_per_block": (1, 1),
    "block_types_per_layer": (LAYER, LAYER),
    "clip_text_pooled_in_channels": parts.WIDTH,
    "timestep_ratio_embedding_dim": 16,
    "switch_level": (False,),
}


def reader() -> dict[str, Any]:
    return {
        "text_encoder": parts.clip_text(projection=parts.WIDTH),
        "tokenizer": parts.clip_tokenizer(),
        "scheduler": diffusers.DDPMWuerstchenScheduler(),
    }


def vqgan() -> Any:
    from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel

    return PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=16, embed_dim=8)


@seeded
def prior() -> Any:
    network = diffusers.StableCascadeUNet(
        **UNET, in_channels=16, out_channels=16, clip_text_in_channels=parts.WIDTH, clip_image_in_channels=32
    )
    return diffusers.StableCascadePriorPipeline(prior=parts.loud(network, "clip_txt", "kv_mapper"), **reader())


@seeded
def decoder() -> Any:
    network = diffusers.StableCascadeUNet(**UNET, in_channels=4, out_channels=4, patch_size=2, effnet_in_channels=16)
    return diffusers.StableCascadeDecoderPipeline(
        decoder=parts.loud(network, "clip_txt", "kv_mapper"), vqgan=vqgan(), **reader()
    )


@seeded
def old_prior() -> Any:
    from diffusers.pipelines.deprecated.wuerstchen import WuerstchenPrior

    network = WuerstchenPrior(c_in=4, c=16, c_cond=parts.WIDTH, c_r=16, depth=2, nhead=2, dropout=0.0)
    return diffusers.WuerstchenPriorPipeline(
        prior=parts.loud(network, "cond_mapper", "kv_mapper"), **reader() | {"text_encoder": parts.clip_text()}
    )


@seeded
def old_decoder() -> Any:
    from diffusers.pipelines.deprecated.wuerstchen import WuerstchenDiffNeXt

    network = WuerstchenDiffNeXt(
        c_cond=16,
        c_hidden=[16, 32],
        c_r=16,
        nhead=[-1, 2],
        blocks=[1, 1],
        level_config=["CT", "CTA"],
        inject_effnet=[False, True],
        effnet_embd=4,
        clip_embd=parts.WIDTH,
        dropout=0.0,
    )
    return diffusers.WuerstchenDecoderPipeline(
        decoder=parts.loud(awake(network, 0.3), "clip_mapper", "kv_mapper"),
        vqgan=vqgan(),
        **reader() | {"text_encoder": parts.clip_text()},
    )


def codes(channels: int) -> torch.Tensor:
    return torch.randn(1, channels, 3, 3, generator=torch.Generator().manual_seed(1))


CODES: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent"}
TEXT: dict[str, Any] = {"prompt": PROMPT, "height": 128, "width": 128}
FIRST: dict[str, Any] = {"order": "cond uncond", "combine": "lerp", "prediction": "epsilon"}

FAMILY = Family(
    "Cascade",
    (
        Case("StableCascadePriorPipeline", "stable_cascade", prior, calls(**TEXT), denoisers=("prior",), **FIRST),
        Case(
            "StableCascadeDecoderPipeline",
            "stable_cascade",
            decoder,
            calls(**CODES, image_embeddings=codes(16)),
            single=True,
            denoisers=("decoder",),
            **FIRST,
        ),
        Case("WuerstchenPriorPipeline", "wuerstchen", old_prior, calls(**TEXT), denoisers=("prior",), **FIRST),
        Case(
            "WuerstchenDecoderPipeline",
            "wuerstchen",
            old_decoder,
            calls(**CODES, image_embeddings=codes(4)),
            single=True,
            denoisers=("decoder",),
            **FIRST,
        ),
    ),
)
