"""SANA-WM: a video from an image along the path of a camera; the image is a frame without noise."""

from typing import Any

import diffusers
import numpy as np

from tests.pipelines.families import Case, Family, ltx2, parts
from tests.pipelines.families.parts import PROMPT, calls, pil, seeded

FRAMES = 9


@seeded
def build() -> Any:
    transformer = diffusers.SanaWMTransformer3DModel(
        in_channels=4,
        num_layers=2,
        hidden_size=48,
        num_attention_heads=2,
        softmax_every_n=2,
        linear_head_dim=24,
        chunk_plucker_channels=12,
        chunk_plucker_post_attn_blocks=2,
        caption_channels=parts.WIDTH,
        mlp_ratio=1.0,
        image_size=32,
    )
    return diffusers.SanaWMPipeline(
        tokenizer=parts.tokenizer(1024, start=True),
        text_encoder=parts.language("Gemma2"),
        vae=ltx2.components()["vae"],
        transformer=parts.loud(parts.awake(transformer), "cross_attn", gain=3.0),
        scheduler=parts.flow_scheduler(shift=3.0),
    )


def path() -> Any:
    """A camera that moves forward, (frames, 4, 4)."""
    poses = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
    poses[:, 2, 3] = np.linspace(0, 1, FRAMES)
    return poses


FAMILY = Family(
    "SANA-WM",
    (
        Case(
            "SanaWMPipeline",
            "sana_wm",
            build,
            calls(
                image=pil(32),
                prompt=PROMPT,
                negative="grey",
                c2w=path(),
                intrinsics=[32.0, 32.0, 16.0, 16.0],
                height=32,
                width=32,
                num_frames=FRAMES,
                max_sequence_length=16,
                chi_prompt=["a"],
                output_type="latent",
            ),
            denoisers=("transformer",),
            after="the sign is flipped; the first frame (the image) is left out",
            exact=False,
        ),
    ),
)
