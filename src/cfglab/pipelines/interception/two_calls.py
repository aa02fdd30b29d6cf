"""Two denoiser calls per step: the second one completes the pair and writes the guided prediction into both."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import EqualRows, take
from cfglab.denoising.row_skipping import GuidedRows
from cfglab.denoising.trace import StepRecord
from cfglab.errors import InputError
from cfglab.guidance import Perturbation
from cfglab.guidance.context import runs
from cfglab.guidance.perturbations.base import own_containers
from cfglab.pipelines.interception.channels import last_image
from cfglab.pipelines.interception.deferred import deferred, settle
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.outputs import predicted, with_prediction
from cfglab.pipelines.interception.preconditions import off_error
from cfglab.pipelines.interception.row_sharing import all_rows
from cfglab.pipelines.interception.run import GuidedRun
from cfglab.pipelines.profiles.profile import Part
from cfglab.step import Step


@dataclass(eq=False)
class _CallResult:
    """One of the two calls of a step, and the predictions of its rows; None if no row was run."""

    call: DenoiserCall
    labels: list[int]
    tick: Any
    rows_run: int = 0
    prediction: Tensor | None = None
    passes: dict[Perturbation, Tensor] = field(default_factory=dict)
    """The predictions of perturbed passes that were run before the second call."""


@dataclass(eq=False)
class _PendingStep:
    """A step that waits for its second call; the pipeline holds `output` as the output of the first."""

    part: Part
    result: _CallResult
    step: Step
    output: Tensor


class TwoCalls:
    """The layout with two denoiser calls per step.

    The first call of a step returns a deferred prediction. The second call, which completes the pair, sets it to the
    guided prediction p, and returns p as well. The pipeline then has u = c = p, or what it makes of p in both, and any
    formula of the two gives p. A call without needed rows is not run. The shape of the deferred prediction is that of
    an earlier one; at the first step it is that of a perturbed pass of the same rows, which then runs at this call, and
    without such a pass the rows are run for it.

    Args:
        run: The run of the pipeline.
    """

    def __init__(self, run: GuidedRun) -> None:
        self._run = run
        self._equal: dict[Part, EqualRows] = {"cond": EqualRows(run.claims), "uncond": EqualRows(run.claims)}
        self._all_rows = False
        """Whether the step under way runs all rows."""
        self._perturbed_rows = 0
        self._pending: _PendingStep | None = None
        self._last_predictions: dict[Part, Tensor] = {}

    @property
    def waiting(self) -> bool:
        """Whether a step waits for its second call."""
        return self._pending is not None

    def call(self, call: DenoiserCall, name: str) -> Any:
        """The output of one of the two calls; see `CallStyle.call`."""
        rows = self._run.start(call, call.count)
        part = self._part_of(name)
        tick = getattr(self._run.pipe.scheduler, "step_index", None)
        pending, self._pending = self._pending, None
        if pending is None:
            step = self._run.step(call)
            result = self._run_needed(rows, call, part, tick, step, first=True)
            self._pending = _PendingStep(part, result, step, deferred(self._provisional(part, result)))
            return with_prediction(self._run.template, self._pending.output)
        if pending.part == part or pending.result.tick != tick or _same_conditioning(pending.result.call, call):
            raise self._unpaired_error(pending.step)
        self._equal[part].begin(pending.result.labels, call.sample)
        result = self._run_needed(rows, call, part, tick, pending.step)
        uncond, cond = (result, pending.result) if part == "uncond" else (pending.result, result)
        return with_prediction(self._run.template, self._complete(rows, pending, uncond, cond))

    def finish(self) -> None:
        """Check that no step waits for its second call. Raises InputError."""
        if self._pending is not None and not getattr(self._run.pipe, "interrupt", False):
            raise self._unpaired_error(self._pending.step)

    def _part_of(self, name: str) -> Part:
        """The part of a call: by its component, by the pipeline's `cache_context`, or by the order in the profile."""
        profile, context_name = self._run.profile, self._run.context or ""
        if name in dict(profile.networks):
            return dict(profile.networks)[name]
        if "uncond" in context_name or "neg" in context_name:
            return "uncond"
        if "cond" in context_name or "pos" in context_name:
            return "cond"
        return profile.parts[0 if self._pending is None else 1]

    def _run_needed(
        self, rows: GuidedRows, call: DenoiserCall, part: Part, tick: Any, step: Step, *, first: bool = False
    ) -> _CallResult:
        """Run the needed rows of a call, equal ones once; of the first call of a step its shape has to be known."""
        run, count = self._run, call.count
        stored_call = DenoiserCall(call.module, call.plain, call.args, own_containers(call.kwargs), call.profile)
        self._all_rows, self._perturbed_rows = run.runs_all_rows(call, step), 0
        labels = (
            list(range(count))
            if self._all_rows
            else self._equal[part].labels(call.sample, call.tensors(), rows.still_equal)
        )
        needed = rows.needed_rows(step, reads_cond=run.post_combine is not None)
        offset = count if part == "cond" else 0
        to_run = _first_rows(needed[None], labels, offset)
        result = _CallResult(stored_call, labels, tick)
        shapeless = first and not to_run and self._like(part) is None
        passes = {variation: found for variation in needed if (found := _first_rows(needed[variation], labels, offset))}
        if self._all_rows or (shapeless and not passes):
            to_run = list(range(count))
        elif shapeless:
            variation, pass_rows = next(iter(passes.items()))
            assert variation is not None
            result.passes[variation] = early = predicted(run, stored_call, pass_rows, variation)
            self._last_predictions[part] = take(early, [0] * count)
        result.rows_run = len(to_run)
        if to_run == list(range(count)):
            result.prediction = predicted(run, call)
        elif to_run:
            position_of = {labels[row]: position for position, row in enumerate(to_run)}
            result.prediction = take(predicted(run, call, to_run), [position_of.get(label, 0) for label in labels])
        if result.prediction is not None:
            self._last_predictions[part] = result.prediction
        return result

    def _like(self, part: Part) -> Tensor | None:
        """An earlier prediction of the shape of this call's; another network's may have other tokens."""
        others = [] if self._run.profile.networks else list(self._last_predictions.values())
        return self._last_predictions.get(part, others[0] if others else None)

    def _provisional(self, part: Part, result: _CallResult) -> Tensor:
        """A tensor of the shape of the prediction that may be written."""
        if result.prediction is None:
            like = self._like(part)
            assert like is not None
            return torch.zeros_like(like)
        return -result.prediction if self._run.profile.negated else result.prediction.clone()

    def _complete(self, rows: GuidedRows, pending: _PendingStep, uncond: _CallResult, cond: _CallResult) -> Tensor:
        """Combine the pair, record the step and set the output of the first call to the guided prediction."""
        run = self._run
        guided, record = self._combine(rows, uncond, cond, pending.step)
        rows_run = uncond.rows_run + cond.rows_run
        if self._all_rows:
            counts = all_rows(record, 2, rows_run / uncond.call.count, self._perturbed_rows)
            run.record(record, guided, **counts)
        else:
            rows_run += record.rows_varied
            run.record(record, guided, rows_run=rows_run, rows_saved=record.rows_run + record.rows_saved - rows_run)
        guided = -guided if run.profile.negated else guided
        settle(pending.output, guided)
        if run.profile.post_combine == "token norm":  # divides by the length of the combination: c = 0, u = 1 gives 0
            return torch.where(guided.any(dim=-1, keepdim=True), guided, 1.0)
        return guided

    def _combine(
        self, rows: GuidedRows, uncond: _CallResult, cond: _CallResult, step: Step
    ) -> tuple[Tensor, StepRecord]:
        """The guided prediction of the pair, (n, ...), and its record."""
        run, count = self._run, uncond.call.count
        sample = last_image(uncond.call, uncond.call.sample)
        labels = [*uncond.labels, *(count + label for label in cond.labels)]
        post_combine = run.post_combine

        def like_uncond(prediction: Tensor) -> Tensor:
            longer = prediction.ndim == 3 and len(run.profile.networks) > 0
            return prediction[:, -sample.shape[1] :] if longer else prediction

        def denoise(batch_rows: list[int] | None, perturbation: Perturbation | None) -> Tensor:
            if perturbation is not None:
                source = uncond if perturbation.source == "uncond" else cond
                images_of_rows = [row % count for row in batch_rows or range(count)]
                if self._all_rows:
                    self._perturbed_rows += runs(perturbation)
                    return take(like_uncond(predicted(run, source.call, None, perturbation)), images_of_rows)
                if perturbation in source.passes:
                    return like_uncond(source.passes[perturbation])
                return like_uncond(predicted(run, source.call, images_of_rows, perturbation))
            u, c = uncond.prediction, cond.prediction
            placeholder = c if u is None else u
            assert placeholder is not None
            pair = torch.cat([like_uncond(placeholder if x is None else x) for x in (u, c)])
            return pair if batch_rows is None else take(pair, batch_rows)

        finish = None if post_combine is None else lambda guided, c, _: post_combine(guided, c)
        pair = torch.cat([sample, sample])
        return rows.predict(step, pair, (), denoise, finish, separate=self._all_rows, labels=labels)

    def _unpaired_error(self, step: Step) -> InputError:
        pipe = self._run.pipe
        if step.index == 0:
            return off_error(pipe, self._run.profile, self._run.arguments)
        return InputError(
            f"no unconditional call at step {step.index + 1} of {step.count} of {type(pipe).__name__}: the pipeline "
            "left guidance out there by itself; leave that to the guidance, with .inside(...) of its schedule."
        )


def _first_rows(needed: list[int], labels: list[int], offset: int) -> list[int]:
    """The rows of one call among rows of the step, equal ones once.

    Args:
        needed: Rows of the step, [uncond; cond].
        labels: A label per row of the call.
        offset: The number of its first row.
    """
    first_row: dict[int, int] = {}
    for row in sorted(set(needed)):
        if offset <= row < offset + len(labels):
            first_row.setdefault(labels[row - offset], row - offset)
    return list(first_row.values())


def _same_conditioning(call_a: DenoiserCall, call_b: DenoiserCall) -> bool:
    """Whether both calls have the same conditioning object; then neither is the unconditional call."""
    texts = [name for name, value in call_a.named.items() if "encoder" in name and isinstance(value, Tensor)]
    return bool(texts) and all(call_a.named[name] is call_b.named.get(name) for name in texts)
