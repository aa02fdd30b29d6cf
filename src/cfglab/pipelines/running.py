"""One open guide(): the runs of the pipeline inside it, and what every denoiser call of a run needs to know."""

import inspect
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cfglab.denoisers.equal_rows import EqualRows
from cfglab.denoisers.rows import GuidedRows
from cfglab.denoisers.stepping import StepReader, prediction_of
from cfglab.denoisers.trace import StepRecord, Trace
from cfglab.errors import InputError, NotFinite
from cfglab.pipelines.calls import Call
from cfglab.pipelines.channels import guided_channels, same_shape
from cfglab.pipelines.encoding import Encodings
from cfglab.pipelines.finishing import After, finishing
from cfglab.pipelines.profiles import Layout, Profile
from cfglab.pipelines.refusals import Switches, check_on, check_specs, way_of
from cfglab.pipelines.sharing import Sharing
from cfglab.step import Step


class Guided:
    """What lives as long as the context: the guidance, the trace, and the run that is under way."""

    def __init__(self, pipe: Any, profile: Profile, specs: Sequence[Any], several: bool, *, keep: bool = True) -> None:
        self._pipe = weakref.ref(pipe)
        self.profile, self.specs, self.several, self.keep = profile, list(specs), several, keep
        self.trace = Trace()
        self.run: Run | None = None
        self.context: str | None = None
        """The name a pipeline gave to its `cache_context`."""
        self.runs = 0
        self.reader = StepReader(pipe.scheduler)
        self.share_rows: bool | None = None
        """Whether rows are left out and shared; None: where the network is known not to mix them."""
        self.said = False
        """Whether somebody was told that all rows are run."""

    @property
    def pipe(self) -> Any:
        return self._pipe()

    def call_pipeline(self, plain: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The pipeline's own call, guided."""
        signature = inspect.signature(plain)
        bound = signature.bind(*args, **kwargs)
        complete = signature.bind(*args, **kwargs)
        complete.apply_defaults()
        way = way_of(self.pipe, self.profile, complete.arguments)
        if way == self.profile.layout:
            bound.arguments.update({name: value for name, value in self.profile.fixed if name in signature.parameters})
        if not self.keep:
            self.trace.steps.clear()
        self.run = Run(self, way, complete.arguments)
        self.reader.restart()
        try:
            result = plain(*bound.args, **bound.kwargs)
            self.run.finish()
            return result
        finally:
            self.run, self.context = None, None
            self.runs += 1

    def call_module(self, plain: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """A component's own call, guided; untouched outside a run of the pipeline."""
        if self.run is None:
            return plain(*args, **kwargs)
        call = Call(module, plain, args, kwargs, self.profile)
        return self.run.guided_call(call, self._name(module))

    def _name(self, module: nn.Module) -> str:
        names = (*self.profile.denoisers, *self.profile.helpers)
        return next(name for name in names if getattr(self.pipe, name, None) is module)


class Run:
    """One call of the pipeline."""

    def __init__(self, guided: Guided, way: Layout, arguments: dict[str, Any]) -> None:
        self.guided, self.way, self.arguments = guided, way, arguments
        self.profile = guided.profile
        self.after: After | None = finishing(self.profile, arguments)
        self.rows: GuidedRows | None = None
        self.switches = Switches(self.profile)
        self.encodings = Encodings(guided.pipe)
        self.template: Any = None
        """An output of the denoiser, for steps at which it is not run."""
        self.alike: dict[str, EqualRows] = {}
        self.style = _style(way)(self)
        self._sums: list[tuple[Step, Tensor]] = []

    def guided_call(self, call: Call, name: str) -> Any:
        """What a component's call gives instead of its own output."""
        if self.way != "embedded":
            if self.rows is None:
                check_on(self.guided.pipe, self.profile, self.arguments)
            self.switches.check(self.guided.pipe)
        if name in self.profile.helpers:
            from cfglab.pipelines.helpers import help_call

            return help_call(self, call, name)
        return self.style.call(call, name)

    def finish(self) -> None:
        """The pipeline is through. Raises InputError where it was not guided after all."""
        self.style.finish()
        sums = torch.stack([total for _, total in self._sums]).tolist() if self._sums else []  # one wait after the loop
        for (step, _), total in zip(self._sums, sums, strict=True):
            if math.isnan(total):
                raise self._no_number(step)

    def step(self, call: Call) -> Step:
        """The Step of this call, which is the next one."""
        return self._reader.next(lambda: call.timestep, self._length())

    def upcoming(self, call: Call) -> Step:
        """The Step that the next denoiser call will have."""
        return self._reader.peek(lambda: call.timestep, self._length())

    def start(self, call: Call, images: int) -> GuidedRows:
        """The rows of this run, made at its first call."""
        if self.rows is None:
            guided = self.guided
            specs = check_specs(guided.specs, images) if guided.several else guided.specs * images
            space = self.profile.space or prediction_of(guided.pipe.scheduler)
            channels = guided_channels(self.profile, call)
            self.rows = GuidedRows(specs, space, guided.runs, channels=channels, shaped=same_shape(call.module))
            names = (*self.profile.denoisers, *self.profile.helpers)
            self.sharing = Sharing(guided.pipe, names, guided.share_rows, has_cache(call.module))
        if self.rows.images != images:
            raise InputError(
                f"{images} images at one step and {self.rows.images} at another of {type(self.guided.pipe).__name__}: "
                "a run has one batch; draw with one size of batch."
            )
        return self.rows

    def together(self, call: Call, step: Step, *, helper: bool = False) -> bool:
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

    @property
    def _reader(self) -> StepReader:
        if self.guided.reader.scheduler is not self.guided.pipe.scheduler:
            self.guided.reader = StepReader(self.guided.pipe.scheduler)
        return self.guided.reader

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
    from cfglab.pipelines.batched import Batched
    from cfglab.pipelines.embedded import Embedded
    from cfglab.pipelines.two_calls import TwoCalls

    return {"batched": Batched, "two calls": TwoCalls, "embedded": Embedded}[way]
