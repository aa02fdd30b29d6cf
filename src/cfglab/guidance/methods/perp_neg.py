"""Perp-Neg: a negative prompt without its part along the prompt (2304.04968)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.methods.second_prompt import SecondPromptUpdate
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class PerpNeg(SecondPromptUpdate):
    """`u + w (p - weight (n - <n, p> / |p|^2 p))`: the negative prompt counts where it is perpendicular to the prompt.

    arXiv:2304.04968; p = c - u and n are differences from the prediction without a prompt, per image, so
    the pipeline's own negative prompt is left empty. Several of them add up, each against the same p.

    Attributes:
        prompt: The negative prompt.
        weight: The factor of its perpendicular part, 0 or more.

    Reference:
        arXiv:2304.04968.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("7.5 | perp_neg(prompt=blurry)").start().plan(Step(index=0, count=4)).evaluations
        3
    """

    card: ClassVar[Card] = Card(
        title="Perp-Neg",
        needs="prompt",
        says="A negative prompt that cannot take back what the prompt asks for.",
        formula="u + w (p - weight (n - <n, p> / |p|^2 p)), p = c - u, n = c_neg - u",
        paper="2304.04968",
        source="as ComfyUI's nodes_perpneg.py has it, image by image",
        rows="3",
        defaults="weight 1: ComfyUI's; the paper chooses it per prompt",
        hosts=(Implementation("ComfyUI", "the projection sums over the whole batch, on x0"),),
    )

    kind: Literal["perp_neg"] = "perp_neg"
    weight: NotNegative = 1.0

    def changed(self, update: "Tensor", second: "Tensor", context: StepContext) -> "Tensor":
        from cfglab.guidance.reductions import along

        return update - self.weight * (second - along(second, context.cond - context.uncond))
