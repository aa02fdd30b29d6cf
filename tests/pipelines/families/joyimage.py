"""JoyImage: edited images, whose tokens keep the length of c; with several images a batch instead of two calls."""

from typing import Any

import diffusers
import torch
from torch import Tensor

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, pil, seeded

LENGTH = "rescaled to the length of c, token by token"


def encoded(prompt: Any, **_: Any) -> tuple[Tensor, Tensor]:
    """In place of the text encoder: the prompt's length decides."""
    lines = [prompt] if isinstance(prompt, str) else prompt
    embeds = torch.cat([parts.words(len(line)) for line in lines])
    return embeds, torch.ones(embeds.shape[:2])


def build(cls: str, kind: str) -> Any:
    @seeded
    def made() -> Any:
        transformer = getattr(diffusers, kind)(
            patch_size=[1, 2, 2],
            in_channels=16,
            hidden_size=32,
            num_attention_heads=2,
            text_dim=parts.WIDTH,
            num_layers=1,
            rope_dim_list=[4, 6, 6],
            theta=256,
        )
        pipe = getattr(diffusers, cls)(
            transformer=parts.awake(parts.loud(transformer, "text_embedder", "txt", "to_out", gain=8.0), 0.3),
            scheduler=parts.flow_scheduler(),
            vae=parts.Coarse(16),
            text_encoder=None,
            tokenizer=None,
            processor=None,
        )
        pipe.encode_prompt_multiple_images = encoded
        return pipe

    return made


TEXT: dict[str, Any] = {"prompt": PROMPT, "negative": "grey", "output_type": "latent"}


def several(pipe: Any, scale: float, **arguments: Any) -> Tensor:
    """One run with two images to be edited."""
    return parts.run(lambda **named: pipe(images=[pil(32)] * 2, **named), scale, **{**TEXT, **arguments})


FACTS: dict[str, Any] = {"denoisers": ("transformer",), "after": LENGTH, "exact": False}

FAMILY = Family(
    "JoyImage",
    (
        Case(
            "JoyImageEditPipeline",
            "joyimage",
            build("JoyImageEditPipeline", "JoyImageEditTransformer3DModel"),
            calls(**TEXT, image=pil(32)),
            style="two calls",
            order="cond uncond",
            **FACTS,
        ),
        Case(
            "JoyImageEditPlusPipeline",
            "joyimage",
            build("JoyImageEditPlusPipeline", "JoyImageEditPlusTransformer3DModel"),
            several,
            **FACTS,
        ),
    ),
)
