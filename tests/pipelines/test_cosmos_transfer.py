"""Cosmos 2.5 Transfer: a video in chunks, each a run of its own, with a ControlNet that reads the text too."""

import torch

from cfglab.pipelines import guide
from cfglab.step import Step
from tests.pipelines.families.cosmos import TRANSFER
from tests.pipelines.reference_loop import moved
from tests.pipelines.results import ROUNDS

SCALES = (4.0, 1.0, 6.0)
"""In our meaning of the word, one more than the pipeline's own."""


def test_it_is_the_untouched_pipeline_at_one_scale_and_on_a_schedule_in_every_chunk() -> None:
    def schedule(step: Step) -> float:
        return SCALES[step.index]

    pipe = TRANSFER.build()
    untouched, wanted = TRANSFER.call(pipe, 3.0), moved(pipe, TRANSFER, [scale - TRANSFER.offset for scale in SCALES])
    with guide(pipe, 3.0 + TRANSFER.offset) as trace:
        guided = TRANSFER.call(pipe, 5.0)
    assert (guided - untouched).norm() <= ROUNDS * untouched.norm()
    assert (trace.rows_run, trace.rows_saved) == (12, 0)
    with guide(pipe, schedule) as trace:
        scheduled = TRANSFER.call(pipe, 5.0)
    assert (scheduled - wanted).norm() <= 1e-5 * wanted.norm()
    assert (wanted - untouched).norm() > 1e-3 * untouched.norm()
    assert [record.step.index for record in trace.steps] == [0, 1, 2] * TRANSFER.runs
    assert torch.equal(TRANSFER.call(pipe, 3.0), untouched)
