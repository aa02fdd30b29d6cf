"""Two denoiser calls a step: the second one, which completes the pair, writes the guided prediction into both."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cfglab.denoising.duplicate_rows import EqualRows, take
from cfglab.denoising.trace import StepRecord
from cfglab.errors import InputError
from cfglab.guidance import Perturbation
from cfglab.guidance.context import runs
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.outputs import predicted, with_prediction
from cfglab.pipelines.interception.preconditions import off_error
from cfglab.pipelines.interception.row_sharing import all_rows
from cfglab.pipelines.profiles.profile import Part
from cfglab.step import Step


@dataclass(eq=False)
class _Half:
    """One of the two calls: what it was given, and the predictions of its rows where any were run."""

    call: DenoiserCall
    labels: list[int]
    tick: Any
    rows_run: int = 0
    prediction: Tensor | None = None


@dataclass(eq=False)
class _Open:
    """A step that waits for its second call."""

    which: Part
    half: _Half
    step: Step
    given: Tensor


class TwoCalls:
    """The first call of a step runs its rows and returns them in a tensor of our own; at the second one the guided
    prediction is written into that tensor and returned as well. The pipeline then has u = c = p, and any formula of
    the two gives p. A call whose rows nobody needs is not run.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._equal: dict[Part, EqualRows] = {"cond": EqualRows(), "uncond": EqualRows()}
        self._mixed = False
        """Whether the step that is under way runs all rows."""
        self._further = 0
        self._open: _Open | None = None
        self._last: Tensor | None = None

    def call(self, call: DenoiserCall, name: str) -> Any:
        run = self._run
        run.start(call, call.count)
        which = self._which(name)
        tick = getattr(run.guided.pipe.scheduler, "step_index", None)
        first, self._open = self._open, None
        if first is None:
            step = run.step(call)
            half = self._ran(call, which, tick, step)
            self._open = _Open(which, half, step, self._ours(half))
            return with_prediction(run.template, self._open.given)
        if first.which == which or first.half.tick != tick or _same_words(first.half.call, call):
            raise self._alone(first.step)
        half = self._ran(call, which, tick, first.step)
        pair = (half, first.half) if which == "uncond" else (first.half, half)
        guided, record = self._guided(*pair, first.step)
        ran = sum(one.rows_run for one in pair)
        if self._mixed:
            run.note(record, guided, **all_rows(record, 2, ran / call.count, self._further))
        else:
            ran += record.rows_varied
            run.note(record, guided, rows_run=ran, rows_saved=record.rows_run + record.rows_saved - ran)
        guided = -guided if run.profile.negated else guided
        first.given[:, -guided.shape[1] :].copy_(guided)  # Ideogram's text stands in front
        if run.profile.after == "token norm":  # which divides by the length of the combination: c = 0, u = 1 gives 0
            guided = torch.where(guided.any(dim=-1, keepdim=True), guided, 1.0)
        return with_prediction(run.template, guided)

    @property
    def waiting(self) -> bool:
        """Whether a step waits for its second call."""
        return self._open is not None

    def finish(self) -> None:
        if self._open is not None and not getattr(self._run.guided.pipe, "interrupt", False):
            raise self._alone(self._open.step)

    def _which(self, name: str) -> Part:
        """Whose call this is: by component, by what the pipeline says of it, or by the order of the profile."""
        profile, said = self._run.profile, self._run.context or ""
        if name in dict(profile.networks):
            return dict(profile.networks)[name]
        if "uncond" in said or "neg" in said:
            return "uncond"
        if "cond" in said or "pos" in said:
            return "cond"
        return profile.parts[0 if self._open is None else 1]

    def _ran(self, call: DenoiserCall, which: Part, tick: Any, step: Step) -> _Half:
        """The half of this call, with the rows run that somebody needs, equal ones once."""
        run, count = self._run, call.count
        kept = DenoiserCall(call.module, call.plain, call.args, _copied(call.kwargs), call.profile)
        self._mixed, self._further = run.together(call, step), 0
        labels = list(range(count)) if self._mixed else self._equal[which].labels(call.sample, call.tensors())
        half = _Half(kept, labels, tick)
        offset = count if which == "cond" else 0
        wanted = run.rows.wanted(step, finished=run.after is not None)[None]
        firsts: dict[int, int] = {}
        for row in sorted(set(wanted)):
            if offset <= row < offset + count:
                firsts.setdefault(half.labels[row - offset], row - offset)
        rows = list(firsts.values())
        if self._mixed or (not rows and self._last is None):  # an output has to be seen before one can be left out
            rows = list(range(count))
        half.rows_run = len(rows)
        if rows == list(range(count)):
            half.prediction = predicted(run, call)
        elif rows:
            place = {half.labels[row]: position for position, row in enumerate(rows)}
            half.prediction = take(predicted(run, call, rows), [place.get(label, 0) for label in half.labels])
        if half.prediction is not None:
            self._last = half.prediction
        return half

    def _ours(self, half: _Half) -> Tensor:
        """A tensor that the pipeline may hold and that we may write."""
        if half.prediction is None:
            assert self._last is not None
            return torch.zeros_like(self._last)
        return -half.prediction if self._run.profile.negated else half.prediction.clone()

    def _guided(self, uncond: _Half, cond: _Half, step: Step) -> tuple[Tensor, StepRecord]:
        run, count = self._run, uncond.call.count
        sample = uncond.call.sample
        labels = torch.tensor([*uncond.labels, *(count + label for label in cond.labels)])
        after = run.after

        def like_uncond(prediction: Tensor) -> Tensor:
            longer = prediction.ndim == 3 and len(run.profile.networks) > 0
            return prediction[:, -sample.shape[1] :] if longer else prediction

        def denoise(rows: list[int] | None, variation: Perturbation | None) -> Tensor:
            if variation is not None:
                half = uncond if variation.source == "uncond" else cond
                own = [row % count for row in rows or range(count)]
                if self._mixed:
                    self._further += runs(variation)
                    return take(like_uncond(predicted(run, half.call, None, variation)), own)
                return like_uncond(predicted(run, half.call, own, variation))
            known = next(one for one in (uncond.prediction, cond.prediction) if one is not None)
            halves = [known if half.prediction is None else half.prediction for half in (uncond, cond)]
            both = torch.cat([like_uncond(half) for half in halves])
            return both if rows is None else take(both, rows)

        finish = None if after is None else lambda guided, c, _: after(guided, c)
        return run.rows.predict(step, torch.cat([sample, sample]), [labels], denoise, finish, apart=self._mixed)

    def _alone(self, step: Step) -> InputError:
        pipe = self._run.guided.pipe
        if step.index == 0:
            return off_error(pipe, self._run.profile, self._run.arguments)
        return InputError(
            f"no unconditional call at step {step.index + 1} of {step.count} of {type(pipe).__name__}: the pipeline "
            "left guidance out there by itself; leave that to the guidance, with .inside(...) of its schedule."
        )


def _same_words(first: DenoiserCall, second: DenoiserCall) -> bool:
    """Whether both calls have the same conditioning, as one object: then neither is the unconditional one."""
    texts = [name for name, value in first.named.items() if "encoder" in name and isinstance(value, Tensor)]
    return bool(texts) and all(first.named[name] is second.named.get(name) for name in texts)


def _copied(value: Any) -> Any:
    """The same nest of dicts and lists, so that a pipeline which changes its own does not change ours."""
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if type(value) is list else value
