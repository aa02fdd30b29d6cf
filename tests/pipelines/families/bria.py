"""Bria and Bria Fibo."""

from typing import Any

import diffusers
import torch

from tests.pipelines.families import Case, Family, flux2, parts
from tests.pipelines.families.parts import PROMPT, calls, pil, seeded, told


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


@seeded
def second() -> Any:
    transformer = diffusers.BriaFibo2Transformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        cap_feat_dim=parts.WIDTH,
        injection_layer_ids=(1,),
        perceiver_num_layers=1,
        min_num_gist_tokens=4,
        max_num_gist_tokens=8,
        gist_step=2,
        gist_min_text_len=8,
        gist_max_text_len=32,
        axes_dims=(4, 6, 6),
        axes_lens=(64, 32, 32),
    )
    return diffusers.BriaFibo2Pipeline(
        transformer=parts.loud(parts.awake(transformer), "cap_embedder", "context", "injection"),
        text_encoder=None,
        processor=None,
        **flux2.components(),
    )


STATES = 2
"""Layers of the text encoder that the second Fibo reads."""
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
        Case(
            "BriaFibo2Pipeline",
            "bria_fibo2",
            second,
            calls(
                **{name: torch.stack([value] * STATES, dim=1) for name, value in told().items()},
                output_type="latent",
                height=32,
                width=32,
            ),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            before="to float32",
        ),
    ),
)
