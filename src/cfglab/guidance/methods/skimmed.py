"""Skimmed CFG: a lower scale where guidance moves values further out (Extraltodeus)."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from cfglab.guidance.context import StepContext, divided
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class Skimmed(Transform):
    """`g = u + (skim if mask else w) (c - u)`, value by value on x0, with `D = u + w (c - u)`.

    The mask is `sign(c - u) = sign(c) = sign(D) = sign(D - x)`: the update moves a value away from zero, and beyond x.
    `flips=False` leaves out the last sign. Before that, the same is done to u with c and u exchanged (at scale 0 with
    `full_negative`). From skimmed_CFG.py, the single-scale node as it was published in September 2024; no paper.
    `as_in="comfyui"` is that node since October 2024, which hands w - 1 to the part for c: D of the mask is
    `u + (w - 1) (c - u)`, and the scale inside the mask is `skim w / (w - 1)`. x is the noisy image as in ComfyUI:
    `latents / alpha` of a VP model, the latents of a flow. Raises InputError without latents.

    Attributes:
        space: x0, the only parameterization in which it acts.
        skim: The scale inside the mask, 0 or more.
        full_negative: Whether the scale for u is 0 inside the mask.
        flips: Whether the mask needs `sign(D) = sign(D - x)` too.
        as_in: The variant, "published" or "comfyui".

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("10 | skimmed(skim=4)"))
        10 | skimmed(skim=4)
    """

    card: ClassVar[Card] = Card(
        title="Skimmed CFG",
        says="Values that guidance would only push further out are guided with a lower scale.",
        formula="u + skim (c - u) where sign(c - u) = sign(c) = sign(D) = sign(D - x), else D = u + w (c - u)",
        source="Extraltodeus/Skimmed_CFG, skimmed_CFG.py, CFG_skimming_single_scale_pre_cfg_node",
        defaults="its node's: 7",
        hosts=(
            Implementation(
                "ComfyUI", "a custom node; w - 1 in place of w for c since October 2024: as_in=comfyui; other variants"
            ),
        ),
    )

    kind: Literal["skimmed"] = "skimmed"
    space: Literal["x0"] = "x0"
    skim: NotNegative = 7.0
    full_negative: bool = False
    flips: bool = True
    as_in: Literal["published", "comfyui"] = "published"

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `as_in` at its default: cells of before there was such a field keep their id."""
        content: dict[str, Any] = write(self)
        if self.as_in == "published":
            content.pop("as_in", None)
        return content

    def unconditional(self, uncond: "Tensor", context: StepContext) -> "Tensor":
        away = uncond - context.cond
        skim = 0.0 if self.full_negative else self.skim
        return uncond - self._outside(uncond, away, context.cond + context.w * away, context) * context.over_w(
            (context.w - skim) * away
        )

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":
        w = context.w - (self.as_in == "comfyui")
        outside = self._outside(context.uncond + update, update, context.uncond + w * update, context)
        return update - outside * divided((w - self.skim) * update, w)

    def _outside(self, prediction: "Tensor", direction: "Tensor", guided: "Tensor", context: StepContext) -> "Tensor":
        """Where `direction`, which ends at `prediction`, moves a value away from zero and beyond x."""
        sign = prediction.sign()
        outside = (direction.sign() == sign) & (sign == guided.sign())
        return outside & (guided.sign() == -context.residual(guided).sign()) if self.flips else outside
