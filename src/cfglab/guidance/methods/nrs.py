"""NRS, negative rejection steering: stretch, skew and squash of the conditional prediction at every position."""

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from cfglab.errors import NoNoiseLevel
from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Fraction
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real

if TYPE_CHECKING:
    from torch import Tensor


class NRS(Transform):
    """`y = c + stretch (c - p) - skew (u - p)`, p the part of u along c; then y towards the length of c by `squash`.

    Reithan/negative_rejection_steering, in v, at every position over its channels:
    `y -> y ((1 - squash) + squash |c| / |y|)`. It takes the place of `u + w (c - u)`, so w has no effect: write
    `1 | nrs()`.

    `as_in="comfyui"` is what the node computes for models that predict epsilon or a flow: it names the space v, but its
    conversion gives `epsilon + x`, with x the input of the network, and `velocity + x / sqrt(1 + t^2)` for a flow. For
    models that predict v it acts on epsilon, which is `nrs(space=epsilon)`.

    Attributes:
        space: The parameterization in which it acts; the author's is v.
        skew: The factor of the part of u that is perpendicular to c, a finite number.
        stretch: The factor of the difference along c, a finite number.
        squash: The share by which the length of c is restored, 0 to 1.
        as_in: The variant, "readme" or "comfyui".

    Reference:
        Reithan/negative_rejection_steering, `nodes_NRS.py`; there is no paper.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("1 | nrs(skew=3)"))
        1 | nrs(skew=3)
    """

    card: ClassVar[Card] = Card(
        title="Negative rejection steering (NRS)",
        says="The conditional prediction is stretched along itself, turned away from the unconditional one, and "
        "shortened again, at every position.",
        formula="y ((1 - squash) + squash |c| / |y|), y = c + stretch (c - p) - skew (u - p), p = <u, c> / |c|^2 c",
        source="Reithan/negative_rejection_steering, nodes_NRS.py; per position, over the channels; w has no effect",
        defaults="its node's: skew 2, stretch 5, squash 0.75",
        hosts=(
            Implementation(
                "ComfyUI, Forge",
                "a custom node; what it calls v is epsilon + x for models that predict epsilon, and the velocity "
                "+ x / sqrt(1 + t^2) for flows: as_in=comfyui; and epsilon for models that predict v: space=epsilon",
            ),
        ),
    )

    reads_w: ClassVar[bool] = False
    replaces: ClassVar[Literal["cond", "uncond", "both", "guided"] | None] = "guided"

    kind: Literal["nrs"] = "nrs"
    space: Space = "v"
    skew: Real = 2.0
    stretch: Real = 5.0
    squash: Fraction = 0.75
    as_in: Literal["readme", "comfyui"] = "readme"

    @model_validator(mode="after")
    def _on_v(self) -> "NRS":
        if self.as_in == "comfyui" and self.space != "v":
            raise ValueError(
                f"nrs(as_in='comfyui', space={self.space!r}): that variant has a space of its own; leave the space out."
            )
        return self

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        from functools import partial

        from cfglab.guidance.reductions import along, channel_dot, channel_norm, safe_divide

        dim = context.channel_dim
        offset = self._offset(context)
        cond, uncond = context.cond + offset, context.uncond + offset
        parallel = along(uncond, cond, partial(channel_dot, dim=dim))
        steered = cond + self.stretch * (cond - parallel) - self.skew * (uncond - parallel)
        shorter = safe_divide(channel_norm(cond, dim), channel_norm(steered, dim))
        squashed = steered * ((1 - self.squash) + self.squash * shorter)
        return context.cond + (squashed - cond)

    def _offset(self, context: StepContext) -> "Tensor | float":
        """What is added to v so that it is what the node calls v, up to a positive factor."""
        step = context.step
        if self.as_in == "readme":
            return 0.0
        if context.latents is None or step.sigma is None or step.alpha is None:
            raise NoNoiseLevel(
                f"nrs(as_in=comfyui) at step {step.index} without latents, sigma or alpha: it adds the input of the "
                "denoiser; call combine(uncond, cond, step, latents) with a whole step."
            )
        a = step.alpha
        n = 1.0 if math.isinf(step.sigma) else a * step.sigma
        flow = abs(a + n - 1) < 1e-6
        return context.latents * ((n - a) + (a * a + n * n) / math.sqrt(1 + n * n) if flow else (n + 1) / a)
