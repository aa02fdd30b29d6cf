"""Stable Diffusion 3: text, image, inpainting, ControlNets, perturbed attention."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, awake, calls, mask, picture, seeded

NETWORK: dict[str, Any] = {
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 16,
    "num_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 4,
    "caption_projection_dim": 32,
    "joint_attention_dim": 2 * parts.WIDTH,
    "pooled_projection_dim": 2 * parts.WIDTH,
    "out_channels": 16,
}


def components() -> dict[str, Any]:
    transformer = diffusers.SD3Transformer2DModel(**NETWORK)
    return {
        "transformer": parts.loud(transformer, "context_embedder", "text_embedder", "add_", gain=2.0),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": parts.flux_vae(16),
        "text_encoder": parts.clip_text(projection=parts.WIDTH),
        "tokenizer": parts.clip_tokenizer(),
        "text_encoder_2": parts.clip_text(projection=parts.WIDTH),
        "tokenizer_2": parts.clip_tokenizer(),
        "text_encoder_3": parts.t5(2 * parts.WIDTH),
        "tokenizer_3": parts.tokenizer(end=True),
    }


def build(cls: str, *, channels: int | None = None, **more: Any) -> Any:
    """A builder of this class; with `channels` there is a ControlNet, which reads so many channels beyond its own."""

    @seeded
    def made() -> Any:
        aside = {}
        if channels is not None:
            settings = {key: value for key, value in NETWORK.items() if key != "sample_size"}
            network = diffusers.SD3ControlNetModel(
                **settings, sample_size=8, extra_conditioning_channels=channels, force_zeros_for_pooled_projection=False
            )
            aside = {"controlnet": awake(network, 0.2)}
        return getattr(diffusers, cls)(**components(), **aside, **more)

    return made


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "max_sequence_length": 24}
IMAGE: dict[str, Any] = {**TEXT, "image": picture(), "strength": 0.7}
LAYERS: dict[str, Any] = {"pag_applied_layers": ["blocks.0"]}
PERTURBED: dict[str, Any] = {"style": "three parts", "combine": "three parts"}

FAMILY = Family(
    "Stable Diffusion 3",
    tuple(
        Case(cls, "sd3", build(cls, **made), calls(**fixed), denoisers=("transformer",), **facts)
        for cls, made, fixed, facts in (
            ("StableDiffusion3Pipeline", {}, TEXT, {}),
            ("StableDiffusion3Img2ImgPipeline", {}, IMAGE, {}),
            ("StableDiffusion3InpaintPipeline", {}, {**IMAGE, "mask_image": mask()}, {}),
            (
                "StableDiffusion3ControlNetPipeline",
                {"channels": 0},
                {**TEXT, "control_image": picture()},
                {"helpers": ("controlnet",)},
            ),
            (
                "StableDiffusion3ControlNetInpaintingPipeline",
                {"channels": 1},
                {**TEXT, "control_image": picture(), "control_mask": mask()},
                {"helpers": ("controlnet",)},
            ),
            ("StableDiffusion3PAGPipeline", LAYERS, {**TEXT, "pag_scale": 2.0}, PERTURBED),
            ("StableDiffusion3PAGImg2ImgPipeline", LAYERS, {**IMAGE, "pag_scale": 2.0}, PERTURBED),
        )
    ),
)
