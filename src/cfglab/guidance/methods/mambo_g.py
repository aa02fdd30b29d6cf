"""MAMBO-G (first called RAAG): the scale from the size of the update (2508.03442)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class MagnitudeAware(Transform):
    """`w -> 1 + (w - 1) exp(-alpha r)`, `r = |c - u| / |u|` of each image: MAMBO-G, first called RAAG.

    arXiv:2508.03442, on the velocity of a flow; the ratio depends on the parameterization. The schedule
    gives the largest scale.

    Attributes:
        space: The parameterization of the ratio; the paper's is the velocity of a flow.
        alpha: The exponential rate, 0 or more; 0 is plain CFG.

    Reference:
        arXiv:2508.03442.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("10 | magnitude_aware(alpha=8)"))
        10 | magnitude_aware()
    """

    card: ClassVar[Card] = Card(
        title="Magnitude-aware guidance (MAMBO-G, RAAG)",
        says="Less guidance where the two predictions differ much, as they do in the first steps.",
        formula="w = 1 + (w_max - 1) exp(-alpha |c - u| / |u|)",
        paper="2508.03442",
        defaults="alpha 8, with w_max 10 as the schedule: diffusers' guider",
        hosts=(Implementation("diffusers", "MagnitudeAwareGuidance, in whatever the model predicts: space=model"),),
    )

    kind: Literal["magnitude_aware"] = "magnitude_aware"
    space: Space = "flow"
    alpha: NotNegative = 8.0

    def scale(self, w: "float | Tensor", context: StepContext) -> "float | Tensor":
        from cfglab.guidance.reductions import norm, safe_divide

        return (
            1
            + (w - 1)
            * (-self.alpha * safe_divide(norm(context.cond - context.uncond), norm(context.uncond), 0.0)).exp()
        )
