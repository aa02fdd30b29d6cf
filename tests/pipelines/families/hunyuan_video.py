"""HunyuanVideo: two calls a step (`true_cfg_scale`), or the scale as an input of the network (`guidance_scale`)."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, parts_video
from tests.pipelines.families.parts import PROMPT, seeded
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
TRUE: dict[str, Any] = {"scale_argument": "true_cfg_scale", "negative": "grey"}
FACTS: dict[str, Any] = {"denoisers": ("transformer",)}


def components(*, embedded: bool, **more: Any) -> dict[str, Any]:
    transformer = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=1,
        guidance_embeds=embedded,
        text_embed_dim=parts.WIDTH,
        pooled_projection_dim=parts.WIDTH,
        rope_axes_dim=(2, 4, 4),
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


@seeded
def scalar() -> Any:
    return diffusers.HunyuanVideoPipeline(**components(embedded=True))


FAMILY = Family(
    "HunyuanVideo",
    (
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
