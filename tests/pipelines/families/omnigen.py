"""OmniGen: text and images as one sequence; with an image to edit the batch has a third part, the image alone."""

from typing import Any

import diffusers
from diffusers.pipelines.omnigen import pipeline_omnigen
from diffusers.pipelines.omnigen.processor_omnigen import OmniGenCollator, OmniGenMultiModalProcessor
from torch import Tensor

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import PROMPT, calls, picture, seeded

EDIT = f"{PROMPT} <img><|image_1|></img>"


class Processor(OmniGenMultiModalProcessor):  # type: ignore[misc]
    """diffusers' processor without its image transforms, which come from torchvision."""

    def __init__(self, text_tokenizer: Any, max_image_size: int = 1024) -> None:
        self.text_tokenizer, self.max_image_size, self.collator = text_tokenizer, max_image_size, OmniGenCollator(0, 16)

    def process_image(self, image: Tensor) -> Tensor:
        return 2 * image - 1


@seeded
def build() -> Any:
    transformer = diffusers.OmniGenTransformer2DModel(
        patch_size=2,
        in_channels=4,
        hidden_size=16,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        num_layers=2,
        pad_token_id=0,
        vocab_size=parts.VOCABULARY,
        rope_scaling={"long_factor": [1.0] * 4, "short_factor": [1.0] * 4},
        pos_embed_max_size=64,
        time_step_dim=16,
    )
    pipeline_omnigen.OmniGenMultiModalProcessor = Processor
    return diffusers.OmniGenPipeline(
        transformer=parts.loud(parts.awake(transformer, 0.3), "embed_tokens"),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True, num_train_timesteps=1),
        vae=parts.vae(levels=4),
        tokenizer=parts.tokenizer(512),
    )


SIZE: dict[str, Any] = {"output_type": "latent", "height": 64, "width": 64}

plain = calls(prompt=PROMPT, **SIZE)
"""Without an image: two parts."""

FAMILY = Family(
    "OmniGen",
    (
        Case(
            "OmniGenPipeline",
            "omnigen",
            build,
            calls(prompt=[EDIT], input_images=[[picture(32)[0]]], img_guidance_scale=1.5, **SIZE),
            off=None,
            denoisers=("transformer",),
            style="three parts",
            order="other",
            combine="three parts",
        ),
    ),
)
