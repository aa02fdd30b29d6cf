"""The pipeline classes of diffusers that are loaded from a model's folder: text in, an image out. Loads no torch."""

from collections.abc import Mapping
from types import MappingProxyType

STABLE_DIFFUSION = "StableDiffusionPipeline"

SIDE: Mapping[str, int | None] = MappingProxyType(
    {
        STABLE_DIFFUSION: None,
        **dict.fromkeys(
            (
                "StableDiffusionXLPipeline",
                "StableDiffusion3Pipeline",
                "PixArtAlphaPipeline",
                "PixArtSigmaPipeline",
                "HunyuanDiTPipeline",
                "AuraFlowPipeline",
                "SanaPipeline",
                "CogView3PlusPipeline",
                "CogView4Pipeline",
                "LuminaPipeline",
                "Lumina2Pipeline",
            )
        ),
        **dict.fromkeys(
            (
                "FluxPipeline",
                "Flux2Pipeline",
                "Flux2KleinPipeline",
                "ChromaPipeline",
                "OvisImagePipeline",
                "QwenImagePipeline",
                "ZImagePipeline",
            ),
            1024,
        ),
    }
)
"""Class -> pixels along a side of its images by default; None: as the configuration of its denoiser says."""
