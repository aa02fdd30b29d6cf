"""HunyuanVideo, from text and from an image: two calls a step, or the scale as an input (`guidance_scale`)."""

from typing import Any

import diffusers
import transformers

from tests.pipelines.families import Case, Family, parts, parts_video
from tests.pipelines.families.parts import PROMPT, pil, seeded
from tests.pipelines.families.parts_video import video_calls

TEXT: dict[str, Any] = {
    "prompt": PROMPT,
    "prompt_template": {"template": "{}", "crop_start": 0},
    "output_type": "latent",
    "height": 16,
    "width": 16,
    "num_frames": 5,
    "max_sequence_length": 16,
}
IMAGE_TEMPLATE: dict[str, Any] = {
    "template": "{}",
    "crop_start": 0,
    "image_emb_len": 16,
    "image_emb_start": 12,
    "image_emb_end": 28,
}
TRUE: dict[str, Any] = {"scale_argument": "true_cfg_scale", "negative": "grey"}
FACTS: dict[str, Any] = {"denoisers": ("transformer",)}


SIZES: dict[str, Any] = {
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 10,
    "num_layers": 1,
    "num_single_layers": 1,
    "num_refiner_layers": 1,
    "text_embed_dim": parts.WIDTH,
    "pooled_projection_dim": parts.WIDTH,
    "rope_axes_dim": (2, 4, 4),
}
"""Of both transformers."""


def components(*, embedded: bool, channels: int = 4, kind: str | None = None, **more: Any) -> dict[str, Any]:
    transformer = diffusers.HunyuanVideoTransformer3DModel(
        **SIZES, in_channels=channels, patch_size=1, guidance_embeds=embedded, image_condition_type=kind
    )
    return {
        "transformer": parts.loud(transformer, "context_embedder", "text_embedder", "guidance_embedder", gain=2.0),
        "vae": parts_video.hunyuan_vae(),
        "scheduler": parts.flow_scheduler(shift=7.0),
        "text_encoder": parts.language("Llama", layers=3),
        "tokenizer": parts.tokenizer(start=True),
        "text_encoder_2": parts.clip_text(),
        "tokenizer_2": parts.clip_tokenizer(),
        **more,
    }


@seeded
def two() -> Any:
    return diffusers.HunyuanVideoPipeline(**components(embedded=False))


def llava() -> Any:
    """Llama that reads 16 tokens of an image, as HunyuanVideo from an image has it."""
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=8, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2, image_size=32, patch_size=8
        ),
        text_config=parts.language("Llama", layers=3).config,
        image_token_index=parts.IMAGE_TOKEN,
        pad_token_id=0,
    )
    return transformers.LlavaForConditionalGeneration(config)


@seeded
def image() -> Any:
    return diffusers.HunyuanVideoImageToVideoPipeline(
        **components(
            embedded=False,
            channels=9,
            kind="latent_concat",
            text_encoder=llava(),
            image_processor=parts.clip_pictures(),
        )
    )


@seeded
def skyreels() -> Any:
    return diffusers.HunyuanSkyreelsImageToVideoPipeline(**components(embedded=False, channels=8))


@seeded
def scalar() -> Any:
    return diffusers.HunyuanVideoPipeline(**components(embedded=True))


@seeded
def framepack() -> Any:
    transformer = diffusers.HunyuanVideoFramepackTransformer3DModel(
        **SIZES,
        in_channels=4,
        guidance_embeds=False,
        has_image_proj=True,
        image_proj_dim=parts.WIDTH,
        has_clean_x_embedder=True,
    )
    return diffusers.HunyuanVideoFramepackPipeline(
        **components(embedded=False)
        | {
            "transformer": parts.loud(transformer, "context_embedder", "text_embedder", gain=2.0),
            "image_encoder": transformers.SiglipVisionModel(
                transformers.SiglipVisionConfig(
                    hidden_size=parts.WIDTH,
                    intermediate_size=37,
                    num_attention_heads=4,
                    num_hidden_layers=1,
                    image_size=32,
                    patch_size=8,
                )
            ),
            "feature_extractor": transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32}),
        }
    )


FAMILY = Family(
    "HunyuanVideo",
    (
        Case(
            "HunyuanVideoFramepackPipeline",
            "hunyuan_video",
            framepack,
            video_calls(**TEXT | {"height": 32, "width": 32}, **TRUE, image=pil(32), latent_window_size=2),
            scale_argument="true_cfg_scale",
            single=True,
            style="two calls",
            order="cond uncond",
            **FACTS,
        ),
        Case(
            "HunyuanVideoPipeline",
            "hunyuan_video",
            two,
            video_calls(**TEXT, **TRUE),
            scale_argument="true_cfg_scale",
            style="two calls",
            order="cond uncond",
            **FACTS,
        ),
        Case(
            "HunyuanVideoImageToVideoPipeline",
            "hunyuan_video",
            image,
            video_calls(**TEXT | {"prompt_template": IMAGE_TEMPLATE, "max_sequence_length": 32}, **TRUE, image=pil(16)),
            scale_argument="true_cfg_scale",
            single=True,  # the image is not repeated
            style="two calls",
            order="cond uncond",
            **FACTS,
        ),
        Case(
            "HunyuanSkyreelsImageToVideoPipeline",
            "hunyuan_video",
            skyreels,
            video_calls(**TEXT, **TRUE, image=pil(16)),
            scale_argument="true_cfg_scale",
            single=True,  # the image is not repeated
            style="two calls",
            order="cond uncond",
            **FACTS,
        ),
        Case(
            "HunyuanVideoPipeline",
            "hunyuan_video",
            scalar,
            video_calls(**TEXT),
            off=None,
            style="embedded",
            order="other",
            combine="none",
            variant="embedded",
            **FACTS,
        ),
    ),
)
