"""Qwen-Image 2.1: two calls a step; the keys and values of the text are kept from the first step on."""

from typing import Any

import diffusers
import torch
from torch import Tensor

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import awake, calls, seeded


def encoded(prompt: str, **_: Any) -> tuple[Tensor, None, Tensor]:
    """In place of the text encoder: the encoding, no mask, and where images are in it."""
    embeds = parts.words(len(prompt), length=len(prompt))
    return embeds, None, torch.zeros(embeds.shape[:2]).bool()


class Template:
    """In place of Qwen's processor, which is asked for the length of the system's message and a token."""

    def __init__(self) -> None:
        self.tokenizer = parts.tokenizer()

    def apply_chat_template(self, _message: Any, **_: Any) -> list[list[int]]:
        return [[]]


@seeded
def build() -> Any:
    transformer = diffusers.QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=parts.WIDTH,
        axes_dims_rope=(8, 4, 4),
    )
    pipe = diffusers.QwenImage21Pipeline(
        transformer=awake(parts.loud(transformer, "txt_in", "to_v", "to_out", gain=8.0)),
        scheduler=parts.flow_scheduler(),
        vae=parts.Coarse(4),
        text_encoder=None,
        processor=Template(),
    )
    pipe.encode_prompt = encoded
    return pipe


FAMILY = Family(
    "Qwen-Image 2.1",
    tuple(
        Case(
            "QwenImage21Pipeline",
            "qwenimage21",
            build,
            calls(
                prompt="a red fox",
                negative="grey",
                output_type="latent",
                height=128,
                width=128,
                scale_argument="true_cfg_scale",
                **more,
            ),
            scale_argument="true_cfg_scale",
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            variant=variant,
            single=True,
            before="keeps the last tokens of u and c (the image, behind the text)",
            exact=False,
            shares=shares,
        )
        for variant, shares, more in (("", False, {}), ("no cache", True, {"use_kv_cache": False}))
    ),
)
