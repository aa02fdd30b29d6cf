"""ADG, angle domain guidance: the clean image is turned away from the unconditional one (2506.11039)."""

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card
from cfglab.schedules.fields import Real, bounded

if TYPE_CHECKING:
    from torch import Tensor

STRAIGHT = 1e-3
"""The sine below which two predictions count as parallel, as in the authors' code."""

Degrees = Annotated[
    Real, bounded(lambda value: 0 < value <= 90, "it is an angle above 0 and up to 90, in degrees; write 60.")
]


class ADG(Transform):
    """`cos(t') D_c + (sin(t') / sin(t)) D_orth`, `t' = min((w - 1) t, max_angle)`, with t the angle from D_u to D_c.

    arXiv:2506.11039, on clean images; D_orth is the part of D_c that is orthogonal to D_u, per image. Where the two are
    parallel, sin(t) below 0.001, the factor is w - 1. It takes the place of `u + w (c - u)`; w below 1 counts as 1,
    as in the authors' code, which adds 0.001 to w - 1.

    Attributes:
        space: The parameterization in which it acts; the paper's is x0.
        max_angle: The largest turn, in degrees, above 0 and up to 90.
        keep_norm: Whether every position gets the length of D_c over its channels again (`ADG_SD3_w_norm`).

    Reference:
        arXiv:2506.11039; jinc7461/ADG, `ADG_SD3.py`.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("4 | adg(max_angle=45)"))
        4 | adg(max_angle=45)
    """

    card: ClassVar[Card] = Card(
        title="Angle domain guidance (ADG)",
        says="The clean image is turned away from the unconditional one instead of being stretched.",
        formula="cos(t') D_c + sin(t') / sin(t) (D_c - <D_c, D_u> / |D_u|^2 D_u), t' = min((w - 1) t, max_angle)",
        paper="2506.11039",
        source="jinc7461/ADG, ADG_SD3.py, which writes pi as 3.14 and w - 1 as w - 0.999",
        defaults="60 degrees: the authors' code; their example has w 4 for SD 3.5",
    )

    replaces: ClassVar[Literal["cond", "uncond", "both", "guided"] | None] = "guided"

    kind: Literal["adg"] = "adg"
    space: Space = "x0"
    max_angle: Degrees = 60.0
    keep_norm: bool = False

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        import torch

        from cfglab.guidance.reductions import channel_norm, dot, norm, safe_divide

        cond, uncond, w = context.cond, context.uncond, context.w
        share = safe_divide(dot(cond, uncond), dot(uncond, uncond), 0.0)
        orthogonal = cond - share * uncond
        angle = torch.atan2(norm(orthogonal), share * norm(uncond))
        further = max(w - 1, 0.0) if isinstance(w, float | int) else (w - 1).clamp(min=0)
        turn = (further * angle).clamp(max=math.radians(self.max_angle))
        sine = angle.sin()
        factor = torch.where(sine > STRAIGHT, safe_divide(turn.sin(), sine), further)
        turned = turn.cos() * cond + factor * orthogonal
        if not self.keep_norm:
            return turned
        return turned * safe_divide(channel_norm(cond, context.channel_dim), channel_norm(turned, context.channel_dim))
