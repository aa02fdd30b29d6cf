"""Qwen-Image's edits: the image's tokens follow the latents and are cut off again before the combine."""

from typing import Any

import diffusers
import transformers

from tests.pipelines.families import Case, Family, parts, qwenimage
from tests.pipelines.families.parts import PROMPT, calls, mask, pil, seeded


class Sight:
    """Qwen's processor of text with images: one token for every four patches of an image."""

    def __init__(self) -> None:
        self.pictures = transformers.Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=28 * 28 * 4)
        self.tokens = parts.tokenizer(1024)

    def __call__(self, text: list[str], images: Any, padding: bool, return_tensors: str) -> Any:
        one = images[0] if isinstance(images, list) else images
        seen = self.pictures(images=[one] * len(text), return_tensors=return_tensors)
        count = int(seen["image_grid_thw"][0].prod()) // 4
        long = [line.replace("<|image_pad|>", "<|image_pad|>" * count) for line in text]
        read = self.tokens(long, padding=padding, return_tensors=return_tensors)
        return transformers.BatchFeature({**read, **seen})


def build(cls: str, template: str) -> Any:
    @seeded
    def made() -> Any:
        transformer = diffusers.QwenImageTransformer2DModel(**qwenimage.NETWORK)
        pipe = getattr(diffusers, cls)(
            transformer=parts.loud(transformer, "txt_in", "add_v", "to_out", gain=6.0),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=parts.Coarse(4),
            text_encoder=qwenimage.text_encoder(),
            tokenizer=parts.tokenizer(1024),
            processor=Sight(),
        )
        pipe.prompt_template_encode, pipe.prompt_template_encode_start_idx = template, 0
        return pipe

    return made


@seeded
def layered() -> Any:
    transformer = diffusers.QwenImageTransformer2DModel(
        **qwenimage.NETWORK, use_additional_t_cond=True, use_layer3d_rope=True
    )
    pipe = diffusers.QwenImageLayeredPipeline(
        transformer=parts.loud(transformer, "txt_in", "add_v", "to_out", gain=6.0),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=parts.Coarse(4),
        text_encoder=qwenimage.text_encoder(),
        tokenizer=parts.tokenizer(1024),
        processor=Sight(),
    )
    pipe.prompt_template_encode, pipe.prompt_template_encode_start_idx = "{}", 0
    return pipe


TEXT: dict[str, Any] = {
    "prompt": PROMPT,
    "image": pil(32),
    "output_type": "latent",
    "height": 512,
    "width": 512,
    "scale_argument": "true_cfg_scale",
    "negative": "grey",
}
SEEN = "<|vision_start|><|image_pad|><|vision_end|>{}"
FACTS: dict[str, Any] = {
    "scale_argument": "true_cfg_scale",
    "denoisers": ("transformer",),
    "style": "two calls",
    "order": "cond uncond",
    "before": "keeps the first tokens of u and c (the rest are the image to be edited)",
    "after": qwenimage.LENGTH,
    "exact": False,
}

FAMILY = Family(
    "Qwen-Image-Edit",
    (
        Case(
            "QwenImageLayeredPipeline",
            "qwenimage_edit",
            layered,
            parts.shown(
                prompt=PROMPT,
                image=pil(32),
                layers=1,
                output_type="pt",
                scale_argument="true_cfg_scale",
                negative="grey",
            ),
            single=True,
            **FACTS | {"after": "cfg_normalize"},
        ),
        *(
            Case(cls, "qwenimage_edit", build(cls, template), calls(**fixed), **FACTS)
            for cls, template, fixed in (
                ("QwenImageEditPipeline", SEEN, TEXT),
                ("QwenImageEditPlusPipeline", "{}", TEXT),
                ("QwenImageEditInpaintPipeline", SEEN, {**TEXT, "mask_image": mask(32), "strength": 0.7}),
            )
        ),
    ),
)
