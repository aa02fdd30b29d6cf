"""LTX-Video: text to video, image to video, and frames given as conditions."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, parts_video
from tests.pipelines.families.parts import PROMPT, picture, seeded
from tests.pipelines.families.parts_video import video_calls

CALL = {
    "prompt": PROMPT,
    "output_type": "latent",
    "height": 32,
    "width": 32,
    "num_frames": 9,
    "max_sequence_length": 16,
}


def transformer() -> Any:
    made = diffusers.LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=parts.WIDTH,
    )
    return parts.loud(made, "attn2", "caption")


def vae() -> Any:
    made = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    made.use_framewise_encoding = made.use_framewise_decoding = False
    return made


def components() -> dict[str, Any]:
    return {
        **parts_video.text(),
        "vae": vae(),
        "transformer": transformer(),
        "scheduler": parts.flow_scheduler(),
    }


@seeded
def text() -> Any:
    return diffusers.LTXPipeline(**components())


@seeded
def image() -> Any:
    return diffusers.LTXImageToVideoPipeline(**components())


@seeded
def condition() -> Any:
    return diffusers.LTXConditionPipeline(**components())


FAMILY = Family(
    "LTX-Video",
    (
        Case(
            "LTXPipeline",
            "ltx",
            text,
            video_calls(**CALL),
            denoisers=("transformer",),
            before="to float32",
            after="guidance_rescale",
        ),
        Case(
            "LTXImageToVideoPipeline",
            "ltx",
            image,
            video_calls(**CALL, image=picture(32)),
            denoisers=("transformer",),
            before="to float32",
            exact=False,
            after="guidance_rescale, then unpacked, and the first frame (the image) is left out",
        ),
        Case(
            "LTXConditionPipeline",
            "ltx",
            condition,
            video_calls(**CALL, image=picture(32)),
            denoisers=("transformer",),
            after="guidance_rescale, then the sign is flipped",
        ),
    ),
)
