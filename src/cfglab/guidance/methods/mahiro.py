"""MaHiRo: the guided prediction moves towards w times the conditional one where the two agree less (ComfyUI)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class MaHiRo(Transform):
    """`g' = g + (4 - k) / 4 (w c - g)`, `k = 2 (s + 1)`, on x0.

    s is the mean over the positions of one image of the cosine, over channels, between the signed square roots of `w u`
    and of `(w c + g) / 2`. ComfyUI's nodes_mahiro.py; no paper.

    Attributes:
        space: The parameterization in which it acts; the node's is x0.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | mahiro()"))
        7.5 | mahiro()
    """

    card: ClassVar[Card] = Card(
        title="MaHiRo",
        says="The guided prediction moves towards w times the conditional one, the more the less the two agree.",
        formula="(k g + (4 - k) w c) / 4, k = 2 (1 + mean cos(sqrt(w u), sqrt((w c + g) / 2)))",
        source="ComfyUI, comfy_extras/nodes_mahiro.py",
        defaults="it has no parameters",
        hosts=(Implementation("ComfyUI", "the mean of the cosine is over the whole batch"),),
    )

    kind: Literal["mahiro"] = "mahiro"
    space: Space = "x0"

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        from cfglab.guidance.reductions import channel_dot, channel_norm

        dim = context.channel_dim
        leap = context.w * context.cond
        ours, theirs = _root(context.w * context.uncond), _root((leap + guided) / 2)
        lengths = channel_norm(ours, dim) * channel_norm(theirs, dim)
        cosines = channel_dot(ours, theirs, dim) / lengths.clamp(min=1e-8)
        agreed = cosines.flatten(1).mean(1).reshape(-1, *[1] * (guided.ndim - 1))
        return guided + (1 - agreed) / 2 * (leap - guided)


def _root(tensor: "Tensor") -> "Tensor":
    return tensor.abs().sqrt().copysign(tensor)
