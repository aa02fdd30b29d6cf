"""Perturbed attention on Stable Diffusion and SDXL: [uncond; cond; perturbed], or [cond; perturbed] without CFG."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, controlnet, sd, sdxl
from tests.pipelines.families.parts import PROMPT, calls, mask, picture, seeded

RESCALED = {
    "StableDiffusionPAGPipeline",
    "StableDiffusionPAGInpaintPipeline",
    "StableDiffusionXLPAGPipeline",
    "StableDiffusionXLPAGImg2ImgPipeline",
    "StableDiffusionXLPAGInpaintPipeline",
}
LAYERS: dict[str, Any] = {"pag_applied_layers": ["mid", "up", "down"]}


def build(cls: str, kind: str) -> Any:
    """A builder of this class: kind "sd" or "sdxl", with "+" for a ControlNet."""

    @seeded
    def made() -> Any:
        parts: dict[str, Any] = sdxl.components() if kind.startswith("sdxl") else sd.components() | sd.UNCHECKED
        if kind.endswith("+"):
            parts["controlnet"] = controlnet.network(**sdxl.ADDED if kind == "sdxl+" else {})
        return getattr(diffusers, cls)(**parts, **LAYERS)

    return made


TEXT: dict[str, Any] = {"prompt": PROMPT, "output_type": "latent", "pag_scale": 2.0}
IMAGE: dict[str, Any] = {**TEXT, "image": picture(), "strength": 0.7}
INPAINT: dict[str, Any] = {**IMAGE, "mask_image": mask(), "height": 16, "width": 16}
CONTROL: dict[str, Any] = {"control_image": picture()}


def case(cls: str, kind: str, **fixed: Any) -> Case:
    return Case(
        cls,
        "pag",
        build(cls, kind),
        calls(**fixed),
        helpers=("controlnet",) if kind.endswith("+") else (),
        prediction="epsilon",
        style="three parts",
        combine="three parts",
        after="guidance_rescale" if cls in RESCALED else "",
    )


FAMILY = Family(
    "PAG",
    (
        case("StableDiffusionPAGPipeline", "sd", **TEXT),
        case("StableDiffusionPAGImg2ImgPipeline", "sd", **IMAGE),
        case("StableDiffusionPAGInpaintPipeline", "sd", **INPAINT),
        case("StableDiffusionControlNetPAGPipeline", "sd+", **TEXT, image=picture()),
        case("StableDiffusionControlNetPAGInpaintPipeline", "sd+", **INPAINT, **CONTROL),
        case("StableDiffusionXLPAGPipeline", "sdxl", **TEXT),
        case("StableDiffusionXLPAGImg2ImgPipeline", "sdxl", **IMAGE),
        case("StableDiffusionXLPAGInpaintPipeline", "sdxl", **INPAINT),
        case("StableDiffusionXLControlNetPAGPipeline", "sdxl+", **TEXT, image=picture()),
        case("StableDiffusionXLControlNetPAGImg2ImgPipeline", "sdxl+", **IMAGE, **CONTROL),
    ),
)
