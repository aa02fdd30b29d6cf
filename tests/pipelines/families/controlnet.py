"""ControlNets and T2I-Adapters on Stable Diffusion and SDXL: the network beside the UNet gets the same rows."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, sd, sdxl
from tests.pipelines.families.parts import PROMPT, awake, calls, mask, picture, seeded

RESCALED = {"StableDiffusionXLControlNetInpaintPipeline", "StableDiffusionXLControlNetUnionInpaintPipeline"}
NETWORK: dict[str, Any] = {
    "block_out_channels": parts.BLOCKS["block_out_channels"],
    "layers_per_block": 1,
    "down_block_types": parts.BLOCKS["down_block_types"],
    "attention_head_dim": 2,
    "norm_num_groups": 8,
    "conditioning_embedding_out_channels": (8, 16),
}


def network(**more: Any) -> Any:
    """A ControlNet whose output layers are not zero, as they are before training; its text path is loud too."""
    made = diffusers.ControlNetModel(**{**NETWORK, "cross_attention_dim": parts.WIDTH, **more})
    return parts.loud(awake(made, 0.3), "attn2")


def union() -> Any:
    """The ControlNet of many kinds of image."""
    made = diffusers.ControlNetUnionModel(
        **{
            **NETWORK,
            **sdxl.ADDED,
            "num_control_type": 6,
            "num_trans_channel": 16,
            "num_trans_head": 4,
            "num_proj_channel": 16,
        },
        conditioning_channels=3,
    )
    return parts.loud(awake(made, 0.3), "attn2")


def build(cls: str, kind: str) -> Any:
    """A builder of this class: kind "sd", "sdxl" or "union"."""

    @seeded
    def made() -> Any:
        if kind == "sd":
            return getattr(diffusers, cls)(**sd.components(), controlnet=network(), **sd.UNCHECKED)
        aside = union() if kind == "union" else network(**sdxl.ADDED)
        return getattr(diffusers, cls)(**sdxl.components(), controlnet=aside)

    return made


@seeded
def adapter() -> Any:
    aside = diffusers.T2IAdapter(channels=[16, 32], num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter")
    return diffusers.StableDiffusionAdapterPipeline(**sd.components(), adapter=aside, **sd.UNCHECKED)


@seeded
def adapter_xl() -> Any:
    aside = diffusers.T2IAdapter(channels=[16, 32], num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter")
    return diffusers.StableDiffusionXLAdapterPipeline(**sdxl.components(), adapter=aside)


def crossed(cls: str) -> Any:
    """A builder of this class of ControlNet-XS, whose network is one with the UNet."""

    @seeded
    def made() -> Any:
        two = {"layers_per_block": 2}  # it takes them two by two
        like = sdxl.components(**two) if "XL" in cls else sd.components(**two) | sd.UNCHECKED
        aside = diffusers.ControlNetXSAdapter.from_unet(
            like["unet"], size_ratio=0.5, conditioning_embedding_out_channels=(8, 16)
        )
        return getattr(diffusers, cls)(**like, controlnet=awake(aside, 0.3))

    return made


LATENT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent"}
TEXT: dict[str, Any] = {**LATENT, "image": picture(), "height": 16, "width": 16}
ONLY: dict[str, Any] = {**LATENT, "control_image": picture(), "height": 16, "width": 16}
IMAGE: dict[str, Any] = {
    **LATENT,
    "image": picture(),
    "control_image": picture(),
    "strength": 0.7,
    "height": 16,
    "width": 16,
}
INPAINT: dict[str, Any] = {**IMAGE, "mask_image": mask()}
UNION: dict[str, Any] = {"control_mode": 0}


def case(cls: str, kind: str, **fixed: Any) -> Case:
    return Case(
        cls,
        "controlnet",
        build(cls, kind),
        calls(**fixed),
        prediction="epsilon",
        helpers=("controlnet",),
        after="guidance_rescale" if cls in RESCALED else "",
        shares=kind != "union",  # whose attention goes over the rows
    )


FAMILY = Family(
    "ControlNet",
    (
        case("StableDiffusionControlNetPipeline", "sd", **TEXT),
        case("StableDiffusionControlNetImg2ImgPipeline", "sd", **IMAGE),
        case("StableDiffusionControlNetInpaintPipeline", "sd", **INPAINT),
        case("StableDiffusionXLControlNetPipeline", "sdxl", **TEXT),
        case("StableDiffusionXLControlNetImg2ImgPipeline", "sdxl", **IMAGE),
        case("StableDiffusionXLControlNetInpaintPipeline", "sdxl", **INPAINT),
        case(
            "StableDiffusionXLControlNetUnionPipeline",
            "union",
            **LATENT,
            **UNION,
            control_image=picture(),
            height=16,
            width=16,
        ),
        case("StableDiffusionXLControlNetUnionImg2ImgPipeline", "union", **IMAGE, **UNION),
        case("StableDiffusionXLControlNetUnionInpaintPipeline", "union", **INPAINT, **UNION),
        *(
            Case(cls, "controlnet_xs", crossed(cls), calls(**TEXT), prediction="epsilon")
            for cls in ("StableDiffusionControlNetXSPipeline", "StableDiffusionXLControlNetXSPipeline")
        ),
        Case("StableDiffusionAdapterPipeline", "t2i_adapter", adapter, calls(**TEXT), prediction="epsilon"),
        Case(
            "StableDiffusionXLAdapterPipeline",
            "t2i_adapter",
            adapter_xl,
            calls(**TEXT),
            prediction="epsilon",
            after="guidance_rescale",
        ),
    ),
)
