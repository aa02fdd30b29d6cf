"""guide(pipe, guidance): guidance for a StableDiffusionPipeline, which is left as it was found.

The denoiser's class is swapped for a cached subclass whose `__call__` sees the doubled batch [uncond; cond]. It returns
the guided prediction p in both halves, so that the pipeline's own `u + g (c - u)` is p exactly, whatever g. The swap,
unlike a replaced `forward`, survives model offload.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from cfglab.denoisers.rows import GuidedRows, take
from cfglab.denoisers.stepping import StepReader, prediction_of
from cfglab.denoisers.trace import Trace
from cfglab.errors import InputError
from cfglab.guidance import Variation
from cfglab.guidance.text import as_guidance
from cfglab.pipelines.encoding import Encodings
from cfglab.pipelines.quiet import StableDiffusionPipeline

_ACTIVE: dict[int, "_Guided"] = {}
_CLASSES: dict[type, type] = {}


def guide(pipe: StableDiffusionPipeline, guidance: Any) -> AbstractContextManager[Trace]:
    """A context in which `pipe` follows `guidance`; it yields the Trace of what runs inside.

    `guidance` is a Guidance, a Schedule, a number, text such as "cosine(max=7.5) | prediction_norm()", any object with
    `start(prediction)`, or a list of these, one per image (pictures per prompt included). Call the pipeline with any
    `guidance_scale` above 1, for instance its default. Raises InputError for another kind of pipeline, for a pipeline
    that is guided already, and, when the pipeline is called, for a call without guidance or with `guidance_rescale`.
    """
    kind = type(pipe)
    if not isinstance(pipe, StableDiffusionPipeline) or kind.__call__ is not StableDiffusionPipeline.__call__:
        raise InputError(
            f"{kind.__name__} is not yet supported: guide() knows StableDiffusionPipeline and what shares its "
            "__call__; in a loop of your own use Guidance.start().combine(uncond, cond, step, latents)."
        )
    _check_free(pipe)
    several = isinstance(guidance, list | tuple)
    specs = [as_guidance(one) for one in guidance] if several else [as_guidance(guidance)]
    if not specs:
        raise InputError("an empty list of guidances: give one for all images, or one per image.")
    return _swapped(pipe, _Guided(pipe, specs, several))


def _check_free(pipe: StableDiffusionPipeline) -> None:
    if id(pipe.unet) in _ACTIVE:
        raise InputError(
            f"this {type(pipe).__name__} is guided already: one guide() at a time; leave the other one first, or give "
            "it a list with one guidance per image."
        )


@contextmanager
def _swapped(pipe: StableDiffusionPipeline, guided: "_Guided") -> Iterator[Trace]:
    _check_free(pipe)
    unet = pipe.unet
    original = unet.__class__
    unet.__class__ = _guided_class(original)
    _ACTIVE[id(unet)] = guided
    try:
        yield guided.trace
    finally:
        unet.__class__ = original
        del _ACTIVE[id(unet)]


def _guided_class(base: type) -> type:
    """One subclass per denoiser class, of the same name: a fresh one each time would recompile compiled models."""
    if base not in _CLASSES:

        def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            plain = base.__call__.__get__(self)
            guided = _ACTIVE.get(id(self))
            return plain(*args, **kwargs) if guided is None else guided(plain, *args, **kwargs)

        cls = type(base.__name__, (base,), {"__call__": call, "__module__": base.__module__, "__doc__": base.__doc__})
        _CLASSES[base] = cls
    return _CLASSES[base]


class _Guided:
    """What happens instead of one denoiser call, for as long as the context is open."""

    def __init__(self, pipe: StableDiffusionPipeline, specs: Sequence[Any], several: bool) -> None:
        self.pipe, self.specs, self.several = pipe, specs, several
        self.trace = Trace()
        self._reader = StepReader(pipe.scheduler)
        self._rows: GuidedRows | None = None
        self._runs = 0
        self._encodings = Encodings(pipe)

    def __call__(self, plain: Callable[..., Any], sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        self._check_call()
        if self.pipe.scheduler is not self._reader.scheduler:
            self._reader = StepReader(self.pipe.scheduler)
        step = self._reader.next()
        if self._rows is None or self._reader.call == 0:
            self._rows = self._start(len(sample))
        batched = _batched((args, kwargs), len(sample))
        returned: list[Any] = []

        def denoise(rows: list[int] | None, variation: Variation | None) -> Tensor:
            x, (some_args, some_kwargs) = sample, (args, kwargs)
            if rows is not None:
                x = take(sample, rows)
                some_args, some_kwargs = _walk((args, kwargs), len(sample), lambda tensor: take(tensor, rows))
            if variation is None:
                returned.append(plain(x, *some_args, **some_kwargs))
                return returned[-1][0]
            prompt = getattr(variation, "prompt", None)
            own = some_kwargs if prompt is None else self._encodings.put(prompt, some_kwargs)
            with variation.applied(self.pipe.unet) as module:
                x, timestep, named = variation.inputs(x, some_args[0], own)
                call = plain if module is self.pipe.unet else module
                returned.append(call(x, timestep, *some_args[1:], **named))
            return returned[-1][0]

        guided, record = self._rows.predict(step, sample, batched, denoise)
        self.trace.steps.append(record)
        both = torch.cat([guided, guided])
        output = returned[0] if returned else (both,)
        return (both, *output[1:]) if isinstance(output, tuple) else type(output)(sample=both)

    def _check_call(self) -> None:
        if not self.pipe.do_classifier_free_guidance:
            raise InputError(
                f"guidance_scale={self.pipe.guidance_scale!r} inside guide(): at 1 or less the pipeline computes no "
                "unconditional prediction, so there is nothing to guide with; pass any guidance_scale above 1 "
                "(it is not used otherwise) and give the scale itself to guide()."
            )
        if self.pipe.guidance_rescale > 0:
            raise InputError(
                f"guidance_rescale={self.pipe.guidance_rescale!r} inside guide(): the pipeline would rescale by a "
                "conditional prediction that it no longer sees, so nothing would happen; leave it at 0 and use a "
                "transform such as prediction_norm()."
            )

    def _start(self, rows: int) -> GuidedRows:
        images = rows // 2
        if self.several and len(self.specs) != images:
            raise InputError(
                f"{len(self.specs)} guidances for {images} images: a list holds one per image, prompts times "
                "num_images_per_prompt; give that many, or a single guidance for all."
            )
        specs = self.specs if self.several else list(self.specs) * images
        prediction = prediction_of(self.pipe.scheduler)
        self._runs += 1
        self._encodings = Encodings(self.pipe)
        return GuidedRows(specs, prediction, run=self._runs - 1)


def _batched(value: Any, rows: int) -> list[Tensor]:
    """Every tensor of that many rows in a nest of tuples, lists and dicts."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _walk(value, rows, note)
    return found


def _walk(value: Any, rows: int, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nest of tuples, lists and dicts with `change` done to every tensor of that many rows."""
    if isinstance(value, Tensor):
        return change(value) if value.ndim > 0 and len(value) == rows else value
    if isinstance(value, dict):
        return {key: _walk(item, rows, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_walk(item, rows, change) for item in value)
    return value
