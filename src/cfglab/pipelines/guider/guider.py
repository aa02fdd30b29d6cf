"""to_guider(guidance): guidance as the `guider` component of Modular Diffusers and of the pipelines that have one.

A guider says which predictions a step needs, the pipeline runs them one call each, the guider combines them. What
diffusers does not hand over is taken where it is: the scheduler from the loop that calls (`looping`), the latents and
further predictions at the denoiser's call (`onecall`).
"""

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Module

from cfglab.denoising.duplicate_rows import take
from cfglab.denoising.guided_batch import GuidedRows
from cfglab.denoising.step_reader import prediction_of
from cfglab.denoising.trace import Trace
from cfglab.errors import InputError, MachineError
from cfglab.guidance import Guidance, Perturbation, Space
from cfglab.guidance.context import runs
from cfglab.pipelines.guider.loop_step import Looping, host_of
from cfglab.pipelines.guider.next_call import replace_next_call, restore_call, sample_of, varied
from cfglab.pipelines.guider.serialization import read, written
from cfglab.pipelines.interception.row_mixing import Watched
from cfglab.pipelines.loading.quiet import quiet
from cfglab.schedules import Constant
from cfglab.step import Step

with quiet():
    from diffusers import __version__ as diffusers_version
    from diffusers.guiders import BaseGuidance as BaseGuidance
    from diffusers.guiders.guider_utils import GuiderOutput

_CALLED = ("set_state", "_prepare_batch", "_prepare_batch_from_block_state", "register_to_config")
"""What a guider calls of diffusers' own."""

NETWORKS = ("unet", "transformer", "transformer_2", "controlnet")


def to_guider(guidance: Any, *, share_rows: bool | None = None) -> "Guider":
    """Convert a guidance to a diffusers guider.

    Use it as `pipe.update_components(guider=to_guider(guidance))`, or as `guider=` of a classic pipeline.

    Args:
        guidance: as in `guide`: a Guidance, a Schedule, a number, text, an object with `start(prediction)`, or a list
            of these with one entry per image.
        share_rows: as in `guide`. By default the unconditional call of a step is skipped if no image needs it and the
            network is known to keep no state of it.

    Returns:
        The guider.

    Raises:
        InputError: if `guidance` is none of these.
    """
    return Guider(guidance, share_rows)


@dataclass(frozen=True)
class _Batch:
    """One denoiser call of a step: which rows it runs, and under which change."""

    name: str
    source: int  # 0: with the prompt, 1: without
    variation: Perturbation | None = None


_CONDITIONAL, _UNCONDITIONAL = _Batch("pred_cond", 0), _Batch("pred_uncond", 1)


class Guider(BaseGuidance):  # type: ignore[misc]
    """A diffusers guider that follows a guidance; see `to_guider`.

    The conditional rows run at every step because pipelines read them after the guider. The unconditional rows and
    the rows of perturbed passes run only if an image needs them. The guider is saved and loaded as the JSON of its
    guidance.

    Attributes:
        trace: the Trace of the latest run.
    """

    _input_predictions: ClassVar[list[str]] = [_CONDITIONAL.name, _UNCONDITIONAL.name]

    def __init__(self, guidance: Any, share_rows: bool | None = None) -> None:
        if missing := [name for name in _CALLED if not hasattr(BaseGuidance, name)]:
            raise MachineError(
                f"diffusers {diffusers_version} has guiders without {', '.join(missing)}: cfglab knows those of 0.42; "
                "install that version, or use guide(pipe, …) on a classic pipeline."
            )
        super().__init__()
        self.several = isinstance(guidance, list | tuple)
        self.guidances = [read(one) for one in (guidance if self.several else [guidance])]
        if not self.guidances:
            raise InputError("an empty list of guidances: give one for all images, or one per image.")
        self.trace = Trace()
        self._runs = 0
        self._loop = Looping()
        self._now: Step | None = None
        self._prediction: Space = "model"
        self._rows: GuidedRows | None = None
        self._distinct = torch.empty(0)
        self._plan: list[_Batch] = []
        self._latents: Any = None
        self._share_rows, self._warned = share_rows, False
        self._watched: list[tuple[str, Watched]] = []
        self._reason = ""
        stored, self._unstored = written(self.guidances)
        more = {} if share_rows is None else {"share_rows": share_rows}
        self.register_to_config(guidance=stored if stored is None or self.several else stored[0], **more)

    # -- what a pipeline asks, in the order in which it asks -------------------------------------------------------

    @property
    def num_conditions(self) -> int:
        """2, or 1 when disabled: text encoders ask before the loop whether negative embeddings may be needed. It does
        not depend on a step, so nothing of an earlier run, whole or broken off, is in it."""
        return 2 if self._enabled else 1

    @property
    def guidance_scale(self) -> float:
        """The scale, where it is one number: what a model with an embedded scale is given. Raises InputError."""
        schedule = getattr(self.guidances[0], "schedule", None)
        if self.several or not isinstance(schedule, Constant):
            raise InputError(
                f"{self._said()} where one scale is asked for: this model takes the scale as an input, once for the "
                "whole run; use a guider of a single number with it."
            )
        return schedule.value

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """The loop is at its call `step`. Raises InputError where the loop's scheduler cannot be found."""
        super().set_state(step, num_inference_steps, timestep)
        pipe = host_of(sys._getframe(1))
        if hasattr(pipe, "audio_guider"):
            raise InputError(
                f"{type(pipe).__name__} asks for diffusers' LTX2Guidance, which works on x0 and shares its predictions "
                "with a guider of sound: it has no place for another guider; leave that one."
            )
        self._now, new = self._loop.step(pipe.scheduler, step, timestep)
        self._plan, self._latents = [], None
        if new:
            self.trace, self._rows, self._runs = Trace(), None, self._runs + 1
            self._prediction = prediction_of(pipe.scheduler)
            networks = [(name, getattr(pipe, name, None)) for name in NETWORKS]
            self._watched = [(name, Watched(network)) for name, network in networks if isinstance(network, Module)]
            self._reason = "share_rows=False" if self._share_rows is False else ""
        if self._share_rows is None and not self._reason:
            reasons = ((name, watched.reason()) for name, watched in self._watched)
            self._reason = next((f"in {name} {reason}" for name, reason in reasons if reason), "")

    def prepare_inputs(self, data: dict[str, Any]) -> list[Any]:
        """The inputs of each denoiser call of this step."""
        self._planned({key: value for key, value in data.items() if isinstance(value, tuple)})
        return [self._prepare_batch(data, batch.source, batch.name) for batch in self._plan]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: dict[str, Any]) -> list[Any]:
        """The same, from the names of the fields."""
        pairs = {key: names for key, names in input_fields.items() if isinstance(names, tuple)}
        self._planned({key: tuple(getattr(data, name, None) for name in names) for key, names in pairs.items()})
        return [
            self._prepare_batch_from_block_state(input_fields, data, batch.source, batch.name) for batch in self._plan
        ]

    @property
    def is_conditional(self) -> bool:
        """Whether the call that is being prepared has the prompt."""
        return not self._plan or self._plan[max(self._count_prepared - 1, 0)].source == 0

    def prepare_models(self, denoiser: torch.nn.Module) -> None:
        """Before each denoiser call: what goes in is noted where a transform reads it, or changed for a variation."""
        super().prepare_models(denoiser)
        variation = self._plan[self._count_prepared - 1].variation
        if variation is not None:
            replace_next_call(denoiser, lambda module, args, kwargs: varied(module, variation, args, kwargs))
        elif self._reads_latents() and self._latents is None:
            replace_next_call(denoiser, self._noted)

    def cleanup_models(self, denoiser: torch.nn.Module) -> None:
        restore_call(denoiser)

    def __call__(self, data: Sequence[Any]) -> Any:
        """The guided prediction from those of the calls, as a GuiderOutput."""
        if self._now is None or len(data) != len(self._plan):
            raise InputError(
                f"{len(data)} predictions for the {len(self._plan)} calls of this step: call set_state, "
                "prepare_inputs, the denoiser for each of them, then the guider."
            )
        given = [one.noise_pred for one in data]
        cond = given[0]
        uncond = given[1] if _UNCONDITIONAL in self._plan else None
        guided = self._combined(self._now, given) if self._enabled else cond
        return GuiderOutput(pred=guided, pred_cond=cond, pred_uncond=uncond)

    def save_config(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """What `save_pretrained` calls. Raises InputError for a guidance that cannot be written: a function."""
        if self._unstored:
            raise InputError(self._unstored)
        super().save_config(save_directory, push_to_hub, **kwargs)

    def _made_all(self) -> bool:
        """Whether calls that nobody needs are made, because something may be kept of them; said once."""
        if self._reason and self._share_rows is None and not self._warned:
            self._warned = True
            warnings.warn(
                f"every call of a step is made: {self._reason} may mix or keep rows; pass share_rows=True to "
                "to_guider() if every call stands alone all the same.",
                stacklevel=2,
            )
        return bool(self._reason)

    # -- one step --------------------------------------------------------------------------------------------------

    def _planned(self, pairs: Mapping[str, tuple[Any, ...]]) -> None:
        """Decides the calls of this step; `pairs` are the inputs with and without the prompt."""
        if self._now is None:
            raise InputError("prepare_inputs before set_state: the step is not known; call set_state at every step.")
        self._plan = [_CONDITIONAL]
        if not self._enabled:
            return
        rows = self._rows or GuidedRows(self.guidances, self._prediction)  # before the first step all images are alike
        wanted = rows.wanted(self._now)
        lonely = sorted(
            key for key, pair in pairs.items() if pair[0] is not None and (len(pair) < 2 or pair[1] is None)
        )
        if any(row < rows.images for row in wanted.pop(None)) or (pairs and not lonely and self._made_all()):
            self._plan.append(_UNCONDITIONAL)
        for number, variation in enumerate(filter(None, wanted), start=1):
            self._plan.append(_further(variation, number))
        if any(batch.source for batch in self._plan) and (lonely or not pairs):
            raise InputError(
                f"no negative {' or '.join(lonely) or 'inputs'} at step {self._now.index}, where {self._said()} needs "
                'the unconditional prediction: pass a negative_prompt, which may be "", or negative embeddings beside '
                "the embeddings."
            )

    def _combined(self, step: Step, given: list[Tensor]) -> Tensor:
        images = len(given[0])
        if self._rows is None:
            self._rows = self._rows_of(images)
            self._distinct = torch.arange(2 * images)  # the rows were run one by one: none stands for another
        by = dict(zip(self._plan, given, strict=True))
        cond = by[_CONDITIONAL]
        uncond = by.get(_UNCONDITIONAL, cond)  # where nobody reads it
        extras = {batch.variation: prediction for batch, prediction in by.items()}

        def denoise(rows: list[int] | None, variation: Perturbation | None) -> Tensor:
            if variation is not None:
                return take(extras[variation], [row % images for row in rows or ()])
            both = torch.cat([uncond, cond])
            return both if rows is None else take(both, rows)

        seen = None if self._latents is None else _batched(self._latents, cond)
        sample = self._distinct if seen is None else torch.cat([seen, seen])
        guided, record = self._rows.predict(step, sample, [self._distinct], denoise)
        varied = [batch.variation for batch in self._plan if batch.variation is not None]
        further = sum(map(runs, varied))
        ran = len(given) - len(varied) + further
        saved = 2 + further - ran  # of each image: the rows of a call run together
        record = replace(
            record,
            rows_run=images * ran,
            rows_saved=images * saved,
            rows_varied=images * further,
            shares=((float(ran), float(saved)),) * images,
        )
        self.trace.steps.append(record)
        return guided

    def _rows_of(self, images: int) -> GuidedRows:
        if self.several and len(self.guidances) != images:
            raise InputError(
                f"{len(self.guidances)} guidances for {images} images: a list holds one per image, prompts times "
                "images per prompt; give that many, or a single guidance for all."
            )
        specs = self.guidances if self.several else self.guidances * images
        return GuidedRows(specs, self._prediction, run=self._runs - 1)

    def _reads_latents(self) -> bool:
        """Whether a transform could ask what the denoiser saw; plain guidance leaves the denoiser alone."""
        return any(not isinstance(one, Guidance) or one.transforms for one in self.guidances)

    def _noted(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._latents = sample_of(args, kwargs)
        return module(*args, **kwargs)

    def _said(self) -> str:
        return "a list of guidances" if self.several else str(self.guidances[0])


Guider.__module__ = "cfglab.pipelines.guider"  # the path that stands in saved pipelines


def _further(variation: Perturbation, number: int) -> _Batch:
    if getattr(variation, "prompt", None) is not None:
        raise InputError(
            f"{variation!r} has a prompt of its own: a guider is given embeddings and cannot encode a text; use "
            "guide(pipe, …) on a classic pipeline."
        )
    return _Batch(f"pred_{variation.source}_{number}", 1 if variation.source == "uncond" else 0, variation)


def _batched(latents: Any, like: Tensor) -> Tensor:
    """What the denoiser saw as one tensor, images first, and without the axes that the prediction has not."""
    seen: Tensor = torch.stack(list(latents)) if isinstance(latents, list | tuple) else latents
    return seen.reshape(like.shape) if seen.numel() == like.numel() else seen
