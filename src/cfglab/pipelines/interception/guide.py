"""guide(pipe, guidance): guidance for a diffusers pipeline inside a context; attach and detach without one."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ContextDecorator
from typing import Any, get_args

from cfglab.denoising.trace import Trace
from cfglab.errors import InputError
from cfglab.guidance.guidance import as_guidance
from cfglab.pipelines.interception.attachment import check_free, guided_by, swap, swap_back
from cfglab.pipelines.interception.driven import read
from cfglab.pipelines.interception.guided_pipeline import GuidedPipeline, Span
from cfglab.pipelines.profiles.lookup import profile_of
from cfglab.pipelines.profiles.profile import Profile
from cfglab.schedules.fields import shown


def guide(
    pipe: Any,
    guidance: Any,
    *,
    profile: Profile | None = None,
    share_rows: bool | None = None,
    span: Span = "call",
    also: Mapping[str, Any] | None = None,
) -> "Guiding":
    """Return a context manager in which `pipe` follows `guidance`; entering it yields a Trace.

    Call the pipeline with its guidance switched on, for example with its default `guidance_scale`. The value of that
    argument is not used. With its guidance switched off, as for distilled models, w is 1: alone, which changes nothing,
    or with transforms that read no unconditional prediction, such as nag. A network that reads the scale as an input
    (Flux.1-dev) follows the schedule. On exit the pipeline is as it was before. The context can be entered again; each
    entry has its own Trace.

    Args:
        pipe: a diffusers pipeline.
        guidance: a Guidance, a Schedule, a number, text such as "cosine(max=7.5) | prediction_norm()", an object with
            `start(prediction)`, or a list of these with one entry per image (images per prompt included).
        profile: the layout of a pipeline class that cfglab does not know.
        share_rows: True states that the rows of a batch are independent; False runs all rows. By default, unneeded rows
            are skipped and equal rows run once if every layer, attention processor and hook of the network is known to
            keep rows apart. Otherwise all rows run and a warning gives the reason.
        span: the steps that a schedule counts over. "call": the steps of each call. "trajectory": all
            `num_inference_steps`, for calls that run a part of the steps (`denoising_start`, `denoising_end`,
            `strength`), so that two calls share one schedule.
        also: further numbers that follow a schedule, set at every step and restored after the run: `lora:NAME` (the
            strength of a loaded adapter), `ip_adapter` or `ip_adapter:N`, `controlnet` or `controlnet:N`. Where a
            schedule is off its value is 1.

    Returns:
        A reusable context manager that is also a decorator.

    Raises:
        InputError: at once, if the layout of the pipeline is unknown, the pipeline is guided already, `span` is unknown
            or the list is empty. At the pipeline call, if its guidance is off, the length of the list is not the number
            of images, or a prediction holds NaN.

    Examples:
        with cfglab.guide(pipe, "cosine(max=7.5) | prediction_norm()") as trace:
            image = pipe("a red apple").images[0]
        print(trace.table())
        with cfglab.guide(pipe, "[5, 5, 1, 1]", also={"lora:lightning": "[0, 0, 1, 1]"}):
            image = pipe("a red apple", num_inference_steps=4).images[0]
    """
    return Guiding(lambda: _guided(pipe, guidance, profile, share_rows=share_rows, span=span, also=also), pipe)


def attach(
    pipe: Any,
    guidance: Any,
    *,
    profile: Profile | None = None,
    share_rows: bool | None = None,
    span: Span = "call",
    also: Mapping[str, Any] | None = None,
) -> Trace:
    """Guide `pipe` until `detach(pipe)` is called.

    Args:
        pipe: a diffusers pipeline.
        guidance: as in `guide`.
        profile: as in `guide`.
        share_rows: as in `guide`.
        span: as in `guide`.
        also: as in `guide`.

    Returns:
        The Trace of the latest call of the pipeline.

    Raises:
        InputError: as in `guide`.

    Examples:
        trace = cfglab.attach(pipe, "linear(max=7.5)")
        image = pipe("a red apple").images[0]
        cfglab.detach(pipe)
    """
    guided = _guided(pipe, guidance, profile, keep=False, share_rows=share_rows, span=span, also=also)
    swap(pipe, guided)
    return guided.trace


def detach(pipe: Any) -> None:
    """Restore the pipeline to its state before `attach`.

    Args:
        pipe: the pipeline that was given to `attach`.

    Raises:
        InputError: if the pipeline is not guided, or is inside `guide`, which ends by itself.
    """
    guided = guided_by(pipe)
    if guided is None or guided.keep:
        state = "is not guided" if guided is None else "is inside guide(), which ends by itself"
        raise InputError(f"this {type(pipe).__name__} {state}: detach(pipe) undoes attach(pipe, guidance).")
    swap_back(guided)


class Guiding(AbstractContextManager[Trace], ContextDecorator):
    """The context manager that `guide` returns. Each entry starts a new run with its own Trace."""

    def __init__(self, factory: Callable[[], GuidedPipeline], pipe: Any) -> None:
        self._make, self._pipe = factory, pipe
        self._next: GuidedPipeline | None = factory()  # what is wrong is said at once
        self._open: list[GuidedPipeline] = []

    def __enter__(self) -> Trace:
        guided, self._next = self._next or self._make(), None
        swap(self._pipe, guided)
        self._open.append(guided)
        return guided.trace

    def __exit__(self, *error: object) -> None:
        swap_back(self._open.pop())


def _guided(
    pipe: Any,
    guidance: Any,
    profile: Profile | None,
    *,
    keep: bool = True,
    share_rows: bool | None = None,
    span: Span = "call",
    also: Mapping[str, Any] | None = None,
) -> GuidedPipeline:
    if span not in get_args(Span):
        raise InputError(f"span={span!r}: a schedule spans each 'call' or the whole 'trajectory'; give one of these.")
    if profile is not None and not isinstance(profile, Profile):
        raise InputError(f"profile={shown(profile)}: a Profile is needed; write profile=Profile(layout='two calls').")
    if share_rows not in (None, True, False):
        raise InputError(f"share_rows={shown(share_rows)}: True, False or None is needed; leave it out.")
    layout = profile_of(pipe) if profile is None else profile
    check_free(pipe)
    several = isinstance(guidance, list | tuple)
    specs = [as_guidance(entry) for entry in guidance] if several else [as_guidance(guidance)]
    if not specs:
        raise InputError("an empty list of guidances: give one for all images, or one per image.")
    driven = read(pipe, also)
    return GuidedPipeline(pipe, layout, specs, several, keep=keep, share_rows=share_rows, span=span, driven=driven)
