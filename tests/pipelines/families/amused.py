"""Masked diffusion of tokens: aMUSEd, whose network predicts logits."""

from typing import Any

import diffusers
from torch import Tensor

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, WIDTH, calls, seeded

CODES = 8
SIZE = 16


def codes() -> Any:
    """An autoencoder with a codebook of CODES entries; one token for each pixel of an image."""
    return diffusers.VQModel(
        block_out_channels=(8,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        latent_channels=WIDTH,
        layers_per_block=1,
        norm_num_groups=8,
        num_vq_embeddings=CODES,
        sample_size=SIZE,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
        vq_embed_dim=WIDTH,
    )


def amused(cls: str) -> Any:
    @seeded
    def build() -> Any:
        transformer = diffusers.UVit2DModel(
            hidden_size=WIDTH,
            use_bias=False,
            hidden_dropout=0.0,
            cond_embed_dim=WIDTH,
            micro_cond_encode_dim=2,
            micro_cond_embed_dim=10,
            encoder_hidden_size=WIDTH,
            vocab_size=CODES + 1,
            codebook_size=CODES,
            in_channels=WIDTH,
            block_out_channels=WIDTH,
            num_res_blocks=1,
            downsample=False,
            upsample=False,
            block_num_heads=2,
            num_hidden_layers=1,
            num_attention_heads=2,
            attention_dropout=0.0,
            intermediate_size=WIDTH,
            layer_norm_eps=1e-6,
            ln_elementwise_affine=True,
            sample_size=SIZE,
        )
        return getattr(diffusers, cls)(
            vqvae=codes(),
            tokenizer=parts.clip_tokenizer(),
            text_encoder=parts.clip_text(projection=WIDTH),
            transformer=parts.loud(transformer, "crossattention", "encoder_proj", "project_to_hidden", gain=6.0),
            scheduler=diffusers.AmusedScheduler(mask_token_id=CODES),
        )

    return build


def tokens(pipe: Any, scale: float, **arguments: Any) -> Tensor:
    """The tokens as latents."""
    return calls(prompt=PROMPT, output_type="latent", height=SIZE, width=SIZE)(pipe, scale, **arguments)


IMAGE: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "image": parts.picture(SIZE), "strength": 1.0}
PLACES: dict[str, Any] = {**IMAGE, "mask_image": parts.picture(SIZE, 1).round()}
FAMILY = Family(
    "Tokens",
    (
        Case("AmusedPipeline", "amused", amused("AmusedPipeline"), tokens, denoisers=("transformer",)),
        Case(
            "AmusedInpaintPipeline",
            "amused",
            amused("AmusedInpaintPipeline"),
            calls(**PLACES),
            denoisers=("transformer",),
        ),
        Case(
            "AmusedImg2ImgPipeline",
            "amused",
            amused("AmusedImg2ImgPipeline"),
            calls(**IMAGE | {"strength": 0.7}),
            denoisers=("transformer",),
        ),
    ),
)
