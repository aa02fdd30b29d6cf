"""Dual classifier-free guidance: a scale for each of two conditions (2211.09800)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.methods.second_prompt import SecondPromptTransform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real

if TYPE_CHECKING:
    from torch import Tensor


class DualCFG(SecondPromptTransform):
    """`u + middle (m - u) + w (c - m)`: two scales, one from nothing to a middle prompt, one from there to the prompt.

    arXiv:2211.09800, whose middle is the image to be edited; here it is a second prompt, as in ComfyUI's
    node. At middle = w it is plain CFG.

    Attributes:
        prompt: The middle prompt.
        middle: The scale from the unconditional prediction to the middle one, a finite number.

    Reference:
        arXiv:2211.09800.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | dual_cfg(prompt='a hat', middle=2)"))
        7.5 | dual_cfg(prompt='a hat', middle=2)
    """

    card: ClassVar[Card] = Card(
        title="Dual classifier-free guidance",
        needs="prompt",
        says="Two scales: from nothing to a middle prompt, and from there to the prompt.",
        formula="u + middle (m - u) + w (c - m)",
        paper="2211.09800",
        source="diffusers' StableDiffusionInstructPix2PixPipeline",
        rows="3",
        defaults="middle 1.5: InstructPix2Pix's image scale",
        hosts=(
            Implementation("diffusers", "InstructPix2Pix, whose middle is the image without the text"),
            Implementation("ComfyUI", "DualCFGGuider is this; its nested style scales the whole again"),
        ),
    )

    kind: Literal["dual_cfg"] = "dual_cfg"
    middle: Real = 1.5

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        return (
            guided if context.extra is None else guided + (self.middle - context.w) * (context.extra - context.uncond)
        )
