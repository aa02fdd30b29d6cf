"""One call of a guided pipeline: which of its denoiser calls are guided, and with which step and rows."""

import inspect
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from cfglab.denoising.duplicate_rows import EqualRows
from cfglab.denoising.intercepted import ROUTE
from cfglab.denoising.row_skipping import GuidedRows
from cfglab.denoising.step_reader import StepReader, is_inverted, prediction_of
from cfglab.denoising.trace import StepRecord
from cfglab.errors import InputError, NotFinite
from cfglab.guidance.methods.weak_prediction import check_later_passes
from cfglab.pipelines.interception.batched import Batched
from cfglab.pipelines.interception.callers import Callers, function_of
from cfglab.pipelines.interception.channels import channel_dim, guided_channels, same_shape
from cfglab.pipelines.interception.controlnets import call_controlnet
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.embedded_scale import Embedded
from cfglab.pipelines.interception.guided_pipeline import GuidedPipeline
from cfglab.pipelines.interception.one_prediction import OnePrediction
from cfglab.pipelines.interception.outputs import prediction
from cfglab.pipelines.interception.post_combine import PostCombine, post_combine_of
from cfglab.pipelines.interception.preconditions import Switches, check_on, resolve_layout
from cfglab.pipelines.interception.prompt_encoding import Encodings
from cfglab.pipelines.interception.row_sharing import Sharing, has_cache, is_determined
from cfglab.pipelines.interception.run import CallStyle, GuidedRun
from cfglab.pipelines.interception.run_checks import (
    check_claims,
    check_concurrent,
    check_finished,
    check_networks,
    check_steps,
)
from cfglab.pipelines.interception.two_calls import TwoCalls
from cfglab.pipelines.interception.with_sound import WithSound, taken_over
from cfglab.pipelines.interception.wrapped_modules import core_of
from cfglab.pipelines.profiles.profile import Layout
from cfglab.step import Step

_LOCK = threading.Lock()
_OPEN_RUNS: "list[PipelineRun]" = []
"""The runs that are under way."""

_STYLES: dict[Layout, Callable[[GuidedRun], CallStyle]] = {
    "batched": Batched,
    "with sound": WithSound,
    "two calls": TwoCalls,
    "embedded": Embedded,
    "one prediction": OnePrediction,
}


def run_pipeline(
    guided: GuidedPipeline, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run the pipeline's own `__call__`, guided.

    Args:
        guided: The pipeline and its guidance.
        call: The pipeline's own `__call__`.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        What the pipeline returns.

    Raises:
        InputError: The call cannot be guided, or was not guided.
        NotFinite: A guided prediction is NaN.
    """
    signature = inspect.signature(call)
    bound = signature.bind(*args, **kwargs)
    complete = signature.bind(*args, **kwargs)
    complete.apply_defaults()
    layout = resolve_layout(guided.pipe, guided.profile, complete.arguments, guided.specs)
    check_networks(guided.pipe, guided.profile.denoisers)
    check_steps(guided.pipe, complete.arguments)
    if layout == guided.profile.layout:
        fixed = dict(guided.profile.fixed) | (taken_over(guided.specs) if layout == "with sound" else {})
        bound.arguments.update({name: value for name, value in fixed.items() if name in signature.parameters})
    run = PipelineRun(guided, layout, complete.arguments)
    with run.opened():
        return _enter(run, call, bound)


def _enter(run: "PipelineRun", call: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
    """The bottom of a run's stack; `Callers.is_pipeline_call` looks for the code of this function."""
    result = call(*bound.args, **bound.kwargs)
    if inspect.isgenerator(result) or inspect.isawaitable(result):
        raise InputError(
            f"{type(run.pipe).__name__} returned a {type(result).__name__}: its loop has not run, and would run "
            "outside of guide(); wrap its __call__ in a plain function that runs it to the end."
        )
    run.finish()
    return result


class PipelineRun:
    """One call of a guided pipeline; implements `GuidedRun`.

    Args:
        guided: The pipeline and its guidance.
        layout: How this call is guided.
        arguments: The arguments of the pipeline call by name, defaults included.
    """

    def __init__(self, guided: GuidedPipeline, layout: Layout, arguments: dict[str, Any]) -> None:
        self.guided, self.layout, self.arguments = guided, layout, arguments
        self.profile, self.pipe = guided.profile, guided.pipe
        self.scheduler = self.pipe.scheduler
        if is_inverted(self.scheduler):
            self.profile = self.profile.model_copy(update={"negated": not self.profile.negated})
        self.number = -1
        self.context: str | None = None
        self.post_combine: PostCombine | None = post_combine_of(self.profile, arguments)
        self.rows: GuidedRows | None = None
        self.reader = self._new_reader()
        self.encodings = Encodings(self.pipe, arguments)
        self.equal_rows: dict[str, EqualRows] = {}
        self.claims: list[Tensor] = []
        self.template: Any = None
        self.style = _STYLES[layout](self)
        self._switches = Switches(self.profile)
        self._callers = Callers(self.pipe, arguments, _enter.__code__)
        self._sharing: Sharing | None = None
        self._outside_caller = ""
        """The first function outside of the pipeline that called a denoiser."""
        self._call_count = 0
        self._later_checked = False
        self._sums: list[tuple[Step, Tensor]] = []
        """The sums of predictions on a device, read after the loop."""

    @contextmanager
    def opened(self) -> Iterator[None]:
        """A context in which the calls that the pipeline makes are guided.

        Raises:
            InputError: Another run that is under way would be disturbed.
        """
        with _LOCK:
            for running in _OPEN_RUNS:
                check_concurrent(self, running)
            if self.guided.driven:
                self.guided.driven.begin(self.pipe)
            self.number = self.guided.next_run(run.number for run in _OPEN_RUNS if run.guided is self.guided)
            _OPEN_RUNS.append(self)
        token = ROUTE.set(self.route)
        try:
            yield
        finally:
            ROUTE.reset(token)
            with _LOCK:
                _OPEN_RUNS.remove(self)
                if self.guided.driven:
                    self.guided.driven.end()

    def route(
        self,
        module: nn.Module,
        plain: Callable[..., Any],
        caller: FrameType | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """The output of a call of an intercepted network: guided if the pipeline's own code makes the call.

        Args:
            module: The network.
            plain: The call as it is without interception.
            caller: The frame that called the network.
            args: Positional arguments.
            kwargs: Keyword arguments.

        Returns:
            The output.

        Raises:
            InputError: As in `guided_call`.
        """
        names = (*self.profile.denoisers, *self.profile.helpers)
        name = next((name for name in names if getattr(self.pipe, name, None) is module), None)
        if name is None:
            return plain(*args, **kwargs)
        if not self._callers.is_pipeline_call(caller):
            self._outside_caller = self._outside_caller or function_of(caller)
            return plain(*args, **kwargs)
        return self.guided_call(DenoiserCall(module, plain, args, kwargs, self.profile), name)

    def guided_call(self, call: DenoiserCall, name: str) -> Any:
        """The output of a component's call in place of its own.

        Args:
            call: The call.
            name: The name of the component: a denoiser or a ControlNet.

        Returns:
            An output of the same kind.

        Raises:
            InputError: The call does not fit the profile, or guidance was switched off or changed during the run.
        """
        if call.is_further and self.rows is not None:
            self._count_further(call)
            return call.run()
        self._call_count += name not in self.profile.helpers
        if self.layout in ("batched", "with sound", "two calls"):
            if self.rows is None:
                check_on(self.pipe, self.profile, self.arguments)
            elif self._is_switched_off():
                return self._unguided(call, name)
            self._switches.check(self.pipe)
        if self.guided.driven and not self.style.waiting:  # the second call of a step has the numbers of the first
            step = self.upcoming(call)
            self.guided.driven.set(step)
            if "conditioning_scale" in call.kwargs:
                scale = self.guided.driven.controlnet_scale(call.kwargs["conditioning_scale"], step)
                call = replace(call, kwargs=call.kwargs | {"conditioning_scale": scale})
        if not self._later_checked and name in self.profile.denoisers:
            check_later_passes(self.guided.specs, call.module, self.upcoming(call))
            self._later_checked = True
        if name in self.profile.helpers:
            return call_controlnet(self, call, name)
        return self.style.call(call, name)

    def finish(self) -> None:
        """Check the end of the run.

        Raises:
            InputError: The pipeline was not guided, or not at all of its steps.
            NotFinite: A prediction was NaN.
        """
        if not getattr(self.pipe, "interrupt", False):
            check_finished(self, self._call_count, self._outside_caller)
        self.style.finish()
        waiting = [*(total for _, total in self._sums), *(claim.float() for claim in self.claims)]
        numbers = torch.stack(waiting).tolist() if waiting else []  # one wait after the loop
        for (step, _), total in zip(self._sums, numbers[: len(self._sums)], strict=True):
            if math.isnan(total):
                raise self._not_finite(step)
        check_claims(self, numbers[len(self._sums) :])

    def guidances(self, images: int) -> list[Any]:
        """The guidance of each image; see `GuidedRun.guidances`."""
        return self.guided.guidances(images)

    def step(self, call: DenoiserCall) -> Step:
        """The Step of this call, which is counted; see `GuidedRun.step`."""
        self._follow_scheduler()
        return self.reader.next(lambda: call.timestep, self._length())

    def upcoming(self, call: DenoiserCall) -> Step:
        """The Step of the next denoiser call; see `GuidedRun.upcoming`."""
        self._follow_scheduler()
        return self.reader.peek(lambda: call.timestep, self._length())

    def start(self, call: DenoiserCall, images: int, specs: list[Any] | None = None) -> GuidedRows:
        """The rows of this run, made at its first call.

        Args:
            call: The first denoiser call.
            images: The number of images in it.
            specs: The guidance of each image; None for those of the run.

        Returns:
            The rows; the same object at every call.

        Raises:
            InputError: The number of images differs from that of the first call, or from the list of guidances.
        """
        if self.rows is None:
            space = self.profile.space or prediction_of(self.pipe.scheduler)
            channels = guided_channels(self.profile, call)
            specs = self.guidances(images) if specs is None else specs
            claims = self.claims if is_determined(self.pipe, self.arguments) else None
            self.rows = GuidedRows(
                specs,
                space,
                self.number,
                channels=channels,
                rest_dropped=bool(self.profile.image_ids),
                guided_dim=-1 if self.profile.variance == "last half" else 1,
                channel_dim=channel_dim(call.module, call.sample),
                shaped=same_shape(call.module),
                claims=claims,
            )
            names = (*self.profile.denoisers, *self.profile.helpers)
            self._sharing = Sharing(self.pipe, names, self.guided.share_rows, has_cache(call.module))
        if self.rows.images != images:
            raise InputError(
                f"{images} images at one step and {self.rows.images} at another of {type(self.pipe).__name__}: "
                "a run has one batch; generate with one size of batch."
            )
        return self.rows

    def runs_all_rows(self, call: DenoiserCall, step: Step, *, helper: bool = False) -> bool:
        """Whether this call runs all of its rows, because they may not be independent; warns once per context.

        Args:
            call: The call.
            step: Its step.
            helper: True for the call of a ControlNet.

        Returns:
            True if all rows run.
        """
        assert self.rows is not None
        assert self._sharing is not None
        all_rows = self._sharing.together(call, self.rows.needed_rows(step), helper=helper)
        if all_rows and not self.guided.warned and len(self.profile.parts) == 2:
            self.guided.warned = self._sharing.warn()
        return all_rows

    def record(self, record: StepRecord, guided: Tensor, **changes: Any) -> None:
        """Add a step to the trace, and check its prediction: at once on the CPU, else at the end of the run.

        Args:
            record: The record of the step.
            guided: The guided prediction.
            changes: Fields of the record to replace.

        Raises:
            NotFinite: The prediction is NaN.
        """
        self.guided.trace.steps.append(replace(record, **changes) if changes else record)
        total = guided.detach().sum(dtype=torch.float32)
        if total.device.type != "cpu":
            self._sums.append((record.step, total))
        elif math.isnan(total.item()):
            raise self._not_finite(record.step)

    def has(self, network: Any) -> bool:
        """Whether a network is one of the denoisers.

        Args:
            network: A module, wrapped or not.

        Returns:
            True if it is.
        """
        return any(core_of(getattr(self.pipe, name, None)) is network for name in self.profile.denoisers)

    def _new_reader(self) -> StepReader:
        return StepReader(
            self.pipe.scheduler,
            one_run=True,
            whole_trajectory=self.guided.whole_trajectory,
            repeats=self.profile.repeats,
        )

    def _length(self) -> int | None:
        """The number of timesteps of the run: what the pipeline reports, or what `strength` leaves of them.

        Pipelines of tokens report nothing, and neither their scheduler nor their network is given the first timestep.
        """
        reported = getattr(self.pipe, "_num_timesteps", None) or getattr(self.pipe, "num_timesteps", None)
        strength = self.arguments.get("strength")
        if reported is None and strength is not None and self.profile.space == "logits":
            return int(len(self.pipe.scheduler.timesteps) * strength)
        return reported

    def _follow_scheduler(self) -> None:
        """A replaced scheduler starts another count."""
        if self.reader.scheduler is not self.pipe.scheduler:
            self.reader = self._new_reader()

    def _is_switched_off(self) -> bool:
        """Whether the pipeline left guidance out from this step on, as a callback can make it."""
        if getattr(self.pipe, "do_classifier_free_guidance", True) is not False:
            return False
        return not self.style.waiting

    def _unguided(self, call: DenoiserCall, name: str) -> Any:
        """The pipeline's own output of a call, recorded as w = 1."""
        output = call.plain(*call.args, **call.kwargs)
        if name in self.profile.denoisers and self.rows is not None:
            images = self.rows.images
            step, rows_per_image = self.step(call), call.count / images
            scales = ((tuple(range(images)), 1.0),)
            shares = ((rows_per_image, max(2 - rows_per_image, 0.0)),) * images
            rows_saved = max(2 * images - call.count, 0)
            record = StepRecord(self.number, step, scales, call.count, rows_saved, shares=shares)
            self.record(record, prediction(output))
        return output

    def _count_further(self, call: DenoiserCall) -> None:
        """Add a further pass of the pipeline's own to the record of its step."""
        assert self.rows is not None
        steps, per_image = self.guided.trace.steps, call.count / self.rows.images
        last = next(index for index in reversed(range(len(steps))) if steps[index].run == self.number)
        record = steps[last]
        steps[last] = replace(
            record,
            rows_run=record.rows_run + call.count,
            rows_varied=record.rows_varied + call.count,
            shares=tuple((rows_run + per_image, saved) for rows_run, saved in record.shares),
        )

    def _not_finite(self, step: Step) -> NotFinite:
        return NotFinite(
            f"NaN in the guided prediction at step {step.index + 1} of {step.count} under {self.guided}: the network "
            "or the guidance overflowed; try a lower scale, or float32 in place of float16."
        )
