"""Kandinsky 2.1, 2.2 (a prior and a decoder, whose learned variance is used) and Kandinsky 3 (`(g + 1) c - g u`)."""

from typing import Any

import diffusers
import torch
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from torch import nn

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import OMIT, PROMPT, calls, mask, picture, pil, seeded
from tests.pipelines.families.parts_text import MULTILINGUAL


def movq() -> Any:
    return diffusers.VQModel(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    )


def decoder(cls: str, channels: int = 4, added: str = "image", read: str = "image_proj") -> Any:
    """A builder of this decoder; the UNet reads `channels`."""

    @seeded
    def made() -> Any:
        unet = diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=channels,
            out_channels=8,
            addition_embed_type=added,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            block_out_channels=(16, 32),
            layers_per_block=1,
            encoder_hid_dim=parts.WIDTH,
            encoder_hid_dim_type=read,
            cross_attention_dim=parts.WIDTH,
            attention_head_dim=4,
            resnet_time_scale_shift="scale_shift",
            norm_num_groups=8,
        )
        return getattr(diffusers, cls)(
            unet=parts.loud(unet, "add_k_proj", "add_v_proj", "add_embedding", gain=2.0),
            scheduler=diffusers.DDPMScheduler(
                beta_schedule="linear",
                beta_start=0.00085,
                beta_end=0.012,
                variance_type="learned_range",
                clip_sample=False,
            ),
            movq=movq(),
        )

    return made


def old(cls: str, channels: int = 4) -> Any:
    """A builder of this class of Kandinsky 2.1: the UNet reads the words too, of a text encoder of its own."""

    @seeded
    def made() -> Any:
        config = MCLIPConfig(
            numDims=parts.WIDTH,
            transformerDimensions=parts.WIDTH,
            **MULTILINGUAL,
        )
        like = decoder("KandinskyV22Pipeline", channels, added="text_image", read="text_image_proj")()
        return getattr(diffusers, cls)(
            text_encoder=MultilingualCLIP(config),
            tokenizer=parts.tokenizer(parts.TOKENS, start=True, end=True),
            unet=like.unet,
            scheduler=diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
            movq=like.movq,
        )

    return made


first = old("KandinskyPipeline")


def prior(cls: str) -> Any:
    """A builder of this prior."""

    @seeded
    def made() -> Any:
        network = diffusers.PriorTransformer(
            num_attention_heads=2,
            attention_head_dim=12,
            embedding_dim=parts.WIDTH,
            num_layers=1,
        )
        network.clip_std = nn.Parameter(torch.ones_like(network.clip_std))  # born zero: every output would be equal
        return getattr(diffusers, cls)(
            prior=parts.loud(network, "encoder_hidden_states_proj", "embedding_proj", gain=3.0),
            image_encoder=parts.clip_vision(),
            text_encoder=parts.clip_text(projection=parts.WIDTH),
            tokenizer=parts.clip_tokenizer(),
            scheduler=diffusers.UnCLIPScheduler(
                variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=10.0
            ),
            image_processor=parts.clip_pictures(),
        )

    return made


def three(cls: str) -> Any:
    """A builder of this class of Kandinsky 3."""

    @seeded
    def made() -> Any:
        unet = diffusers.Kandinsky3UNet(
            in_channels=4,
            time_embedding_dim=16,
            groups=2,
            attention_head_dim=4,
            layers_per_block=3,
            block_out_channels=(8, 16),
            cross_attention_dim=8,
            encoder_hid_dim=parts.WIDTH,
        )
        return getattr(diffusers, cls)(
            unet=unet,
            scheduler=diffusers.DDPMScheduler(
                beta_start=0.00085, beta_end=0.012, steps_offset=1, beta_schedule="squaredcos_cap_v2", clip_sample=False
            ),
            movq=movq(),
            text_encoder=parts.t5(),
            tokenizer=parts.tokenizer(128, end=True),
        )

    return made


def vector(seed: int) -> torch.Tensor:
    return torch.randn(1, parts.WIDTH, generator=torch.Generator().manual_seed(seed))


PAIR: dict[str, Any] = {
    "image_embeds": vector(1),
    "negative_image_embeds": vector(2),
    "height": 16,
    "width": 16,
    "output_type": "latent",
    "negative": OMIT,
}
OLD: dict[str, Any] = {**PAIR, "output_type": "pt", "negative": "grey", "prompt": PROMPT}
USED: dict[str, Any] = {"prediction": "epsilon", "variance": "used"}
PRIOR: dict[str, Any] = {"prediction": "sample", "denoisers": ("prior",)}
THREE: dict[str, Any] = {"prediction": "epsilon", "combine": "c + g (c - u)", "offset": 1.0}
TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent"}

FAMILY = Family(
    "Kandinsky",
    (
        Case("KandinskyV22Pipeline", "kandinsky2_2", decoder("KandinskyV22Pipeline"), calls(**PAIR), **USED),
        Case(
            "KandinskyV22Img2ImgPipeline",
            "kandinsky2_2",
            decoder("KandinskyV22Img2ImgPipeline"),
            calls(**PAIR, image=pil(16), strength=0.7),
            **USED,
        ),
        Case(
            "KandinskyV22InpaintPipeline",
            "kandinsky2_2",
            decoder("KandinskyV22InpaintPipeline", 9),
            calls(**PAIR, image=pil(16), mask_image=mask(16)[0, 0].numpy()),
            **USED,
        ),
        Case(
            "KandinskyV22ControlnetPipeline",
            "kandinsky2_2",
            decoder("KandinskyV22ControlnetPipeline", 8, "image_hint"),
            calls(**PAIR | {"output_type": "pt"}, hint=picture(64)),
            **USED,
        ),
        Case(
            "KandinskyV22ControlnetImg2ImgPipeline",
            "kandinsky2_2",
            decoder("KandinskyV22ControlnetImg2ImgPipeline", 8, "image_hint"),
            calls(**PAIR | {"output_type": "pt"}, image=pil(16), hint=picture(64), strength=0.7),
            **USED,
        ),
        Case(
            "KandinskyPipeline",
            "kandinsky",
            first,
            calls(**OLD),
            **USED | {"variance": "discarded"},
        ),
        Case(
            "KandinskyImg2ImgPipeline",
            "kandinsky",
            old("KandinskyImg2ImgPipeline"),
            calls(**OLD, image=pil(16), strength=0.7),
            scales=(3.0, 15.0),
            **USED | {"variance": "discarded"},
        ),
        Case(
            "KandinskyInpaintPipeline",
            "kandinsky",
            old("KandinskyInpaintPipeline", 9),
            calls(**OLD, image=pil(16), mask_image=mask(16)[0, 0].numpy()),
            **USED | {"variance": "discarded"},
        ),
        Case(
            "KandinskyPriorPipeline",
            "kandinsky",
            prior("KandinskyPriorPipeline"),
            calls(prompt=PROMPT),
            **PRIOR,
        ),
        Case(
            "KandinskyV22PriorPipeline",
            "kandinsky2_2",
            prior("KandinskyV22PriorPipeline"),
            calls(prompt=PROMPT),
            **PRIOR,
        ),
        Case(
            "KandinskyV22PriorEmb2EmbPipeline",
            "kandinsky2_2",
            prior("KandinskyV22PriorEmb2EmbPipeline"),
            calls(prompt=PROMPT, image=vector(3), strength=0.7),
            **PRIOR,
        ),
        Case(
            "Kandinsky3Pipeline", "kandinsky3", three("Kandinsky3Pipeline"), calls(**TEXT, height=16, width=16), **THREE
        ),
        Case(
            "Kandinsky3Img2ImgPipeline",
            "kandinsky3",
            three("Kandinsky3Img2ImgPipeline"),
            calls(**TEXT, image=picture(16), strength=0.7),
            **THREE,
        ),
    ),
)
