"""Bria and Bria Fibo."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, pil, seeded


@seeded
def plain() -> Any:
    transformer = diffusers.BriaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=parts.WIDTH,
        pooled_projection_dim=None,
        axes_dims_rope=[0, 4, 4],
    )
    return diffusers.BriaPipeline(
        transformer=parts.loud(transformer, "context_embedder", "add_v_proj"),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=parts.vae(shift_factor=0.0),
        text_encoder=parts.t5(),
        tokenizer=parts.tokenizer(end=True),
    )


def fibo(cls: str) -> Any:
    @seeded
    def made() -> Any:
        return getattr(diffusers, cls)(**fibo_parts())

    return made


def fibo_parts() -> dict[str, Any]:
    transformer = diffusers.BriaFiboTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * parts.WIDTH,
        text_encoder_dim=parts.WIDTH,
        pooled_projection_dim=None,
        axes_dims_rope=[0, 4, 4],
    )
    return {
        "transformer": parts.loud(
            transformer, "context_embedder", "caption_projection", "add_v_proj", "to_out", gain=8.0
        ),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": diffusers.AutoencoderKLWan(
            base_dim=4,
            num_res_blocks=1,
            dim_mult=[1, 1],
            temperal_downsample=[False],
            z_dim=4,
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
            scale_factor_spatial=2,
        ),
        "text_encoder": parts.language("SmolLM3", head=True),
        "tokenizer": parts.tokenizer(start=True, length=512),
    }


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "max_sequence_length": 24}

FAMILY = Family(
    "Bria",
    (
        Case(
            "BriaPipeline",
            "bria",
            plain,
            calls(**TEXT),
            denoisers=("transformer",),
            after="normalize (to the spread of c) and clip_value",
        ),
        Case(
            "BriaFiboPipeline",
            "bria_fibo",
            fibo("BriaFiboPipeline"),
            calls(**TEXT | {"height": 128, "width": 128}, negative="grey"),
            denoisers=("transformer",),
        ),
        Case(
            "BriaFiboEditPipeline",
            "bria_fibo",
            fibo("BriaFiboEditPipeline"),
            calls(
                prompt='{"edit_instruction": "a red fox"}',
                negative="grey",
                output_type="latent",
                height=32,
                width=32,
                image=pil(32),
                max_sequence_length=48,
                _auto_resize=False,
            ),
            denoisers=("transformer",),
            after="keeps the first tokens (the rest are the image to be edited)",
            exact=False,
        ),
    ),
)
