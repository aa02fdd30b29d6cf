"""Epsilon scaling: the predicted noise divided by a number just above 1, against exposure bias (2308.15321)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Positive
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class EpsilonScaling(Transform):
    """`epsilon -> epsilon / factor` of the guided prediction, with or without CFG: at w = 1 one row an image.

    arXiv:2308.15321, its uniform schedule. The factor is the model's and the sampler's: the authors' EDM-ES has 1.0006
    for 18 Heun steps and 1.0048 for 13 Euler steps on CIFAR-10; 1.005 is the default of ComfyUI's node.

    Attributes:
        factor: The divisor of epsilon, above 0; 1 changes nothing.

    Reference:
        arXiv:2308.15321.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("1 | epsilon_scaling(factor=1.005)").start().plan(Step(index=0, count=4)).evaluations
        1
    """

    card: ClassVar[Card] = Card(
        title="Epsilon scaling",
        says="The predicted noise is divided by a number just above 1, which makes up for errors that add up.",
        formula="epsilon / factor",
        paper="2308.15321",
        source="the uniform schedule",
        rows="2 (1 at w = 1)",
        defaults="1.005: ComfyUI's; the authors' EDM-ES uses 1.0006 to 1.0048 by setting",
        hosts=(Implementation("ComfyUI", "on the residual x - D: epsilon on a VP model, the velocity on a flow"),),
    )
    reads_uncond: ClassVar[bool] = False
    acts_when_equal: ClassVar[bool] = True

    kind: Literal["epsilon_scaling"] = "epsilon_scaling"
    factor: Positive = 1.005

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        return guided / self.factor
