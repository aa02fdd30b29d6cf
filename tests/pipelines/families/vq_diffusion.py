"""VQ-Diffusion: masked diffusion of tokens, whose network predicts their log-probabilities."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import OMIT, PROMPT, calls, loud, seeded

CODES = 12
SIDE = 8


@seeded
def text() -> Any:
    from diffusers.pipelines.deprecated.vq_diffusion.pipeline_vq_diffusion import (
        LearnedClassifierFreeSamplingEmbeddings,
    )

    transformer = diffusers.Transformer2DModel(
        attention_bias=True,
        cross_attention_dim=parts.WIDTH,
        attention_head_dim=8,
        num_attention_heads=2,
        norm_type="ada_norm",
        num_embeds_ada_norm=100,
        num_vector_embeds=CODES + 1,
        sample_size=SIDE,
        activation_fn="geglu-approximate",
    )
    return diffusers.VQDiffusionPipeline(
        vqvae=diffusers.VQModel(
            block_out_channels=(8,),
            down_block_types=("DownEncoderBlock2D",),
            up_block_types=("UpDecoderBlock2D",),
            latent_channels=3,
            layers_per_block=1,
            norm_num_groups=4,
            num_vq_embeddings=CODES,
            vq_embed_dim=3,
        ),
        text_encoder=parts.clip_text(),
        tokenizer=parts.clip_tokenizer(),
        transformer=loud(transformer, "attn2", "out", gain=6.0),
        scheduler=diffusers.VQDiffusionScheduler(num_vec_classes=CODES + 1),
        learned_classifier_free_sampling_embeddings=LearnedClassifierFreeSamplingEmbeddings(learnable=False),
    )


FAMILY = Family(
    "VQ-Diffusion",
    (
        Case(
            "VQDiffusionPipeline",
            "vq_diffusion",
            text,
            calls(prompt=PROMPT, output_type="np", negative=OMIT),
            denoisers=("transformer",),
            after="less the logarithm of its sum over the codes, and truncated",
            exact=False,
        ),
    ),
)
