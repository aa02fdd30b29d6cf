"""Flux 2 Klein (two calls a step) and Flux 2 (the scale as an input of the network)."""

from typing import Any

import diffusers
import torch

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import OMIT, PROMPT, calls, mask, pil, seeded


def transformer(*, embedded: bool = False) -> Any:
    made = diffusers.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=parts.WIDTH,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=embedded,
    )
    return parts.loud(made, "context_embedder", "add_v", "guidance_embedder", "to_out", gain=3.0)


def components() -> dict[str, Any]:
    return {
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": diffusers.AutoencoderKLFlux2(
            sample_size=16,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
        ),
    }


def klein(cls: str) -> Any:
    """A builder of this class of Klein."""

    @seeded
    def made() -> Any:
        return getattr(diffusers, cls)(
            **components(),
            transformer=transformer(),
            text_encoder=parts.language("Qwen3", head=True),
            tokenizer=parts.tokenizer(chat=parts.PLAIN),
            is_distilled=False,
        )

    return made


@seeded
def dev() -> Any:
    return diffusers.Flux2Pipeline(
        **components(), transformer=transformer(embedded=True), text_encoder=None, tokenizer=None
    )


WORDS = torch.randn(1, 8, parts.WIDTH, generator=torch.Generator().manual_seed(1))
LATENT: dict[str, Any] = {"output_type": "latent", "height": 16, "width": 16}
TEXT: dict[str, Any] = {**LATENT, "prompt": PROMPT, "max_sequence_length": 48, "text_encoder_out_layers": (1,)}
TWO: dict[str, Any] = {"denoisers": ("transformer",), "style": "two calls", "order": "cond uncond"}
SHORTENED = "keeps the first tokens of u and c (the rest are the image to be edited)"

FAMILY = Family(
    "Flux 2",
    (
        Case("Flux2KleinPipeline", "flux2", klein("Flux2KleinPipeline"), calls(**TEXT), **TWO, before=SHORTENED),
        Case(
            "Flux2KleinInpaintPipeline",
            "flux2",
            klein("Flux2KleinInpaintPipeline"),
            calls(**TEXT, image=pil(16), mask_image=mask(), strength=0.9),
            **TWO,
            before=SHORTENED,
        ),
        Case(
            "Flux2Pipeline",
            "flux2",
            dev,
            calls(**LATENT, prompt=None, prompt_embeds=WORDS, negative=OMIT),
            off=None,
            denoisers=("transformer",),
            style="embedded",
            order="other",
            combine="none",
        ),
    ),
)
