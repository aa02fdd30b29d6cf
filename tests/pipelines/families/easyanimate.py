"""EasyAnimate: videos from text and around a mask."""

from typing import Any

import diffusers
import torch

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import calls, picture, seeded, told


def vae() -> Any:
    """Its autoencoder: 8 times smaller images, 4 times fewer frames."""
    return diffusers.AutoencoderKLMagvit(
        down_block_types=("SpatialDownBlock3D", *("SpatialTemporalDownBlock3D",) * 3),
        up_block_types=("SpatialUpBlock3D", *("SpatialTemporalUpBlock3D",) * 3),
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        spatial_group_norm=False,
    )


def build(cls: str, channels: int = 4) -> Any:
    """A builder of this class; the network reads `channels`."""

    @seeded
    def made() -> Any:
        transformer = diffusers.EasyAnimateTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=channels,
            out_channels=4,
            time_embed_dim=16,
            text_embed_dim=parts.WIDTH,
            num_layers=1,
            mmdit_layers=1,
            sample_width=16,
            sample_height=16,
            patch_size=2,
            resize_inpaint_mask_directly=False,  # which fails otherwise, whatever the weights
        )
        return getattr(diffusers, cls)(
            vae=vae(),
            text_encoder=None,
            tokenizer=None,
            transformer=parts.loud(parts.awake(transformer), "text_proj"),
            scheduler=parts.flow_scheduler(),
        )

    return made


VIDEO = picture(16)[:, :, None].repeat(1, 1, 5, 1, 1)
HALF = torch.ones(1, 1, 5, 16, 16)
HALF[..., :8] = 0
CALL: dict[str, Any] = {
    **told(mask="_attention_mask"),
    "height": 16,
    "width": 16,
    "num_frames": 5,
    "output_type": "latent",
}
FAMILY = Family(
    "EasyAnimate",
    tuple(
        Case(
            cls,
            "easyanimate",
            build(cls, channels),
            calls(**CALL, **more),
            denoisers=("transformer",),
            after="guidance_rescale",
            single=bool(more),  # the video is not repeated
        )
        for cls, channels, more in (
            ("EasyAnimatePipeline", 4, {}),
            ("EasyAnimateInpaintPipeline", 4 + 4 + 4, {"video": VIDEO, "mask_video": HALF}),
        )
    ),
)
