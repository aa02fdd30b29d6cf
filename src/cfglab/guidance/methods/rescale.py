"""Guidance rescale: the guided prediction with the standard deviation of the conditional one (2305.08891)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Strength
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class Rescale(Transform):
    """Guidance rescale: `g' = phi g std(c) / std(g) + (1 - phi) g`, std over one image; phi is `strength`.

    arXiv:2305.08891, section 3.4, where phi = 0.7 goes with v-prediction and a schedule that ends
    in pure noise. It depends on the parameterization: on epsilon or x0 the same phi has another effect.

    Attributes:
        strength: phi, 0 (plain CFG) to 1.
        space: The parameterization in which it acts; the paper's is v.

    Reference:
        arXiv:2305.08891, section 3.4.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | rescale(strength=0.5)"))
        7.5 | rescale(strength=0.5)
    """

    card: ClassVar[Card] = Card(
        title="Guidance rescale",
        says="The guided prediction at the standard deviation of the conditional one, mixed with itself by phi.",
        formula="phi g std(c) / std(g) + (1 - phi) g",
        paper="2305.08891",
        source="section 3.4",
        defaults="phi (`strength`) 0.7 and v: the paper's",
        hosts=(
            Implementation("diffusers", "`guidance_rescale`, in whatever the model predicts; default 0"),
            Implementation("ComfyUI", "RescaleCFG, in v of a VP model; default 0.7"),
        ),
    )
    reads_uncond: ClassVar[bool] = False

    kind: Literal["rescale"] = "rescale"
    strength: Strength = 0.7
    space: Space = "v"

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        from cfglab.guidance.reductions import safe_divide, std

        return guided * safe_divide(std(context.cond), std(guided))
