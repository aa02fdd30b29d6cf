"""Kandinsky 6: a video, and with it a sound that is refused; two calls a step, channels last."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts
from tests.pipelines.families.parts import seeded, told
from tests.pipelines.families.parts_video import KANDINSKY, hunyuan_vae, video_calls


@seeded
def build() -> Any:
    transformer = diffusers.Kandinsky6Transformer3DModel(
        **KANDINSKY,
        in_audio_dim=4,
        out_audio_dim=4,
    )
    return diffusers.Kandinsky6TI2VAPipeline(
        transformer=parts.loud(parts.awake(transformer), "text"),
        vae=hunyuan_vae(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        scheduler=parts.flow_scheduler(shift=5.0),
    )


POOLED = {"pooled_prompt_embeds": parts.words(3)[:, 0], "negative_pooled_prompt_embeds": parts.words(4)[:, 0]}

FAMILY = Family(
    "Kandinsky 6",
    (
        Case(
            "Kandinsky6TI2VAPipeline",
            "kandinsky6",
            build,
            video_calls(
                **told(), **POOLED, height=16, width=16, num_frames=5, sample_audio=False, output_type="latent"
            ),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
        ),
    ),
)
