"""Momentum guidance: away from the running mean of past velocities (2602.20360)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Forgetting, NotNegative
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class MomentumGuidance(Transform):
    """`g -> g + alpha (g - m)`, then `m -> (1 - beta) g + beta m`; m starts as the first g.

    arXiv:2602.20360, algorithm 1, on the velocity of a flow, with or without CFG: at w = 1 no unconditional row runs.
    beta = 0, alpha = 1/2 is the two-step Adams-Bashforth method on even steps. A two-call sampler counts every call.

    Attributes:
        space: The parameterization in which it acts; the paper's is the velocity of a flow.
        alpha: The factor of `g - m`, 0 or more; 0 changes nothing.
        beta: The share of the mean m that is kept at a step, 0 to below 1.

    Reference:
        arXiv:2602.20360, algorithm 1.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("1 | momentum(alpha=0.5)").start().plan(Step(index=0, count=4)).evaluations
        1
    """

    card: ClassVar[Card] = Card(
        title="Momentum guidance",
        says="Each velocity is extrapolated away from the running average of those before it.",
        formula="g + alpha (g - m); m <- (1 - beta) g + beta m",
        paper="2602.20360",
        source="algorithm 1",
        rows="2 (1 at w = 1)",
        defaults="alpha 0.5 and beta 0.6: the ComfyUI node of pamparamm/sd-perturbed-attention, not the paper's",
        hosts=(Implementation("ComfyUI", "a custom node, on x0 instead of the velocity: momentum(space=x0)"),),
    )
    reads_uncond: ClassVar[bool] = False
    acts_when_equal: ClassVar[bool] = True

    kind: Literal["momentum"] = "momentum"
    space: Space = "flow"
    alpha: NotNegative = 0.5
    beta: Forgetting = 0.6

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        mean = context.memory.get("mean", guided)
        context.memory["mean"] = guided.lerp(mean, self.beta)
        return guided + self.alpha * (guided - mean)
