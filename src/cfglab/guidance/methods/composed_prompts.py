"""Composed prompts: conjunction and negation of two prompts (2206.01714)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.methods.second_prompt import SecondPromptUpdate
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real

if TYPE_CHECKING:
    from torch import Tensor


class Composed(SecondPromptUpdate):
    """`u + w ((c - u) + weight (c' - u))`: one more prompt beside the first, or against it with a negative weight.

    arXiv:2206.01714, conjunction and negation; there every prompt has a scale of its own, here those
    of the others are multiples of the schedule. Several of them add up.

    Attributes:
        prompt: The other prompt.
        weight: Its factor, a finite number; negative for negation.

    Reference:
        arXiv:2206.01714.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | composed(prompt='a red hat', weight=0.5)"))
        7.5 | composed(prompt='a red hat', weight=0.5)
    """

    card: ClassVar[Card] = Card(
        title="Composed prompts",
        needs="prompt",
        says="Two prompts at once, each with its own weight; a negative one takes its prompt away.",
        formula="u + w ((c - u) + weight (c' - u))",
        paper="2206.01714",
        source="conjunction, and negation with a negative weight",
        rows="3",
        defaults="weight 1: both prompts count the same",
        hosts=(
            Implementation("A1111", "AND between prompts"),
            Implementation("diffusers", "a community pipeline, composable_stable_diffusion"),
        ),
    )

    kind: Literal["composed"] = "composed"
    weight: Real = 1.0

    def changed(self, update: "Tensor", second: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        return update + self.weight * second
