"""Kolors: SDXL's UNet read by ChatGLM."""

from typing import Any

import diffusers
import torch

from tests.pipelines.families import Case, Family, parts, sdxl
from tests.pipelines.families.parts import PROMPT, calls, picture, seeded


class Positions:
    """A tokenizer that also counts the tokens, as ChatGLM's does."""

    def __init__(self) -> None:
        self.inner = parts.tokenizer(side="left")

    def __call__(self, text: Any, **settings: Any) -> Any:
        made = self.inner(text, **settings)
        made["position_ids"] = (torch.cumsum(made["attention_mask"], dim=1) - 1).clamp(min=0)
        return made


def build(cls: str, **more: Any) -> Any:
    @seeded
    def made() -> Any:
        from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel  # warns when it is imported

        text_encoder = ChatGLMModel(
            ChatGLMConfig(
                num_layers=2,
                padded_vocab_size=parts.VOCABULARY,
                hidden_size=parts.WIDTH,
                ffn_hidden_size=37,
                kv_channels=8,
                num_attention_heads=4,
                seq_length=256,
                add_qkv_bias=True,
                original_rope=True,
                bias_dropout_fusion=False,
                multi_query_attention=True,
                multi_query_group_num=2,
                attention_softmax_in_fp32=True,
            ),
            empty_init=False,
        )
        for name, parameter in text_encoder.named_parameters():  # its norms are born uninitialised
            if parameter.ndim == 1:
                parameter.data.fill_(float(name.endswith("weight")))
        unet = parts.unet(**sdxl.ADDED | {"cross_attention_dim": parts.WIDTH})
        return getattr(diffusers, cls)(
            unet=unet,
            scheduler=diffusers.EulerDiscreteScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
            ),
            vae=parts.vae(),
            text_encoder=text_encoder,
            tokenizer=Positions(),
            **more,
        )

    return made


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "max_sequence_length": 24}

FAMILY = Family(
    "Kolors",
    (
        Case(
            "KolorsPipeline",
            "kolors",
            build("KolorsPipeline"),
            calls(**TEXT),
            prediction="epsilon",
            requires="sentencepiece",
        ),
        Case(
            "KolorsImg2ImgPipeline",
            "kolors",
            build("KolorsImg2ImgPipeline"),
            calls(**TEXT, image=picture(), strength=0.7),
            prediction="epsilon",
            requires="sentencepiece",
        ),
        Case(
            "KolorsPAGPipeline",
            "kolors",
            build("KolorsPAGPipeline", pag_applied_layers=["mid"]),
            calls(**TEXT, pag_scale=2.0),
            prediction="epsilon",
            requires="sentencepiece",
            style="three parts",
            combine="three parts",
        ),
    ),
)
