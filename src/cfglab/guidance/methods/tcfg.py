"""TCFG, tangential damping: the unconditional prediction along the leading direction only (2503.18137)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class TCFG(Transform):
    """`g = u' + w (c - u')`, `u' = <u, v_1> v_1`, v_1 the leading right-singular vector of the two rows `[c; u]`.

    arXiv:2503.18137, on scores. The Gram numbers `cc`, `cu`, `uu` of one image give the projection without an SVD:
    `u' = u (1 - (cc - uu) / r) / 2 + c cu / r`, `r = hypot(cc - uu, 2 cu)`. If r is 0 (c and u of one length, at right
    angles) there is no leading direction, and u is unchanged.

    Reference:
        arXiv:2503.18137.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | tcfg()"))
        7.5 | tcfg()
    """

    card: ClassVar[Card] = Card(
        title="Tangential damping CFG (TCFG)",
        says="The unconditional prediction keeps only its part along the direction it shares with the conditional one.",
        formula="u' = u (1 - (cc - uu) / r) / 2 + c cu / r, r = hypot(cc - uu, 2 cu); u' + w (c - u')",
        paper="2503.18137",
        source="the projection by SVD as in diffusers and ComfyUI; the Gram form is equal",
        defaults="it has no parameters",
        hosts=(
            Implementation("diffusers", "by an SVD, in what the model predicts"),
            Implementation(
                "ComfyUI", "by an SVD, on the residual x - D: epsilon on a VP model, the velocity on a flow"
            ),
        ),
    )

    kind: Literal["tcfg"] = "tcfg"

    def unconditional(self, uncond: "Tensor", context: StepContext) -> "Tensor":
        from cfglab.guidance.reductions import dot

        cc, cu, uu = dot(context.cond, context.cond), dot(context.cond, uncond), dot(uncond, uncond)
        unit = (cc + uu).where(cc + uu > 0, 1.0)
        cc, cu, uu = cc / unit, cu / unit, uu / unit
        r = (cc - uu).hypot(2 * cu)
        divisor = r.where(r > 0, 1.0)
        return (uncond * ((1 - (cc - uu) / divisor) / 2) + context.cond * (cu / divisor)).where(r > 0, uncond)
