"""Audio guidance: a scale of its own for the sound of a video."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from cfglab.errors import InputError
from cfglab.guidance.context import Perturbation
from cfglab.guidance.fields import Scale
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.base import ConditionalPass
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.step import Step


@dataclass(frozen=True)
class Sound(ConditionalPass):
    """The prediction of the sound, which comes with that of the video. A host without sound cannot make it."""

    runs: ClassVar[int] = 0
    part: ClassVar[str] = "sound"

    def applied(self, denoiser: Any) -> "AbstractContextManager[Any]":
        raise InputError(
            f"audio_guidance() with a {type(denoiser).__name__}: this pipeline guides no sound beside a video, so it "
            "has no second scale; leave it out, or use a pipeline that has audio_guidance_scale, such as LTX2Pipeline."
        )


class AudioGuidance(Transform):
    """A scale for the sound beside w for the video, of networks that predict both in one call (LTX-2).

    The sound is guided by `u + w_a (c - u)` of its own predictions, and by the other methods of the guidance with its
    own norms and memories. Without this the sound keeps the pipeline's own `audio_guidance_scale` at every step. At a
    strength below 1 its scale is that share of the way from there to `w`. Where `w` is off, so is the guidance of the
    sound, whatever the schedule of the video is. A pipeline that guides no sound refuses it.

    Attributes:
        w: The scale of the sound: a number, or the text of a schedule.

    Reference:
        diffusers' LTX2Pipeline.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("3 | audio_guidance(w='linear(max=7, min=1)')"))
        3 | audio_guidance(w='linear(max=7, min=1)')
    """

    card: ClassVar[Card] = Card(
        title="Audio guidance (LTX-2)",
        needs="sound of a video",
        says="A scale of its own for the sound that a network predicts with its video, which may follow a schedule.",
        formula="u_a + w_a (c_a - u_a) for the sound, u + w (c - u) for the video",
        source="diffusers' LTX2Pipeline",
        defaults="w 7: that of diffusers, which its authors suggest for LTX-2.3",
        hosts=(Implementation("diffusers", "`audio_guidance_scale`, one number for all steps"),),
    )

    reads_uncond: ClassVar[bool] = False

    kind: Literal["audio_guidance"] = "audio_guidance"
    space: Space = "model"
    w: Scale = 7.0

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return Sound()
