"""Networks that run before the denoiser on the same rows (ControlNets): theirs are saved too."""

from typing import Any

import torch

from cfglab.denoising.duplicate_rows import EqualRows, take
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.embedded_scale import Embedded
from cfglab.pipelines.loading.tree import walk


def call_controlnet(run: Any, call: DenoiserCall, name: str) -> Any:
    """The output for all rows, of which only those that the coming step needs were run, and equal ones once.

    What stands in the place of a row that nobody needs is another row; the denoiser does not run that one either. A
    call with other rows than the batch's (once for both calls of a step, or `guess_mode`) is left as it is.
    """
    if run.way == "embedded":
        return _embedded(run, call)
    parts = run.profile.parts
    if (
        run.way != "batched"
        or len(parts) != 2
        or call.count % 2
        or _alone(call)
        or (run.rows is None and _odd(run, call))
    ):
        return call.run()
    images = call.count // 2
    if run.rows is not None and run.rows.images != images:
        return call.run()
    rows = run.start(call, images)
    step = run.upcoming(call)
    if run.together(call, step, helper=True):
        return call.run()
    starts = {part: position * images for position, part in enumerate(parts)}
    wanted = {row for needed in rows.wanted(step, finished=run.after is not None).values() for row in needed}
    needed = sorted(starts["cond"] + row - images if row >= images else starts["uncond"] + row for row in wanted)
    labels = run.alike.setdefault(name, EqualRows()).labels(call.sample, call.tensors())
    firsts: dict[int, int] = {}
    for row in needed:
        firsts.setdefault(labels[row], row)
    chosen = sorted(firsts.values())
    if not chosen or len(chosen) == call.count:
        return call.run()
    place = {labels[row]: position for position, row in enumerate(chosen)}
    everyone = [place.get(label, 0) for label in labels]
    return walk(call.run(chosen), len(chosen), lambda output: take(output, everyone))


def _alone(call: DenoiserCall) -> bool:
    return bool(call.kwargs.get("guess_mode"))


def _odd(run: Any, call: DenoiserCall) -> bool:
    """At the first call of a run: the two halves of this batch are not one batch twice."""
    sample = call.sample
    return run.profile.alike and not torch.equal(*sample.chunk(2))


def _embedded(run: Any, call: DenoiserCall) -> Any:
    style: Embedded = run.style
    if call.kwargs.get(run.profile.embedded) is None:
        return call.run()
    style.start(call.count)
    return call.plain(*call.args, **style.changed(call, style.scales(run.upcoming(call))))
