"""ChronoEdit: an image is edited as the last frame of a short video; a network of Wan's kind."""

from typing import Any

import diffusers

from tests.pipelines.families import Case, Family, parts, wan
from tests.pipelines.families.parts import pil, seeded
from tests.pipelines.families.parts_video import video_calls


@seeded
def build() -> Any:
    network = wan.transformer(
        kind=diffusers.ChronoEditTransformer3DModel, in_channels=36, image_dim=parts.WIDTH, out_channels=16
    )
    return diffusers.ChronoEditPipeline(
        **wan.components(
            transformer=network,
            scheduler=parts.flow_scheduler(shift=7.0),
            image_encoder=parts.clip_vision(),
            image_processor=parts.clip_pictures(),
        )
    )


FAMILY = Family(
    "ChronoEdit",
    (
        Case(
            "ChronoEditPipeline",
            "chronoedit",
            build,
            video_calls(**wan.CALL, image=pil(16)),
            denoisers=("transformer",),
            style="two calls",
            order="cond uncond",
            single=True,  # the image is not repeated
        ),
    ),
)
