"""Flux: two calls a step (`true_cfg_scale`), or the scale as an input of the network (`guidance_scale`)."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, awake, calls, mask, picture, pil, seeded

NETWORK: dict[str, Any] = {
    "patch_size": 1,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": parts.WIDTH,
    "pooled_projection_dim": parts.WIDTH,
    "axes_dims_rope": (4, 4, 8),
}


def components(channels: int = 16, *, embedded: bool = False) -> dict[str, Any]:
    """What every pipeline of the family is made of; the network reads `channels`, and the scale if `embedded`."""
    transformer = diffusers.FluxTransformer2DModel(
        **NETWORK, in_channels=channels, out_channels=16, guidance_embeds=embedded
    )
    return {
        "transformer": parts.loud(transformer, "context_embedder", "text_embedder", "guidance_embedder", gain=2.0),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": parts.flux_vae(),
        "text_encoder": parts.clip_text(),
        "tokenizer": parts.clip_tokenizer(),
        "text_encoder_2": parts.t5(),
        "tokenizer_2": parts.tokenizer(end=True),
    }


def build(cls: str, *, channels: int = 16, embedded: bool = False, beside: bool = False, **more: Any) -> Any:
    """A builder of this class, with a ControlNet if `beside`; `more` is what else its constructor takes."""

    @seeded
    def made() -> Any:
        aside = {}
        if beside:
            network = diffusers.FluxControlNetModel(**NETWORK, in_channels=16, guidance_embeds=embedded)
            aside = {"controlnet": awake(network, 0.2)}
        return getattr(diffusers, cls)(**components(channels, embedded=embedded), **aside, **more)

    return made


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "height": 16, "width": 16, "max_sequence_length": 24}
IMAGE: dict[str, Any] = {**TEXT, "image": picture(), "strength": 0.7}
CONTROL: dict[str, Any] = {"control_image": picture()}
GRID: dict[str, Any] = {
    **{"task_prompt": "an edit", "content_prompt": PROMPT, "image": [[pil(), pil()], [pil(), None]]},
    **{"output_type": "latent", "max_sequence_length": 24},
}
"""Two rows of images, of which the last image is to be made."""
TRUE: dict[str, Any] = {"scale_argument": "true_cfg_scale", "negative": "grey"}


def true(cls: str, facts: dict[str, Any], beside: bool = False, **fixed: Any) -> Case:
    return Case(
        cls,
        "flux",
        build(cls, beside=beside),
        calls(**fixed, **TRUE),
        scale_argument="true_cfg_scale",
        denoisers=("transformer",),
        style="two calls",
        order="cond uncond",
        **facts,
    )


def scalar(
    cls: str, *, channels: int = 16, beside: bool = False, more: dict[str, Any] | None = None, **fixed: Any
) -> Case:
    return Case(
        cls,
        "flux",
        build(cls, channels=channels, embedded=True, beside=beside, **(more or {})),
        calls(**fixed),
        off=None,
        denoisers=("transformer",),
        helpers=("controlnet",) if beside else (),
        style="embedded",
        order="other",
        combine="none",
        variant="embedded",
    )


SHORTENED: dict[str, Any] = {"before": "keeps the first tokens of u and c (the rest are the image to be edited)"}

FAMILY = Family(
    "Flux",
    (
        true("FluxPipeline", {}, **TEXT),
        true("FluxImg2ImgPipeline", {}, **IMAGE),
        true("FluxInpaintPipeline", {}, **IMAGE, mask_image=mask()),
        true(
            "FluxControlNetPipeline",
            {"helpers": ("controlnet",), "after": ""},
            True,
            **TEXT,
            **CONTROL,
        ),
        true("FluxKontextPipeline", SHORTENED, **TEXT, image=picture(), max_area=256, _auto_resize=False),
        true("FluxKontextInpaintPipeline", SHORTENED, **IMAGE, mask_image=mask(), max_area=256, _auto_resize=False),
        scalar("FluxPipeline", **TEXT),
        scalar("FluxImg2ImgPipeline", **IMAGE),
        scalar("FluxControlPipeline", channels=32, **TEXT, **CONTROL),
        scalar("FluxFillPipeline", channels=16 + 16 + 16, **TEXT, image=picture(), mask_image=mask()),
        scalar("FluxControlNetImg2ImgPipeline", beside=True, **IMAGE, **CONTROL),
        scalar("VisualClozeGenerationPipeline", channels=16 + 16 + 16, more={"resolution": 16}, **GRID),
        scalar("FluxControlImg2ImgPipeline", channels=32, **IMAGE, **CONTROL),
        scalar("FluxControlInpaintPipeline", channels=32, **IMAGE, **CONTROL, mask_image=mask()),
        scalar("FluxControlNetInpaintPipeline", beside=True, **IMAGE, **CONTROL, mask_image=mask()),
    ),
)
