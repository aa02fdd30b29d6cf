"""The layout with one denoiser call per step and all parts of the batch in it."""

from typing import Any

import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import take
from cfglab.denoising.row_skipping import Finish
from cfglab.errors import InputError
from cfglab.guidance import Perturbation
from cfglab.guidance.context import runs
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.outputs import predicted, with_prediction
from cfglab.pipelines.interception.row_sharing import all_rows
from cfglab.pipelines.interception.run import GuidedRun
from cfglab.pipelines.profiles.profile import Part
from cfglab.step import Step

ROWS = 2


class Batched:
    """The layout with one denoiser call per step: [uncond; cond] in any order, in tensors or lists.

    A third part may stand behind, between or before. Every part of the pipeline's batch gets the guided prediction p.
    The pipeline then computes p from equal parts, with `u + g (c - u)`, `c + g (c - u)`, `lerp`, or any of them with a
    third term. With a third part all rows run, because the attention processors of perturbed attention expect them. All
    rows also run if the network may mix them.

    Args:
        run: The run of the pipeline.
    """

    def __init__(self, run: GuidedRun) -> None:
        self._run = run
        self._parts: tuple[Part, ...] = run.profile.parts
        given = [run.arguments.get(name, True) for name in run.profile.third_from]
        if any(value is None or (isinstance(value, int | float) and value == 0) for value in given):
            self._parts = two_parts(self._parts)

    @property
    def waiting(self) -> bool:
        """False: a step is one call."""
        return False

    def call(self, call: DenoiserCall, _name: str) -> Any:
        """The output of the call of one step; see `CallStyle.call`."""
        run, parts = self._run, len(self._parts)
        if run.rows is None:
            self._check(call)
        images = call.count // parts
        rows = run.start(call, images)
        step = run.step(call)
        order = self._order(images)
        in_order = order == list(range(call.count))
        may_mix = run.runs_all_rows(call, step)
        runs_all = may_mix or parts > ROWS
        all_predictions = predicted(run, call) if runs_all else None
        sample = call.sample if in_order else take(call.sample, order)
        for compared in run.equal_rows.values():  # by a ControlNet, before it was launched
            rows.begin([compared.latest[row] for row in order], sample)
        conditioning = () if runs_all or rows.all_differ else call.tensors(None if in_order else order)
        perturbed_rows = 0

        def denoise(needed: list[int] | None, perturbation: Perturbation | None) -> Tensor:
            nonlocal perturbed_rows
            if all_predictions is not None and (part := getattr(perturbation, "part", None)) in self._parts:
                start = self._parts.index(part) * images
                return take(all_predictions, [start + row for row in needed or range(images)])
            if perturbation is None and all_predictions is not None:
                return take(all_predictions, order if needed is None else [order[row] for row in needed])
            if perturbation is None and needed is None and parts == ROWS:
                prediction = predicted(run, call)
                return prediction if in_order else take(prediction, order)
            batch_rows = [order[row] for row in needed or range(2 * images)]
            if perturbation is not None and may_mix:
                perturbed_rows += runs(perturbation)
                return take(predicted(run, call, None, perturbation), batch_rows)
            return predicted(run, call, batch_rows, perturbation)

        finish = self._finish(step, all_predictions, images)
        guided, record = rows.predict(step, sample, conditioning, denoise, finish, separate=runs_all)
        perturbed = parts * perturbed_rows if may_mix else None
        run.record(record, guided, **(all_rows(record, parts, parts, perturbed) if runs_all else {}))
        return with_prediction(run.template, self._injected(-guided if run.profile.negated else guided))

    def finish(self) -> None:
        """Check that the denoiser was called. Raises InputError."""
        if self._run.rows is None and not getattr(self._run.pipe, "interrupt", False):
            raise InputError(
                f"{type(self._run.pipe).__name__} did not call its {self._run.profile.denoisers[0]}: nothing was "
                "guided; it is not made as the profile says, pass profile=Profile(denoisers=...)."
            )

    def _check(self, call: DenoiserCall) -> None:
        """At the first call: the batch has the parts of the profile."""
        parts, kind = len(self._parts), type(self._run.pipe).__name__
        sample = call.sample
        if call.count % parts:
            raise InputError(
                f"{call.count} rows in the first denoiser call of {kind}: the profile says {parts} parts, "
                f"{'; '.join(self._parts)}; call it with guidance on, or pass profile=Profile(parts=...)."
            )
        chunks = sample.chunk(parts)
        alike = self._run.profile.alike or self._parts != self._run.profile.parts  # without an image there is no other
        if alike and not all(torch.equal(chunks[0], chunk) for chunk in chunks[1:]):
            raise InputError(
                f"the {parts} parts of the batch of {kind} start from different samples, so it is not laid out as the "
                "profile says: is its guidance on? Otherwise this diffusers is not the one cfglab knows; pass "
                "profile=Profile(...)."
            )

    def _order(self, images: int) -> list[int]:
        """Where in the pipeline's batch the rows [uncond; cond] are."""
        starts = (self._parts.index("uncond") * images, self._parts.index("cond") * images)
        return [start + image for start in starts for image in range(images)]

    def _finish(self, step: Step, all_predictions: Tensor | None, images: int) -> Finish | None:
        post_combine, third = self._run.post_combine, self._third_term(step, all_predictions, images)
        if third is None:
            return None if post_combine is None else lambda guided, cond, _: post_combine(guided, cond)

        specs = self._run.guidances(images)

        def finish(guided: Tensor, cond: Tensor, images: list[int]) -> Tensor:
            if not _reads_third_part(specs[images[0]], step):  # the images of one guidance
                guided = guided + take(third, images)[tuple(slice(size) for size in guided.shape)]
            return guided if post_combine is None else post_combine(guided, cond)

        return finish

    def _third_term(self, step: Step, all_predictions: Tensor | None, images: int) -> Tensor | None:
        """What the third part adds to `u + w (c - u)`, for every image."""
        if all_predictions is None or len(self._parts) == ROWS:
            return None
        part = dict(zip(self._parts, all_predictions.split(images), strict=True))
        pipe = self._run.pipe
        if "perturbed" in part:
            time = torch.tensor(
                step.timestep, dtype=pipe.scheduler.timesteps.dtype
            )  # a number on the CPU: not uploaded
            return pipe._get_pag_scale(time) * (part["cond"] - part["perturbed"])
        name = self._run.profile.image_scale
        scale = float(getattr(pipe, f"_{name}", self._run.arguments.get(name, 1.0)))
        return (scale - 1) * (part["uncond"] - part["neither"])

    def _injected(self, guided: Tensor) -> Tensor:
        if self._run.profile.injected == "quarter":
            return torch.cat([torch.zeros_like(guided), guided / 4])
        return torch.cat([guided] * len(self._parts))


def two_parts(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts of a batch that leaves the third out: without perturbed rows, or without an image.

    Args:
        parts: The parts of the whole batch, in order.

    Returns:
        "uncond" and "cond" in the order of that batch; without an image the rows with neither are the unconditional.
    """
    if "neither" not in parts:
        return tuple(part for part in parts if part != "perturbed")
    return tuple("uncond" if part == "neither" else part for part in parts if part != "uncond")


def _reads_third_part(spec: Any, step: Step) -> bool:
    """Whether a guidance reads the third part of the batch, and so decides its scale itself."""
    active = [transform for transform in getattr(spec, "transforms", ()) if transform.strength > 0]
    return any(getattr(transform.variation(step), "part", None) is not None for transform in active)
