"""The scale computed from the predictions: magnitude-aware guidance and the power norm of beta-CFG."""

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


class UpdatePower(Transform):
    """`c - u -> (c - u) / |c - u|^gamma`: the normalisation of beta-CFG. gamma 0 is plain CFG.

    arXiv:2502.10574, where the scale is `w Beta(a, b).pdf(progress)`: `beta(w, a, b) | update_power(gamma=1)`. At
    gamma = 1 the update has the length w, whatever the model says; cf_guidance's T-Norm (`update_norm`) is its
    relative with the length w |u|.

    Attributes:
        gamma: The exponent of the norm, 0 or more.

    Reference:
        arXiv:2502.10574.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("beta(scale=7.5, a=2, b=3) | update_power(gamma=1)"))
        beta(scale=7.5) | update_power(gamma=1)
    """

    card: ClassVar[Card] = Card(
        title="Power norm of the update (beta-CFG)",
        says="The update is divided by a power of its own length.",
        formula="u + w (c - u) / |c - u|^gamma",
        paper="2502.10574",
        source="ddim_geo_beta of gmum/beta-CFG",
        defaults="none: gamma has to be said; the code's example has gamma 1, w 7.5 and Beta(2, 3)",
    )

    kind: Literal["update_power"] = "update_power"
    gamma: NotNegative

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        from cfglab.guidance.reductions import norm, safe_divide

        return safe_divide(update, norm(update).pow(self.gamma), 0.0)
