"""Dynamic thresholding of Imagen: the clean image clipped at a quantile (2205.11487)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Positive, Quantile
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class ImagenThreshold(Transform):
    """`D -> limit clamp(D, -s, s) / s`, `s = max(limit, quantile_p |D|)`, per image, on x0; p is `percentile`.

    arXiv:2205.11487, section 2.3, for images in [-1, 1], `limit` 1; latents have another range, so set `limit` to
    theirs. Acts on conditional and unguided predictions too.

    Attributes:
        space: The parameterization in which it acts; the paper's is x0.
        percentile: The quantile of |D|, above 0 and at most 1.
        limit: The largest absolute value of an image, above 0, in the unit of the predictions.

    Reference:
        arXiv:2205.11487, section 2.3.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | imagen_threshold(limit=4)"))
        7.5 | imagen_threshold(limit=4)
    """

    card: ClassVar[Card] = Card(
        title="Dynamic thresholding (Imagen)",
        says="The clean image is clipped at a quantile of its own values and pressed back into the image's range.",
        formula="s = max(limit, quantile_p |D|); limit clamp(D, -s, s) / s",
        paper="2205.11487",
        source="section 2.3; the quantile 0.995 is diffusers' `dynamic_thresholding_ratio`",
        rows="2 (1 at w = 1)",
        defaults="`limit` 1 is the paper's, `percentile` 0.995 diffusers'",
        hosts=(
            Implementation(
                "diffusers",
                "`thresholding=True` of a scheduler; its default `sample_max_value=1.0` holds s at 1, which is plain "
                "clipping",
            ),
        ),
    )
    reads_uncond: ClassVar[bool] = False
    acts_when_equal: ClassVar[bool] = True

    kind: Literal["imagen_threshold"] = "imagen_threshold"
    space: Space = "x0"
    percentile: Quantile = 0.995
    limit: Positive = 1.0

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        from cfglab.guidance.reductions import quantile

        s = quantile(guided.abs(), self.percentile).clamp(min=self.limit)
        return guided.clamp(-s, s) * (self.limit / s)
