"""to_guider(guidance): guidance as the `guider` component of Modular Diffusers and of the pipelines that have one.

A guider plans the predictions of a step, the pipeline runs them in one call each, and the guider combines them.
diffusers does not pass the scheduler: `Guider.bind` sets it, or `loop_step` reads it from the calling loop. The latents
and the perturbed passes are handled at the denoiser's call (`next_call`).
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Module

from cfglab.denoising.duplicate_rows import take
from cfglab.denoising.row_skipping import GuidedRows
from cfglab.denoising.step_reader import prediction_of
from cfglab.denoising.trace import Trace
from cfglab.errors import InputError, MachineError
from cfglab.guidance import Guidance, Perturbation, Space
from cfglab.guidance.context import runs
from cfglab.guidance.methods.weak_prediction import check_later_passes
from cfglab.pipelines.guider.call_independence import CallIndependence
from cfglab.pipelines.guider.loop_step import LoopReader, find_host
from cfglab.pipelines.guider.next_call import perturbed_call, replace_next_call, restore_call, sample_of
from cfglab.pipelines.guider.save import as_json_objects, guidance_of
from cfglab.pipelines.guider.step_calls import CONDITIONAL, UNCONDITIONAL, StepCall, as_batch, perturbed
from cfglab.pipelines.interception.channels import channel_dim
from cfglab.pipelines.loading.quiet import quiet
from cfglab.schedules import Constant
from cfglab.step import Step

with quiet():
    from diffusers import __version__ as diffusers_version
    from diffusers.guiders import BaseGuidance as BaseGuidance
    from diffusers.guiders.guider_utils import GuiderOutput

_CALLED = ("set_state", "_prepare_batch", "_prepare_batch_from_block_state", "register_to_config")
"""What a guider calls of diffusers' own."""


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


class Guider(BaseGuidance):  # type: ignore[misc]
    """A diffusers guider that follows a guidance; see `to_guider`.

    The conditional rows run at every step because pipelines read them after the guider. The unconditional rows and
    the rows of perturbed passes run only if an image needs them. The guider is saved and loaded as the JSON of its
    guidance.

    Attributes:
        trace: the Trace of the latest run.
    """

    _input_predictions: ClassVar[list[str]] = [CONDITIONAL.name, UNCONDITIONAL.name]

    def __init__(self, guidance: Any, share_rows: bool | None = None) -> None:
        if missing := [name for name in _CALLED if not hasattr(BaseGuidance, name)]:
            raise MachineError(
                f"diffusers {diffusers_version} has guiders without {', '.join(missing)}: cfglab knows those of 0.42; "
                "install that version, or use guide(pipe, …) on a classic pipeline."
            )
        super().__init__()
        self.several = isinstance(guidance, list | tuple)
        self.guidances = [guidance_of(entry) for entry in (guidance if self.several else [guidance])]
        if not self.guidances:
            raise InputError("an empty list of guidances: give one for all images, or one per image.")
        self.trace = Trace()
        self._runs = 0
        self._scheduler: Any = None
        self._denoisers: tuple[Module, ...] = ()
        self._loop = LoopReader()
        self._loop_step: Step | None = None
        self._prediction: Space = "model"
        self._rows: GuidedRows | None = None
        self._distinct = torch.empty(0)
        self._plan: list[StepCall] = []
        self._latents: Any = None
        self._channel_dim = 1
        self._independence = CallIndependence(share_rows)
        stored, self._unstored = as_json_objects(self.guidances)
        options = {} if share_rows is None else {"share_rows": share_rows}
        self.register_to_config(guidance=stored if stored is None or self.several else stored[0], **options)

    # -- the interface of diffusers, in the order of a pipeline's calls ----------------------------------------------

    @property
    def num_conditions(self) -> int:
        """The number of text conditions: 2, or 1 if the guider is disabled.

        Text encoders read it before the loop, to know whether negative embeddings may be needed. It does not depend on
        a step or on an earlier run.
        """
        return 2 if self._enabled else 1

    @property
    def guidance_scale(self) -> float:
        """The scale w of a constant guidance, for a model that takes the scale as an input.

        Raises:
            InputError: The guidance is a list, or its schedule is not constant.
        """
        schedule = getattr(self.guidances[0], "schedule", None)
        if self.several or not isinstance(schedule, Constant):
            raise InputError(
                f"{self._description()} where one scale is asked for: this model takes the scale as an input, once "
                "for the whole run; use a guider of a single number with it."
            )
        return schedule.value

    def bind(self, scheduler: Any, *denoisers: Module) -> "Guider":
        """Set the scheduler that the guider reads its steps from, for a loop of your own.

        An unbound guider finds the scheduler in the pipeline that calls `set_state`. A bound guider works in any loop.
        The binding is not saved with the guider.

        Args:
            scheduler: A diffusers scheduler; None removes the binding.
            denoisers: The networks that the loop calls. Unneeded calls are skipped only if these are known to keep no
                state between calls, or with `share_rows=True`.

        Returns:
            The guider itself.

        Raises:
            InputError: `scheduler` is not a scheduler, or a denoiser is not a torch module.

        Examples:
            >>> from diffusers import EulerDiscreteScheduler
            >>> from cfglab import to_guider
            >>> scheduler = EulerDiscreteScheduler()
            >>> guider = to_guider("linear(max=8, min=2)", share_rows=True).bind(scheduler)
            >>> scheduler.set_timesteps(4)
            >>> guider.set_state(0, 4, scheduler.timesteps[0])
        """
        if scheduler is not None and not hasattr(scheduler, "set_timesteps"):
            raise InputError(f"bind({type(scheduler).__name__}): it is not a scheduler; give pipe.scheduler.")
        for denoiser in denoisers:
            if not isinstance(denoiser, Module):
                raise InputError(f"bind(…, {type(denoiser).__name__}): it is not a torch module; give pipe.unet.")
        self._scheduler, self._denoisers = scheduler, denoisers
        self._loop, self._rows, self._loop_step = LoopReader(), None, None
        return self

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """Begin a call of the loop.

        Args:
            step: The number of the call, from 0.
            num_inference_steps: The number of steps, as the pipeline reports it; not read.
            timestep: The timestep of the call.

        Raises:
            InputError: The guider is not bound and no calling pipeline has a scheduler, the scheduler has no timesteps,
                the call is past the end of the run, or the pipeline needs diffusers' own guider.
        """
        super().set_state(step, num_inference_steps, timestep)
        pipe = find_host(sys._getframe(1))
        scheduler = self._scheduler_of(pipe)
        self._loop_step, new = self._loop.step(scheduler, step, timestep)
        self._plan, self._latents = [], None
        if new:
            self.trace, self._rows, self._runs = Trace(), None, self._runs + 1
            self._prediction = prediction_of(scheduler)
            self._independence.begin(pipe if getattr(pipe, "scheduler", None) is scheduler else None, self._denoisers)
        self._independence.check()

    def _scheduler_of(self, pipe: Any) -> Any:
        """The bound scheduler, else that of the calling pipeline. Raises InputError."""
        if hasattr(pipe, "audio_guider"):
            raise InputError(
                f"{type(pipe).__name__} needs diffusers' LTX2Guidance, which works on x0 and shares its predictions "
                "with a guider of sound: it cannot use another guider; leave that one."
            )
        if self._scheduler is None and pipe is None:
            raise InputError(
                "a guider's set_state called outside of a pipeline: its scheduler, and with it the step, is not known; "
                "call guider.bind(scheduler) before the loop, or use Guidance.start().combine(uncond, cond, step, "
                "latents)."
            )
        scheduler = pipe.scheduler if self._scheduler is None else self._scheduler
        if getattr(scheduler, "timesteps", None) is None:
            raise InputError(
                f"set_state on a {type(scheduler).__name__} without timesteps: the step is not known; call "
                "scheduler.set_timesteps(...) before the loop."
            )
        return scheduler

    def prepare_inputs(self, data: dict[str, Any]) -> list[Any]:
        """The inputs of each denoiser call of this step.

        Args:
            data: Each input by name; a tuple holds (with the prompt, without the prompt).

        Returns:
            One block of inputs per call.

        Raises:
            InputError: `set_state` was not called, or the unconditional inputs are missing where they are needed.
        """
        self._plan_calls({key: value for key, value in data.items() if isinstance(value, tuple)})
        return [self._prepare_batch(data, call.source, call.name) for call in self._plan]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: dict[str, Any]) -> list[Any]:
        """The inputs of each denoiser call of this step, read from a pipeline's block state.

        Args:
            data: The block state.
            input_fields: The name of each input's field; a tuple names (with the prompt, without the prompt).

        Returns:
            One block of inputs per call.

        Raises:
            InputError: As in `prepare_inputs`.
        """
        pairs = {key: names for key, names in input_fields.items() if isinstance(names, tuple)}
        self._plan_calls({key: tuple(getattr(data, name, None) for name in names) for key, names in pairs.items()})
        return [self._prepare_batch_from_block_state(input_fields, data, call.source, call.name) for call in self._plan]

    @property
    def is_conditional(self) -> bool:
        """Whether the call that is being prepared has the prompt."""
        return not self._plan or self._plan[max(self._count_prepared - 1, 0)].source == 0

    def prepare_models(self, denoiser: torch.nn.Module) -> None:
        """Prepare one denoiser call: record its input if a transform reads it, or change it for a perturbed pass.

        Args:
            denoiser: The network that is called next.

        Raises:
            InputError: The perturbation cannot act on this network.
        """
        super().prepare_models(denoiser)
        if self._enabled and self._rows is None and self._loop_step is not None:
            check_later_passes(self.guidances, denoiser, self._loop_step)
        variation = self._plan[self._count_prepared - 1].variation
        if variation is not None:
            replace_next_call(denoiser, lambda module, args, kwargs: perturbed_call(module, variation, args, kwargs))
        elif self._reads_latents() and self._latents is None:
            replace_next_call(denoiser, self._record_latents)

    def cleanup_models(self, denoiser: torch.nn.Module) -> None:
        """Restore the network after a call.

        Args:
            denoiser: The network that was called.
        """
        restore_call(denoiser)

    def __call__(self, data: Sequence[Any]) -> Any:
        """The guided prediction of this step.

        Args:
            data: One block per call, with its `noise_pred`, (n, ...), in the order of `prepare_inputs`.

        Returns:
            A GuiderOutput with `pred`, `pred_cond` and `pred_uncond` (None if it was not run), each (n, ...).

        Raises:
            InputError: The number of predictions is not that of the calls, or a Guide refuses them.
        """
        if self._loop_step is None or len(data) != len(self._plan):
            raise InputError(
                f"{len(data)} predictions for the {len(self._plan)} calls of this step: call set_state, "
                "prepare_inputs, the denoiser for each of them, then the guider."
            )
        predictions = [call_output.noise_pred for call_output in data]
        cond = predictions[0]
        uncond = predictions[1] if UNCONDITIONAL in self._plan else None
        guided = self._combine(self._loop_step, predictions) if self._enabled else cond
        return GuiderOutput(pred=guided, pred_cond=cond, pred_uncond=uncond)

    def save_config(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration; called by `save_pretrained`.

        Args:
            save_directory: The folder.
            push_to_hub: As in diffusers.
            kwargs: As in diffusers.

        Raises:
            InputError: The guidance cannot be written, because it contains a function.
        """
        if self._unstored:
            raise InputError(self._unstored)
        super().save_config(save_directory, push_to_hub, **kwargs)

    # -- one step --------------------------------------------------------------------------------------------------

    def _plan_calls(self, pairs: Mapping[str, tuple[Any, ...]]) -> None:
        """Decides the calls of this step; `pairs` are the inputs with and without the prompt."""
        if self._loop_step is None:
            raise InputError("prepare_inputs before set_state: the step is not known; call set_state at every step.")
        self._plan = [CONDITIONAL]
        if not self._enabled:
            return
        rows = self._rows or GuidedRows(self.guidances, self._prediction)  # before the first step all images are alike
        needed = rows.needed_rows(self._loop_step)
        unpaired = sorted(
            key for key, pair in pairs.items() if pair[0] is not None and (len(pair) < 2 or pair[1] is None)
        )
        if any(row < rows.images for row in needed.pop(None)) or (
            pairs and not unpaired and self._independence.runs_all_calls()
        ):
            self._plan.append(UNCONDITIONAL)
        for number, variation in enumerate(filter(None, needed), start=1):
            self._plan.append(perturbed(variation, number))
        if any(call.source for call in self._plan) and (unpaired or not pairs):
            raise InputError(
                f"no negative {' or '.join(unpaired) or 'inputs'} at step {self._loop_step.index}, where "
                f"{self._description()} needs the unconditional prediction: pass a negative_prompt, which may be "
                '"", or negative embeddings beside the embeddings.'
            )

    def _combine(self, step: Step, predictions: list[Tensor]) -> Tensor:
        images = len(predictions[0])
        if self._rows is None:
            self._rows = self._rows_of(images)
            self._distinct = torch.arange(2 * images)  # the rows were run one by one: none stands for another
        prediction_of_call = dict(zip(self._plan, predictions, strict=True))
        cond = prediction_of_call[CONDITIONAL]
        uncond = prediction_of_call.get(UNCONDITIONAL, cond)  # where nobody reads it
        extras = {call.variation: prediction for call, prediction in prediction_of_call.items()}

        def denoise(rows: list[int] | None, variation: Perturbation | None) -> Tensor:
            if variation is not None:
                return take(extras[variation], [row % images for row in rows or ()])
            pair = torch.cat([uncond, cond])
            return pair if rows is None else take(pair, rows)

        latents = None if self._latents is None else as_batch(self._latents, cond)
        sample = self._distinct if latents is None else torch.cat([latents, latents])
        guided, record = self._rows.predict(step, sample, [self._distinct], denoise)
        varied = [call.variation for call in self._plan if call.variation is not None]
        perturbed_rows = sum(map(runs, varied))
        rows_run = len(predictions) - len(varied) + perturbed_rows
        rows_saved = 2 + perturbed_rows - rows_run  # of each image: the rows of a call run together
        record = replace(
            record,
            rows_run=images * rows_run,
            rows_saved=images * rows_saved,
            rows_varied=images * perturbed_rows,
            shares=((float(rows_run), float(rows_saved)),) * images,
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
        return GuidedRows(specs, self._prediction, run=self._runs - 1, channel_dim=self._channel_dim)

    def _reads_latents(self) -> bool:
        """Whether a transform could ask what the denoiser saw; plain guidance leaves the denoiser alone."""
        return any(not isinstance(guidance, Guidance) or guidance.transforms for guidance in self.guidances)

    def _record_latents(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._latents = sample_of(args, kwargs)
        self._channel_dim = channel_dim(module, self._latents)
        return module(*args, **kwargs)

    def _description(self) -> str:
        return "a list of guidances" if self.several else str(self.guidances[0])


Guider.__module__ = "cfglab.pipelines.guider"  # the path that stands in saved pipelines
