"""guide(pipe, guidance): guidance for a diffusers pipeline, which is left as it was found; attach, to leave it on."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ContextDecorator
from typing import Any, get_args

from cfglab.denoising.trace import Trace
from cfglab.errors import InputError
from cfglab.guidance.guidance import as_guidance
from cfglab.pipelines.interception.attachment import check_free, guided_by, swap, swap_back
from cfglab.pipelines.interception.session import Guided, Span
from cfglab.pipelines.profiles.lookup import profile_of
from cfglab.pipelines.profiles.profile import Profile


def guide(
    pipe: Any,
    guidance: Any,
    *,
    profile: Profile | None = None,
    share_rows: bool | None = None,
    span: Span = "call",
) -> "Guiding":
    """A context in which `pipe` follows `guidance`; it yields the Trace of what runs inside.

    `guidance` is a Guidance, a Schedule, a number, text such as "cosine(max=7.5) | prediction_norm()", any object with
    `start(prediction)`, or a list of these, one per image (images per prompt included). Call the pipeline with its
    guidance on, for instance with its default `guidance_scale`; the number is not used otherwise. A network that reads
    its scale as an input (Flux.1-dev) follows the schedule. `profile` is for a class that cfglab does not know.
    Rows that nobody needs are left out and equal ones run once where every layer, attention processor and hook of the
    network is known to keep rows apart, else all rows are run and a warning says why; `share_rows` says it instead:
    True that they are independent, False that all are to be run.
    `span="trajectory"` is for a call that runs a part of its steps (`denoising_start`, `denoising_end`, `strength`):
    schedules then count over all `num_inference_steps`, so that two calls share one schedule; by default they count
    over the steps of each call. The context can be entered again, for another Trace.
    Raises InputError for a pipeline whose layout is not known or that is guided already, and, when it is called, for a
    call without guidance, a list that is not of the batch's length, and predictions that are no numbers.
    """
    return Guiding(lambda: _guided(pipe, guidance, profile, share_rows=share_rows, span=span), pipe)


def attach(
    pipe: Any,
    guidance: Any,
    *,
    profile: Profile | None = None,
    share_rows: bool | None = None,
    span: Span = "call",
) -> Trace:
    """guide() that stays on until `detach(pipe)`; the Trace holds the pipeline's latest call."""
    guided = _guided(pipe, guidance, profile, keep=False, share_rows=share_rows, span=span)
    swap(pipe, guided)
    return guided.trace


def detach(pipe: Any) -> None:
    """Leave the pipeline as it was before `attach`. Raises InputError where nothing is attached."""
    guided = guided_by(pipe)
    if guided is None or guided.keep:
        state = "is not guided" if guided is None else "is inside guide(), which ends by itself"
        raise InputError(f"this {type(pipe).__name__} {state}: detach(pipe) undoes attach(pipe, guidance).")
    swap_back(guided)


class Guiding(AbstractContextManager[Trace], ContextDecorator):
    """What `guide` returns. Every time it is entered it begins anew, with a Trace of its own."""

    def __init__(self, make: Callable[[], Guided], pipe: Any) -> None:
        self._make, self._pipe = make, pipe
        self._next: Guided | None = make()  # what is wrong is said at once
        self._open: list[Guided] = []

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
) -> Guided:
    if span not in get_args(Span):
        raise InputError(f"span={span!r}: a schedule spans each 'call' or the whole 'trajectory'; give one of these.")
    known = profile_of(pipe) if profile is None else profile
    check_free(pipe)
    several = isinstance(guidance, list | tuple)
    specs = [as_guidance(one) for one in guidance] if several else [as_guidance(guidance)]
    if not specs:
        raise InputError("an empty list of guidances: give one for all images, or one per image.")
    return Guided(pipe, known, specs, several, keep=keep, share_rows=share_rows, span=span)
