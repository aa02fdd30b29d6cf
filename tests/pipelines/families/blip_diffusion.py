"""BLIP-Diffusion: the text of Stable Diffusion with tokens of a subject, which a network reads from an image."""

from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from tests.pipelines.families import Case, Family, controlnet, parts, sd
from tests.pipelines.families.parts import OMIT, calls, pil, seeded


class Subject(nn.Module):
    """In place of the network that reads a subject: eight tokens that follow the brightness of its image."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(1, 8, parts.WIDTH))
        self.config = SimpleNamespace(num_query_tokens=8)
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def forward(self, image_input: Tensor, **_: Any) -> Tensor:
        return self.tokens * image_input.mean()


def build(cls: str, **beside: Any) -> Any:
    """A builder of this class; `beside` builds what it has beyond Stable Diffusion's components."""

    @seeded
    def made() -> Any:
        from diffusers.pipelines.deprecated.blip_diffusion.blip_image_processing import BlipImageProcessor
        from diffusers.pipelines.deprecated.blip_diffusion.modeling_ctx_clip import ContextCLIPTextModel

        return getattr(diffusers, cls)(
            **sd.components() | {"text_encoder": ContextCLIPTextModel(parts.clip_text().config)},
            qformer=Subject(),
            image_processor=BlipImageProcessor(),
            **{name: value() for name, value in beside.items()},
        )

    return made


CALL: dict[str, Any] = {
    "prompt": ["runs"],
    "reference_image": pil(32),
    "source_subject_category": ["fox"],
    "target_subject_category": ["fox"],
    "prompt_reps": 1,
    "height": 16,
    "width": 16,
    "output_type": "pt",
    "negative": OMIT,
}

FAMILY = Family(
    "BLIP-Diffusion",
    (
        Case(
            "BlipDiffusionPipeline",
            "blip_diffusion",
            build("BlipDiffusionPipeline"),
            calls(**CALL),
            prediction="epsilon",
        ),
        Case(
            "BlipDiffusionControlNetPipeline",
            "blip_diffusion",
            build("BlipDiffusionControlNetPipeline", controlnet=controlnet.network),
            calls(**CALL, condtioning_image=pil(16)),
            prediction="epsilon",
            helpers=("controlnet",),
        ),
    ),
)
