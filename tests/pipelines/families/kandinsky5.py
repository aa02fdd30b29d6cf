"""Kandinsky 5: videos and images, from text and from an image; two calls a step, channels last."""

from typing import Any

import diffusers
import torch

from tests.pipelines.families import Case, Family, parts, qwenimage
from tests.pipelines.families.parts import PROMPT, calls, pil, seeded
from tests.pipelines.families.parts_video import KANDINSKY, hunyuan_vae, video_calls


class Reader:
    """Qwen's processor, given a text without an image."""

    def __init__(self) -> None:
        self.tokens = parts.tokenizer(start=True)

    def __call__(self, text: list[str], **more: Any) -> Any:
        del more["images"], more["videos"]
        return self.tokens(text, **more)


def build(cls: str, *, video: bool, beside: bool = False) -> Any:
    """A builder of this class; with `beside` the network reads an image beside the latents."""

    @seeded
    def made() -> Any:
        transformer = diffusers.Kandinsky5Transformer3DModel(
            **KANDINSKY,
            visual_cond=beside,
        )
        pipe = getattr(diffusers, cls)(
            transformer=parts.loud(parts.awake(transformer), "text"),
            vae=hunyuan_vae() if video else parts.flux_vae(levels=4),
            text_encoder=qwenimage.text_encoder(),
            tokenizer=Reader(),
            text_encoder_2=parts.clip_text(),
            tokenizer_2=parts.clip_tokenizer(),
            scheduler=parts.flow_scheduler(shift=5.0),
        )
        pipe.prompt_template, pipe.prompt_template_encode_start_idx = "{}", 0
        pipe.resolutions = [(16, 16)]
        pipe.normalize_first_frame = lambda latents: latents  # it takes its mean over all videos of a call
        return pipe

    return made


SQUARE: dict[str, Any] = {"prompt": PROMPT, "height": 16, "width": 16, "output_type": "latent"}
VIDEO: dict[str, Any] = {**SQUARE, "num_frames": 5}
READ: dict[str, Any] = {
    f"{sign}prompt_{name}": value
    for sign, seed in (("", 1), ("negative_", 2))
    for name, value in (
        ("embeds_qwen", parts.words(seed)),
        ("embeds_clip", parts.words(seed + 2)[:, 0]),
        ("cu_seqlens", torch.tensor([0, 8])),
    )
}
"""The encodings of a prompt and of a negative one, for the edit, whose text encoder sees the image too."""

FAMILY = Family(
    "Kandinsky 5",
    tuple(
        Case(
            cls,
            "kandinsky5",
            build(cls, **made),
            call,
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            **facts,
        )
        for cls, made, call, facts in (
            ("Kandinsky5T2VPipeline", {"video": True}, video_calls(**VIDEO), {}),
            (
                "Kandinsky5I2VPipeline",
                {"video": True, "beside": True},
                video_calls(**VIDEO, image=pil(16)),
                {"after": "the first frame (the image) is left out", "exact": False},
            ),
            ("Kandinsky5T2IPipeline", {"video": False}, calls(**SQUARE), {}),
            (
                "Kandinsky5I2IPipeline",
                {"video": False, "beside": True},
                calls(**SQUARE | {"prompt": parts.OMIT}, **READ, image=pil(16)),
                {"single": True},  # the image is not repeated
            ),
        )
    ),
)
