"""Dynamic thresholding of mcmonkey: a high scale with the spread of a lower one."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Quantile
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real

if TYPE_CHECKING:
    from torch import Tensor


class MimicThreshold(Transform):
    """`g -> clamp(g, -M, M) max|m| / M`, `M = max(max|m|, quantile_p |g|)`, `m = u + mimic (c - u)`, on x0.

    The guided prediction gets the spread that the lower scale `mimic` would have. g and m are centred by the means of
    their channels, and the means of g are added again. With `measure="std"` the centred g is multiplied by
    `std(m) / std(g)` instead. `start="zero"` multiplies g, not centred, by the ratio of the two spreads. Statistics are
    per channel, or per image with `per_channel=False` (over the whole batch in sd-dynamic-thresholding). Its
    `interpolate_phi` is `strength`. It also schedules `mimic`, which is one number here. No paper.

    Attributes:
        space: The parameterization in which it acts; "x0" by default.
        mimic: The scale whose spread is kept, a finite number.
        percentile: The quantile of |g|, above 0 and at most 1.
        start: "mean": centred by the channel means; "zero": not centred.
        measure: The spread, "ad" (absolute deviation) or "std" (standard deviation).
        per_channel: True for statistics of every channel, False for those of the image.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("15 | mimic_threshold(mimic=5)"))
        15 | mimic_threshold(mimic=5)
    """

    card: ClassVar[Card] = Card(
        title="Dynamic thresholding (mcmonkey)",
        says="A high scale with the spread of a lower one: centred, clamped and shrunk to what `mimic` would give.",
        formula="M = max(max |m|, quantile_p |g|); clamp(g, -M, M) max |m| / M, about the channel means",
        source="mcmonkeyprojects/sd-dynamic-thresholding, dynthres_core.py",
        defaults="its ComfyUI node's: mimic 7, percentile 1, mean, AD, per channel",
        hosts=(
            Implementation(
                "ComfyUI, Forge, A1111",
                "statistics over the whole batch where channels are not separate; the node leaves w = mimic alone",
            ),
        ),
    )

    kind: Literal["mimic_threshold"] = "mimic_threshold"
    space: Space = "x0"
    mimic: Real = 7.0
    percentile: Quantile = 1.0
    start: Literal["mean", "zero"] = "mean"
    measure: Literal["ad", "std"] = "ad"
    per_channel: bool = True

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        return self._limited(
            *(x.movedim(context.channel_dim, 1) for x in (guided, context.cond, context.uncond))
        ).movedim(1, context.channel_dim)

    def _limited(self, guided: "Tensor", cond: "Tensor", uncond: "Tensor") -> "Tensor":
        """The guided prediction; (n, channels, ...) in and out."""
        from cfglab.guidance.reductions import flat_std, quantile, safe_divide

        keep = 2 if self.per_channel and guided.ndim > 2 else 1

        def centred(x: "Tensor") -> "Tensor":
            return x - x.flatten(2).mean(2).reshape(*x.shape[:2], *[1] * (x.ndim - 2)) if x.ndim > 2 else x

        def spread(x: "Tensor", q: float) -> "Tensor":
            if self.measure == "ad":
                return quantile(x.abs(), q, keep)
            return flat_std(x, keep).reshape(*x.shape[:keep], *[1] * (x.ndim - keep))

        g = centred(guided)
        target = spread(centred(uncond + self.mimic * (cond - uncond)), 1.0)
        measured = spread(g, self.percentile)
        if self.start == "zero":
            return guided * safe_divide(target, measured)
        if self.measure == "std":
            return guided + (g * safe_divide(target, measured) - g)
        top = target.maximum(measured)
        return guided + (g.clamp(-top, top) * safe_divide(target, top) - g)
