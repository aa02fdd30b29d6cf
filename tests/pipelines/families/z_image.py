"""Z-Image: python lists, conditional images first; `c + g (c - u)`, an optional renorm, and the sign flipped."""

from typing import Any

import diffusers
import torch

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, mask, picture, seeded

NETWORK: dict[str, Any] = {
    "all_patch_size": (2,),
    "all_f_patch_size": (1,),
    "dim": 32,
    "n_refiner_layers": 1,
}


def build(cls: str, channels: int = 0) -> Any:
    """A builder of this class; with `channels` a ControlNet reads so many."""

    @seeded
    def made() -> Any:
        aside: dict[str, Any] = {}
        if channels:
            controlnet = diffusers.ZImageControlNetModel(
                **NETWORK,
                control_layers_places=[0],
                control_refiner_layers_places=[0],
                control_in_dim=channels,
                add_control_noise_refiner="control_noise_refiner",
                n_heads=2,
                n_kv_heads=2,
            )
            aside["controlnet"] = parts.awake(controlnet, 0.2)
        transformer = diffusers.ZImageTransformer2DModel(
            **NETWORK,
            in_channels=4,
            n_layers=2,
            n_heads=2,
            n_kv_heads=2,
            norm_eps=1e-5,
            qk_norm=True,
            cap_feat_dim=parts.WIDTH,
            rope_theta=256.0,
            t_scale=1000.0,
            axes_dims=[8, 4, 4],
            axes_lens=[256, 32, 32],
        )
        with torch.no_grad():  # born uninitialised
            transformer.x_pad_token.fill_(1.0)
            transformer.cap_pad_token.fill_(1.0)
        return getattr(diffusers, cls)(
            transformer=parts.loud(transformer, "cap_embedder", "to_v", "w2", gain=3.0),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=parts.flux_vae(),
            text_encoder=parts.language("Qwen3"),
            tokenizer=parts.tokenizer(chat=parts.PLAIN),
            **aside,
        )

    return made


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "max_sequence_length": 48}
IMAGE: dict[str, Any] = {**TEXT, "image": picture(), "strength": 0.7}
FACTS: dict[str, Any] = {
    "off": 0.0,
    "offset": 1.0,
    "denoisers": ("transformer",),
    "style": "lists",
    "order": "cond uncond",
    "combine": "c + g (c - u)",
    "after": "cfg_normalization (a ceiling on the length, image by image), then the sign is flipped",
}

FAMILY = Family(
    "Z-Image",
    (
        Case("ZImagePipeline", "z_image", build("ZImagePipeline"), calls(**TEXT), **FACTS),
        Case("ZImageImg2ImgPipeline", "z_image", build("ZImageImg2ImgPipeline"), calls(**IMAGE), **FACTS),
        Case(
            "ZImageInpaintPipeline",
            "z_image",
            build("ZImageInpaintPipeline"),
            calls(**IMAGE, mask_image=mask()),
            **FACTS,
        ),
        Case(
            "ZImageControlNetPipeline",
            "z_image",
            build("ZImageControlNetPipeline", 4),
            calls(**TEXT, control_image=picture()),
            helpers=("controlnet",),
            **FACTS,
        ),
        Case(
            "ZImageControlNetInpaintPipeline",
            "z_image",
            build("ZImageControlNetInpaintPipeline", 9),
            calls(**TEXT, image=picture(), mask_image=mask(), control_image=picture()),
            helpers=("controlnet",),
            single=True,  # the mask is not repeated
            **FACTS,
        ),
    ),
)
