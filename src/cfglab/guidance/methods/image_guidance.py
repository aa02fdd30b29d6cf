"""Image guidance: a scale for the image that an edit model starts from (2211.09800)."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cfglab.errors import InputError
from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.fields import Scale, scale_at
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.base import UnchangedInputs
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WithoutImage(UnchangedInputs):
    """The rows with neither the text nor the image to edit, which the pipelines of edit models run in their own batch.

    They cost nothing more there, and a host without such rows cannot make them.

    Attributes:
        method: The transform that needs them, for the message.
    """

    method: str = field(default="image_guidance()", compare=False)
    runs: ClassVar[int] = 0
    part: ClassVar[str] = "neither"

    @property
    def source(self) -> Literal["cond", "uncond"]:
        return "uncond"

    def applied(self, denoiser: Any) -> "AbstractContextManager[Any]":
        raise InputError(
            f"{self.method} with a {type(denoiser).__name__}: this pipeline has no rows without the image to edit, "
            "so there is no image scale; leave it out, or use a pipeline that has image_guidance_scale, such as "
            "StableDiffusionInstructPix2PixPipeline."
        )


class ImageGuidance(Transform):
    """`n + s (u - n) + w (c - u)`: a scale s for the image to edit beside w for the text.

    arXiv:2211.09800, equation 3. u has the image and not the text, n has neither. The pipelines of such models run
    the rows of n themselves; elsewhere it is refused. It takes the place of the pipeline's own `image_guidance_scale`,
    and may follow a schedule. s = 1 is no image guidance.

    Attributes:
        s: The scale of the image: a number, or the text of a schedule.

    Reference:
        arXiv:2211.09800, equation 3.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | image_guidance(s='linear(max=2, min=1)')"))
        7.5 | image_guidance(s='linear(max=2, min=1)')
    """

    card: ClassVar[Card] = Card(
        title="Image guidance (InstructPix2Pix)",
        needs="image to edit",
        says="A scale of its own for the image to edit, which may follow a schedule.",
        formula="n + s (u - n) + w (c - u), u without the text, n without text and image",
        paper="2211.09800",
        source="equation 3; diffusers' StableDiffusionInstructPix2PixPipeline",
        rows="3",
        defaults="s 1.5: the authors' and diffusers'",
        hosts=(
            Implementation("diffusers", "`image_guidance_scale`, one number for all steps"),
            Implementation("ComfyUI", "DualCFGGuider with the image in both of its conditionings"),
        ),
    )

    kind: Literal["image_guidance"] = "image_guidance"
    space: Space = "model"
    s: Scale = 1.5

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return WithoutImage()

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        if context.extra is None:
            return guided
        return guided + (scale_at(self.s, context.step) - 1) * (context.uncond - context.extra)
