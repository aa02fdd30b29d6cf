"""CFGNorm: the guided prediction with the norm of a reference; the family of five programs."""

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class CFGNorm(Transform):
    """`g -> g * clamp(times |ref| / |g|, min, max)`, the norms over `axis`.

    `reference` is "cond" or "uncond"; `axis` is "image" (all but the batch), "channel" (dimension 1) or "last" (the
    last one: the channels of packed tokens, but the columns of (n, c, h, w)). No paper; by the members' names:

    - cf_guidance's BaseNorm: `cfg_norm(reference="uncond")` in the model's space, also `prediction_norm`
    - ComfyUI's CFGNorm: `cfg_norm(axis="channel", max=1, space="x0")`; its strength s is `times=s, max=s`
    - Qwen-Image: `cfg_norm(axis="last")` on its packed tokens; Lumina 2 the same on (n, c, h, w), so by columns
    - Z-Image with `cfg_normalization=k`: `cfg_norm(times=k, max=1)`

    Attributes:
        space: The parameterization of the norms; "flow" by default.
        reference: The prediction whose norm is the target, "cond" or "uncond".
        axis: The dimensions of one norm, "image", "channel" or "last".
        times: The factor of the target norm, 0 or more.
        min: The smallest factor of g, 0 or more.
        max: The largest factor of g, at least `min`; None for no limit.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | cfg_norm(axis=channel, max=1, space=x0)"))
        7.5 | cfg_norm(space=x0, axis=channel, max=1)
    """

    card: ClassVar[Card] = Card(
        title="CFGNorm, the family",
        says="The guided prediction is shortened or stretched to the length of the conditional or unconditional one.",
        formula="g clamp(times |ref| / |g|, min, max)",
        source="diffusers' Qwen-Image, Lumina 2 and Z-Image pipelines, ComfyUI's nodes_cfg.py, cf_guidance 0.0.3",
        defaults="neutral: the whole image, not clamped, the conditional prediction",
        hosts=(
            Implementation("diffusers, Qwen-Image", "axis=last on packed tokens"),
            Implementation("diffusers, Lumina 2", "axis=last on (n, c, h, w): by columns, not by channels"),
            Implementation("diffusers, Z-Image", "times=cfg_normalization, max=1, over the image"),
            Implementation("ComfyUI", "axis=channel, max=1, space=x0"),
        ),
    )

    kind: Literal["cfg_norm"] = "cfg_norm"
    space: Space = "flow"
    reference: Literal["cond", "uncond"] = "cond"
    axis: Literal["image", "channel", "last"] = "image"
    times: NotNegative = 1.0
    min: NotNegative = 0.0
    max: NotNegative | None = None

    @property
    def reads_uncond(self) -> bool:  # type: ignore[override]
        """Whether the length is that of the unconditional prediction."""
        return self.reference == "uncond"

    @property
    def acts_when_equal(self) -> bool:  # type: ignore[override]
        """Whether it changes a prediction that has the length of the reference already."""
        return min(max(self.times, self.min), math.inf if self.max is None else self.max) != 1

    @model_validator(mode="after")
    def _in_order(self) -> "CFGNorm":
        if self.max is not None and self.max < self.min:
            raise ValueError(f"cfg_norm(min={self.min:g}, max={self.max:g}): min is at most max; swap them.")
        return self

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        from cfglab.guidance.reductions import channel_norm, norm, safe_divide

        def length(x: "Tensor") -> "Tensor":
            if self.axis == "image":
                return norm(x)
            return channel_norm(x, context.channel_dim) if self.axis == "channel" else x.norm(dim=-1, keepdim=True)

        guided_length, target_length = (
            length(guided),
            length(context.cond if self.reference == "cond" else context.uncond),
        )
        return guided * safe_divide(self.times * target_length, guided_length).clamp(self.min, self.max)
