"""LongCat: images with a ceiling on the length of every token, edited images, and sound."""

from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, pil, seeded

FACTS: dict[str, Any] = {"denoisers": ("transformer",), "style": "two calls", "order": "cond uncond"}


class Seen:
    """In place of Qwen's processor, of which nothing is asked where the prompts are encoded."""

    image_processor = None


def encoded(prompts: list[str], _image: Any = None) -> Tensor:
    """In place of the text encoder: the prompt's length decides. (Encodings as arguments fail by its own fault.)"""
    return torch.cat([parts.words(len(prompt)) for prompt in prompts])


def build(cls: str) -> Any:
    """A builder of a pipeline of images, whose autoencoder makes them 64 times smaller."""

    @seeded
    def made() -> Any:
        transformer = diffusers.LongCatImageTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=parts.WIDTH,
            pooled_projection_dim=parts.WIDTH,
            axes_dims_rope=[4, 4, 8],
        )
        pipe = getattr(diffusers, cls)(
            transformer=parts.loud(transformer, "context_embedder", "add_v_proj", "to_out", gain=6.0),
            scheduler=parts.flow_scheduler(),
            vae=parts.Coarse(16, planar=True),
            text_encoder=None,
            tokenizer=None,
            text_processor=Seen(),
        )
        pipe._encode_prompt = encoded
        return pipe

    return made


@seeded
def sound() -> Any:
    transformer = diffusers.LongCatAudioDiTTransformer(
        dit_dim=32, dit_depth=1, dit_heads=2, dit_text_dim=parts.WIDTH, latent_dim=8, text_conv=False
    )
    with torch.no_grad():
        for module in transformer.modules():
            if isinstance(module, nn.Linear) and not module.weight.any():
                module.weight.normal_(0.0, 0.1)
    return diffusers.LongCatAudioDiTPipeline(
        vae=diffusers.LongCatAudioDiTVae(
            in_channels=1,
            channels=16,
            c_mults=[1, 2],
            strides=[2],
            latent_dim=8,
            encoder_latent_dim=16,
            downsampling_ratio=2,
            sample_rate=240,
        ),
        text_encoder=parts.t5(),
        tokenizer=parts.tokenizer(end=True),
        transformer=parts.loud(transformer, "cross_attn", "text"),
        scheduler=parts.flow_scheduler(shift=1.0, invert_sigmas=True),
    )


TEXT: dict[str, Any] = {"prompt": PROMPT, "negative": "grey", "output_type": "latent"}

FAMILY = Family(
    "LongCat",
    (
        Case(
            "LongCatImagePipeline",
            "longcat_image",
            build("LongCatImagePipeline"),
            calls(**TEXT, height=1024, width=1024, enable_prompt_rewrite=False),
            after="no token longer than that of c",
            exact=False,
            **FACTS,
        ),
        Case(
            "LongCatImageEditPipeline",
            "longcat_image",
            build("LongCatImageEditPipeline"),
            calls(**TEXT, image=pil(16)),
            before="keeps the first tokens of u and c (the rest are the image to be edited)",
            exact=False,
            **FACTS,
        ),
        Case(
            "LongCatAudioDiTPipeline",
            "longcat_audio_dit",
            sound,
            calls(prompt=PROMPT, negative="grey", audio_duration_s=0.1, output_type="latent"),
            combine="u + (c - u) g",
            **FACTS,
        ),
    ),
)
