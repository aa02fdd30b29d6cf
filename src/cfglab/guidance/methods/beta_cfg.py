"""beta-CFG: the update divided by a power of its own norm (2502.10574)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card

if TYPE_CHECKING:
    from torch import Tensor


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
