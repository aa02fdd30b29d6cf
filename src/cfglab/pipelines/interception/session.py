"""One open guide(): the runs of the pipeline inside it, and what every denoiser call of a run needs to know."""

import inspect
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cfglab.denoising.duplicate_rows import EqualRows
from cfglab.denoising.guided_batch import GuidedRows
from cfglab.denoising.step_reader import StepReader, prediction_of
from cfglab.denoising.trace import StepRecord, Trace
from cfglab.errors import InputError, NotFinite
from cfglab.guidance import Guidance
from cfglab.pipelines.interception.callers import Callers, function_of
from cfglab.pipelines.interception.channels import guided_channels, same_shape
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.intercepted import ROUTE
from cfglab.pipelines.interception.outputs import prediction
from cfglab.pipelines.interception.post_combine import After, finishing
from cfglab.pipelines.interception.preconditions import Switches, check_on, check_specs, resolve_layout
from cfglab.pipelines.interception.prompt_encoding import Encodings
from cfglab.pipelines.interception.row_sharing import Sharing
from cfglab.pipelines.interception.run_checks import check_apart, check_finished, check_networks, check_steps
from cfglab.pipelines.interception.wrapped_modules import core_of
from cfglab.pipelines.profiles.profile import Layout, Profile
from cfglab.step import Step

Span = Literal["call", "trajectory"]
"""What a schedule spans: the steps of each call, or the whole trajectory of which a call may run a part."""

_LOCK = threading.Lock()
_OPEN: "list[PipelineRun]" = []
"""The runs that are under way."""


class GuidedPipeline:
    """What lives as long as the context: the guidance and the trace. Every call of the pipeline has a Run of its own,
    which is found through the context of the call: nothing of a run is kept here or on a network."""

    def __init__(
        self,
        pipe: Any,
        profile: Profile,
        specs: Sequence[Any],
        several: bool,
        *,
        keep: bool = True,
        share_rows: bool | None = None,
        span: Span = "call",
    ) -> None:
        self._pipe = weakref.ref(pipe)
        self.profile, self.specs, self.several, self.keep, self.span = profile, list(specs), several, keep, span
        self.trace = Trace()
        self.runs = 0
        """How many runs have begun."""
        self.share_rows = share_rows
        """Whether rows are left out and shared; None: where the network is known not to mix them."""
        self.said = False
        """Whether somebody was told that all rows are run."""

    @property
    def pipe(self) -> Any:
        return self._pipe()

    @property
    def changes_network(self) -> bool:
        """Whether a network may be changed during some of its calls, for further predictions."""
        plain = (isinstance(spec, Guidance) and not spec.transforms for spec in self.specs)
        return not all(plain)

    def call_pipeline(self, plain: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The pipeline's own call, guided."""
        signature = inspect.signature(plain)
        bound = signature.bind(*args, **kwargs)
        complete = signature.bind(*args, **kwargs)
        complete.apply_defaults()
        way = resolve_layout(self.pipe, self.profile, complete.arguments)
        check_networks(self.pipe, self.profile.denoisers)
        check_steps(self.pipe, complete.arguments)
        if way == self.profile.layout:
            bound.arguments.update({name: value for name, value in self.profile.fixed if name in signature.parameters})
        run = PipelineRun(self, way, complete.arguments)
        with run.opened():
            return _enter(run, plain, bound)


def _enter(run: "PipelineRun", plain: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
    """Where the stack of a run begins: see `Callers.own`."""
    result = plain(*bound.args, **bound.kwargs)
    if inspect.isgenerator(result) or inspect.isawaitable(result):
        raise InputError(
            f"{type(run.guided.pipe).__name__} returned a {type(result).__name__}: its loop has not run, and would run "
            "outside of guide(); wrap its __call__ in a plain function that runs it to the end."
        )
    run.finish()
    return result


class PipelineRun:
    """One call of the pipeline."""

    def __init__(self, guided: GuidedPipeline, way: Layout, arguments: dict[str, Any]) -> None:
        self.guided, self.way, self.arguments = guided, way, arguments
        self.profile, self.pipe = guided.profile, guided.pipe
        self.scheduler = self.pipe.scheduler
        self.number = -1
        """The place of this run among those of its context, from 0."""
        self.context: str | None = None
        """The name the pipeline gave to its `cache_context`."""
        self.after: After | None = finishing(self.profile, arguments)
        self.rows: GuidedRows | None = None
        self.switches = Switches(self.profile)
        self.encodings = Encodings(self.pipe)
        self.template: Any = None
        """An output of the denoiser, for steps at which it is not run."""
        self.alike: dict[str, EqualRows] = {}
        self.style = _style(way)(self)
        self.reader = StepReader(self.scheduler, one_run=True, whole=guided.span == "trajectory")
        self._callers = Callers(self.pipe, arguments, _enter.__code__)
        self._passed = ""
        """Who called a denoiser first, if calls were passed on."""
        self._calls = 0
        self._sums: list[tuple[Step, Tensor]] = []

    @contextmanager
    def opened(self) -> Iterator[None]:
        """While it is open, the calls that the pipeline makes in this context are guided. Raises InputError where
        another run would be disturbed."""
        guided = self.guided
        with _LOCK:
            for other in _OPEN:
                check_apart(self, other)
            self.number, guided.runs = guided.runs, guided.runs + 1
            if not guided.keep:
                numbers = {other.number for other in _OPEN if other.guided is guided}
                guided.trace.steps[:] = [record for record in guided.trace.steps if record.run in numbers]
            _OPEN.append(self)
        token = ROUTE.set(self.route)
        try:
            yield
        finally:
            ROUTE.reset(token)
            with _LOCK:
                _OPEN.remove(self)

    def route(
        self,
        module: nn.Module,
        plain: Callable[..., Any],
        caller: FrameType | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """A call of an intercepted network in the context of this run: guided where the pipeline itself makes it, and
        untouched where anybody else does."""
        names = (*self.profile.denoisers, *self.profile.helpers)
        name = next((name for name in names if getattr(self.pipe, name, None) is module), None)
        if name is None:
            return plain(*args, **kwargs)
        if not self._callers.own(caller):
            self._passed = self._passed or function_of(caller)
            return plain(*args, **kwargs)
        return self.guided_call(DenoiserCall(module, plain, args, kwargs, self.profile), name)

    def guided_call(self, call: DenoiserCall, name: str) -> Any:
        """What a component's call gives instead of its own output."""
        self._calls += name not in self.profile.helpers
        if self.way != "embedded":
            if self.rows is None:
                check_on(self.pipe, self.profile, self.arguments)
            elif self._switched_off():
                return self._left_alone(call, name)
            self.switches.check(self.pipe)
        if name in self.profile.helpers:
            from cfglab.pipelines.interception.controlnets import call_controlnet

            return call_controlnet(self, call, name)
        return self.style.call(call, name)

    def finish(self) -> None:
        """The pipeline is through. Raises InputError where it was not guided after all."""
        if not getattr(self.pipe, "interrupt", False):
            check_finished(self, self._calls, self._passed)
        self.style.finish()
        sums = torch.stack([total for _, total in self._sums]).tolist() if self._sums else []  # one wait after the loop
        for (step, _), total in zip(self._sums, sums, strict=True):
            if math.isnan(total):
                raise self._no_number(step)

    def step(self, call: DenoiserCall) -> Step:
        """The Step of this call, which is the next one."""
        self._follow_scheduler()
        return self.reader.next(lambda: call.timestep, self._length())

    def upcoming(self, call: DenoiserCall) -> Step:
        """The Step that the next denoiser call will have."""
        self._follow_scheduler()
        return self.reader.peek(lambda: call.timestep, self._length())

    def start(self, call: DenoiserCall, images: int) -> GuidedRows:
        """The rows of this run, made at its first call."""
        if self.rows is None:
            guided = self.guided
            specs = check_specs(guided.specs, images) if guided.several else guided.specs * images
            space = self.profile.space or prediction_of(guided.pipe.scheduler)
            channels = guided_channels(self.profile, call)
            self.rows = GuidedRows(specs, space, self.number, channels=channels, shaped=same_shape(call.module))
            names = (*self.profile.denoisers, *self.profile.helpers)
            self.sharing = Sharing(self.pipe, names, guided.share_rows, has_cache(call.module))
        if self.rows.images != images:
            raise InputError(
                f"{images} images at one step and {self.rows.images} at another of {type(self.guided.pipe).__name__}: "
                "a run has one batch; draw with one size of batch."
            )
        return self.rows

    def together(self, call: DenoiserCall, step: Step, *, helper: bool = False) -> bool:
        """Whether this call, which may be a helper's, runs all of its rows; said once in a guide()."""
        assert self.rows is not None
        together = self.sharing.together(call, self.rows.wanted(step), helper=helper)
        if together and not self.guided.said and len(self.profile.parts) == 2:
            self.guided.said = self.sharing.say()
        return together

    def note(self, record: StepRecord, guided: Tensor, **changed: Any) -> None:
        """Enter a step into the trace, and see that it is a number: at once on the CPU, else at the end of the run."""
        self.guided.trace.steps.append(replace(record, **changed) if changed else record)
        total = guided.detach().sum(dtype=torch.float32)
        if total.device.type != "cpu":
            self._sums.append((record.step, total))
        elif math.isnan(total.item()):
            raise self._no_number(record.step)

    def _length(self) -> int | None:
        """How many timesteps the pipeline says its run has."""
        pipe = self.guided.pipe
        return getattr(pipe, "_num_timesteps", None) or getattr(pipe, "num_timesteps", None)

    def _follow_scheduler(self) -> None:
        """A scheduler put in the place of another one begins another run."""
        if self.reader.scheduler is not self.pipe.scheduler:
            self.reader = StepReader(self.pipe.scheduler, one_run=True, whole=self.guided.span == "trajectory")

    def has(self, network: Any) -> bool:
        """Whether this is one of the denoisers, in whatever it may be wrapped."""
        return any(core_of(getattr(self.pipe, name, None)) is network for name in self.profile.denoisers)

    def _switched_off(self) -> bool:
        """Whether the pipeline has left guidance out from here on, as a callback can make it: it is given the
        conditional prediction alone."""
        if getattr(self.pipe, "do_classifier_free_guidance", True) is not False:
            return False
        return self.way == "batched" or not self.style.waiting

    def _left_alone(self, call: DenoiserCall, name: str) -> Any:
        """A call without guidance: w = 1, and the pipeline's own output."""
        output = call.plain(*call.args, **call.kwargs)
        if name in self.profile.denoisers and self.rows is not None:
            images = self.rows.images
            step, ran = self.step(call), call.count / images
            scales = ((tuple(range(images)), 1.0),)
            shares = ((ran, max(2 - ran, 0.0)),) * images
            saved = max(2 * images - call.count, 0)
            record = StepRecord(self.number, step, scales, call.count, saved, shares=shares)
            self.note(record, prediction(output))
        return output

    def _no_number(self, step: Step) -> NotFinite:
        said = " and ".join(dict.fromkeys(str(spec) for spec in self.guided.specs))
        return NotFinite(
            f"NaN in the guided prediction at step {step.index + 1} of {step.count} under {said}: the network or the "
            "guidance overflowed; try a lower scale, or float32 in place of float16."
        )


def has_cache(module: nn.Module) -> bool:
    """Whether blocks of this denoiser keep what they computed at an earlier step (FirstBlockCache, PAB, ...)."""
    if getattr(module, "is_cache_enabled", False):
        return True
    return any("cache" in name or "broadcast" in name for name in _hooks(module))


def _hooks(module: nn.Module) -> Iterator[str]:
    """The names of diffusers' hooks on a module and all in it; `module.modules()` and `getattr` take ten times as long,
    and every run asks."""
    left = [module]
    while left:
        part = left.pop()
        if (registry := vars(part).get("_diffusers_hook")) is not None:
            yield from registry.hooks
        left += part.children()


def _style(way: Layout) -> Any:
    from cfglab.pipelines.interception.batched import Batched
    from cfglab.pipelines.interception.embedded_scale import Embedded
    from cfglab.pipelines.interception.two_calls import TwoCalls

    return {"batched": Batched, "two calls": TwoCalls, "embedded": Embedded}[way]
