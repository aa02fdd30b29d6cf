"""LTX-2: video and sound from one network, each with a scale of its own and two further passes."""

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_hdr_lora import LTX2HDRReferenceCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from torch import Tensor

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import picture, seeded, told

LAYERS = 2
"""Of the text encoder, whose hidden states lie side by side."""

TOLD = told(8 * LAYERS, mask="_attention_mask")
CALL: dict[str, Any] = {
    "output_type": "latent",
    "height": 32,
    "width": 32,
    "num_frames": 5,
    "frame_rate": 25.0,
    "spatio_temporal_guidance_blocks": [1],
    "noise_scale": 1.0,
}
ALONE: dict[str, Any] = {
    "stg_scale": 0.0,
    "modality_scale": 1.0,
    "audio_guidance_scale": None,
    "audio_stg_scale": None,
    "audio_modality_scale": None,
}
"""One scale for both, and no further passes; without it a call has the scales and passes of the pipeline."""

SHARED: dict[str, Any] = {
    "family": "ltx2",
    "off": None,
    "denoisers": ("transformer",),
    "before": "to float32 and to x0",
    "after": "guidance_rescale of x0",
    "exact": False,
    "apart": True,
}


def components() -> dict[str, Any]:
    transformer = diffusers.LTX2VideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=2,
        caption_channels=8,
        rope_double_precision=False,
        rope_type="split",
        perturbed_attn=True,
    )
    connectors = LTX2TextConnectors(
        caption_channels=8,
        text_proj_in_factor=LAYERS,
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=4,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=4,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=32,
        rope_double_precision=False,
        rope_type="split",
    )
    vae = diffusers.AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        patch_size=4,
        decoder_causal=False,
    )
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return {
        "text_encoder": None,
        "tokenizer": None,
        "connectors": parts.loud(connectors, "text_proj"),
        "transformer": parts.loud(transformer, "attn2", "caption"),
        "vae": vae,
        "audio_vae": diffusers.AutoencoderKLLTX2Audio(
            base_channels=4,
            ch_mult=(1,),
            num_res_blocks=1,
            resolution=32,
            latent_channels=2,
            mel_bins=8,
        ),
        "vocoder": LTX2Vocoder(
            in_channels=16,
            hidden_channels=8,
            upsample_kernel_sizes=[4, 4],
            upsample_factors=[2, 2],
            resnet_kernel_sizes=[3],
            resnet_dilations=[[1, 3, 5]],
            output_sampling_rate=16000,
        ),
        "scheduler": parts.flow_scheduler(),
    }


@seeded
def text() -> Any:
    return diffusers.LTX2Pipeline(**components())


@seeded
def image() -> Any:
    return diffusers.LTX2ImageToVideoPipeline(**components())


@seeded
def condition() -> Any:
    return diffusers.LTX2ConditionPipeline(**components())


@seeded
def in_context() -> Any:
    return diffusers.LTX2InContextPipeline(**components())


@seeded
def hdr() -> Any:
    return diffusers.LTX2HDRPipeline(**components())


def frames() -> Any:
    """Five equal frames, (1, frames, channels, height, width)."""
    return picture(32).repeat(5, 1, 1, 1)[None]


def both(**fixed: Any) -> Callable[..., Tensor]:
    """A `Case.call` that returns video and sound side by side, (images, numbers)."""

    def call(pipe: Any, scale: float, **arguments: Any) -> Tensor:
        images = arguments.pop("images", 1)
        told_often = {name: torch.cat([value] * images) for name, value in TOLD.items()}

        def joined(**named: Any) -> list[Tensor]:
            return [torch.cat([part.flatten(1) for part in pipe(**named).to_tuple()], dim=1)]

        return parts.run(joined, scale, **{**told_often, **CALL, **fixed, **arguments})

    return call


FAMILY = Family(
    "LTX-2",
    (
        Case("LTX2Pipeline", build=text, call=both(**ALONE), **SHARED),
        Case("LTX2ImageToVideoPipeline", build=image, call=both(**ALONE, image=picture(32), image_crf=0), **SHARED),
        Case(
            "LTX2ConditionPipeline",
            build=condition,
            call=both(**ALONE, conditions=[LTX2VideoCondition(picture(32), strength=0.5, crf=0)]),
            **SHARED,
        ),
        Case(
            "LTX2InContextPipeline",
            build=in_context,
            call=both(**ALONE, reference_conditions=[LTX2ReferenceCondition(frames(), 0.5)]),
            **SHARED,
        ),
        Case(
            "LTX2HDRPipeline",
            build=hdr,
            call=both(reference_conditions=[LTX2HDRReferenceCondition(frames(), 0.5)]),
            **SHARED,
        ),
    ),
)
