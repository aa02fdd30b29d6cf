"""Cosmos 2.5 Transfer: a video in chunks, each a run of its own, with a ControlNet that reads the text too."""

from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers.models.controlnets import controlnet_cosmos
from torch import Tensor, nn

from cfglab.pipelines import guide
from cfglab.step import Step
from tests.pipelines.families import cosmos, parts
from tests.pipelines.families.parts import pil, seeded
from tests.pipelines.families.parts_video import video_calls
from tests.pipelines.reference_loop import moved
from tests.pipelines.results import ROUNDS


def resized(mask: Tensor, size: list[int], **_: Any) -> Tensor:
    """In place of torchvision's function, which the ControlNet makes its mask smaller with."""
    return nn.functional.interpolate(mask, size)


@seeded
def build() -> Any:
    controlnet_cosmos.transforms = SimpleNamespace(
        functional=SimpleNamespace(resize=resized), InterpolationMode=SimpleNamespace(NEAREST="nearest")
    )
    width = 2 * parts.WIDTH
    controlnet = diffusers.CosmosControlNetModel(
        n_controlnet_blocks=1,
        in_channels=18,
        latent_channels=18,
        model_channels=32,
        num_attention_heads=2,
        attention_head_dim=16,
        mlp_ratio=1,
        text_embed_dim=width,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
    )
    others = cosmos.predict().components
    others["transformer"] = cosmos.transformer(17, width, controlnet_block_every_n=1)
    return diffusers.Cosmos2_5_TransferPipeline(**others, controlnet=parts.awake(controlnet, 0.3))


CASE = cosmos.case(
    "Cosmos2_5_TransferPipeline",
    build,
    video_calls(
        **{**cosmos.CALL, "max_sequence_length": 320}, controls=[pil(32)] * 9, num_frames=9, num_frames_per_chunk=5
    ),
    helpers=("controlnet",),
    runs=2,
)
SCALES = (4.0, 1.0, 6.0)
"""In our meaning of the word, one more than the pipeline's own."""


def test_it_is_the_untouched_pipeline_at_one_scale_and_on_a_schedule_in_every_chunk() -> None:
    def schedule(step: Step) -> float:
        return SCALES[step.index]

    pipe = build()
    untouched, wanted = CASE.call(pipe, 3.0), moved(pipe, CASE, [scale - CASE.offset for scale in SCALES])
    with guide(pipe, 3.0 + CASE.offset) as trace:
        guided = CASE.call(pipe, 5.0)
    assert (guided - untouched).norm() <= ROUNDS * untouched.norm()
    assert (trace.rows_run, trace.rows_saved) == (12, 0)
    with guide(pipe, schedule) as trace:
        scheduled = CASE.call(pipe, 5.0)
    assert (scheduled - wanted).norm() <= 1e-5 * wanted.norm()
    assert (wanted - untouched).norm() > 1e-3 * untouched.norm()
    assert [record.step.index for record in trace.steps] == [0, 1, 2] * CASE.runs
    assert torch.equal(CASE.call(pipe, 3.0), untouched)
