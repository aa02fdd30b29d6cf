"""ControlNets, which run before the denoiser on the same rows: their unneeded rows are skipped too."""

from typing import Any

import torch

from cfglab.denoising.duplicate_rows import EqualRows, take
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.embedded_scale import Embedded
from cfglab.pipelines.interception.run import GuidedRun
from cfglab.pipelines.loading.tree import walk


def call_controlnet(run: GuidedRun, call: DenoiserCall, name: str) -> Any:
    """The output of a ControlNet for all rows; only the rows that the coming step needs are run, equal ones once.

    An unneeded row holds the output of another row; the denoiser does not run it either. A call with other rows than
    the batch's (once for both calls of a step, or `guess_mode`) runs unchanged.

    Args:
        run: The run of the pipeline.
        call: The call of the ControlNet.
        name: The name of the component.

    Returns:
        An output of the same kind.
    """
    if run.layout == "embedded":
        return _embedded(run, call)
    parts = run.profile.parts
    if (
        run.layout != "batched"
        or len(parts) != 2
        or call.count % 2
        or _is_guess_mode(call)
        or (run.rows is None and _halves_differ(run, call))
    ):
        return call.run()
    images = call.count // 2
    if run.rows is not None and run.rows.images != images:
        return call.run()
    rows = run.start(call, images)
    step = run.upcoming(call)
    if run.runs_all_rows(call, step, helper=True):
        return call.run()
    starts = {part: position * images for position, part in enumerate(parts)}
    needed_rows = {
        row
        for batch_rows in rows.needed_rows(step, reads_cond=run.post_combine is not None).values()
        for row in batch_rows
    }
    batch_rows = sorted(
        starts["cond"] + row - images if row >= images else starts["uncond"] + row for row in needed_rows
    )
    still = None if rows.still_equal is None else rows.still_equal * 2
    labels = run.equal_rows.setdefault(name, EqualRows(run.claims)).labels(call.sample, call.tensors(), still)
    first_row: dict[int, int] = {}
    for row in batch_rows:
        first_row.setdefault(labels[row], row)
    rows_run = sorted(first_row.values())
    if not rows_run or len(rows_run) == call.count:
        return call.run()
    position_of = {labels[row]: position for position, row in enumerate(rows_run)}
    positions = [position_of.get(label, 0) for label in labels]
    return walk(call.run(rows_run), len(rows_run), lambda output: take(output, positions))


def _is_guess_mode(call: DenoiserCall) -> bool:
    return bool(call.kwargs.get("guess_mode"))


def _halves_differ(run: GuidedRun, call: DenoiserCall) -> bool:
    """At the first call of a run: the two halves of this batch are not one batch twice."""
    sample = call.sample
    return run.profile.alike and not torch.equal(*sample.chunk(2))


def _embedded(run: GuidedRun, call: DenoiserCall) -> Any:
    style = run.style
    assert isinstance(style, Embedded)
    if call.kwargs.get(run.profile.embedded) is None:
        return call.run()
    style.start(call.count)
    return call.plain(*call.args, **style.changed(call, style.scales(run.upcoming(call))))
