"""PixArt alpha and sigma: a second half of the channels that the pipeline throws away after its combine."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, seeded


def build(cls: str, **more: Any) -> Any:
    @seeded
    def made() -> Any:
        transformer = diffusers.PixArtTransformer2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            caption_channels=parts.WIDTH,
            in_channels=4,
            cross_attention_dim=24,
            out_channels=8,
            attention_bias=True,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
        )
        return getattr(diffusers, cls)(
            transformer=parts.loud(transformer, "attn2.to_v", "attn2.to_out", gain=6.0),
            scheduler=parts.sd_scheduler(),
            vae=parts.vae(),
            text_encoder=parts.t5(),
            tokenizer=parts.tokenizer(end=True),
            **more,
        )

    return made


TEXT: dict[str, Any] = {
    "prompt": PROMPT,
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "max_sequence_length": 24,
    "use_resolution_binning": False,
    "clean_caption": False,
}
FACTS: dict[str, Any] = {"denoisers": ("transformer",), "prediction": "epsilon", "variance": "discarded"}
AFTER = "drops the variance channels"

FAMILY = Family(
    "PixArt",
    (
        Case("PixArtAlphaPipeline", "pixart", build("PixArtAlphaPipeline"), calls(**TEXT), **FACTS, after=AFTER),
        Case("PixArtSigmaPipeline", "pixart", build("PixArtSigmaPipeline"), calls(**TEXT), **FACTS, after=AFTER),
        Case(
            "PixArtSigmaPAGPipeline",
            "pixart",
            build("PixArtSigmaPAGPipeline", pag_applied_layers=["blocks.1"]),
            calls(**TEXT, pag_scale=2.0),
            **FACTS,
            after=AFTER,
            style="three parts",
            combine="three parts",
        ),
    ),
)
