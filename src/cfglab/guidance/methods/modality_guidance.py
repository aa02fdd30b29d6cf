"""Modality guidance: away from a prediction whose video and sound do not hear of each other (LTX-2)."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cfglab.errors import InputError
from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.fields import Scale, scale_at
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.base import ConditionalPass
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor

SWITCH = "isolate_modalities"
"""The argument of the network that leaves out the attention between video and sound."""


@dataclass(frozen=True)
class IsolatedModalities(ConditionalPass):
    """A perturbed pass: the conditional rows, without attention between video and sound."""

    def applied(self, denoiser: Any) -> "AbstractContextManager[Any]":
        return nullcontext(denoiser)

    def inputs(
        self, sample: "Tensor", timestep: Any, conditioning: Mapping[str, Any]
    ) -> "tuple[Tensor, Any, Mapping[str, Any]]":
        if SWITCH not in conditioning:
            raise InputError(
                f"modality_guidance(): this network is called without {SWITCH!r}, so it has no video and sound to keep "
                "apart; leave it out, or use a pipeline that has modality_scale, such as LTX2Pipeline."
            )
        return sample, timestep, {**conditioning, SWITCH: True}


class ModalityGuidance(Transform):
    """`g + (s - 1) (c - c~)`, where c~ has no attention between video and sound: LTX-2's modality isolation guidance.

    It is done for the video with `s` and for its sound with `audio`, in one perturbed pass, also at w = 1. It takes the
    place of the pipeline's own `modality_scale` and `audio_modality_scale`. 1 is no modality guidance. A network that
    predicts no sound refuses it.

    Attributes:
        s: The scale of the video: a number, or the text of a schedule.
        audio: The scale of the sound: a number, or the text of a schedule.

    Reference:
        diffusers' LTX2Pipeline.

    Examples:
        >>> from cfglab import Guidance, steps
        >>> guide = Guidance("3 | modality_guidance(s='linear(max=3, min=1)')").start()
        >>> guide.plan(steps(4)[0]).evaluations
        3
    """

    card: ClassVar[Card] = Card(
        title="Modality guidance (LTX-2)",
        needs="sound of a video",
        says="Away from a prediction whose video and sound do not attend to each other.",
        formula="g + (s - 1) (c - c~), c~ without attention between video and sound",
        source="diffusers' LTX2Pipeline",
        rows="3 (2 at w = 1)",
        defaults="3 for both: those of diffusers",
        hosts=(Implementation("diffusers", "`modality_scale` and `audio_modality_scale`, one number for all steps"),),
    )
    reads_uncond: ClassVar[bool] = False

    kind: Literal["modality_guidance"] = "modality_guidance"
    space: Space = "model"
    s: Scale = 3.0
    audio: Scale = 3.0

    def of_sound(self) -> "ModalityGuidance":
        return self.model_copy(update={"s": self.audio})

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return IsolatedModalities()

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        if context.extra is None:
            return guided
        return guided + (scale_at(self.s, context.step) - 1) * (context.cond - context.extra)
