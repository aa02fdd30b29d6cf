"""CFG-Zero*: the unconditional prediction at its best scale, and zero in the first steps (2503.18886)."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import with_defaults_of
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Whole
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


_THEIRS: dict[str, dict[str, Any]] = {
    "authors": {"zero_steps": 0},
    "comfyui": {"zero_steps": 0, "space": "x0"},
}


class CFGZeroStar(Transform):
    """CFG-Zero*: `u -> a u` with `a = <c, u> / |u|^2` per image, so `g = a u + w (c - a u)`; zero in the first steps.

    arXiv:2503.18886, for the velocity of a flow. In the first `zero_steps` steps the
    velocity is zero and the denoiser is not called. On another model the flow's velocity is `epsilon - x0`.

    `as_in="authors"`: their pipelines, whose `zero_steps` is the index of the last step that is zero, so 0, their
    default, is the first step and 1 the first two; `zero_steps=k` there is `zero_steps=k + 1` here.

    `as_in="comfyui"`: its node, without zero-init, which takes `a` from the residuals `x - c`, `x - u` (x as its
    samplers see it) and scales the unconditional x0 by it.

    Attributes:
        space: The parameterization in which it acts; the paper's is the velocity of a flow.
        zero_steps: The number of first steps whose prediction is zero, 0 or more; see `as_in="authors"` for their
            count.
        as_in: The variant, "paper", "authors" or "comfyui"; the last two bring their own defaults.

    Reference:
        arXiv:2503.18886.

    Examples:
        >>> from cfglab import Guidance, steps
        >>> guide = Guidance("2 | cfg_zero_star()").start()
        >>> [guide.plan(step).evaluations for step in steps(4)]
        [0, 2, 2, 2]
    """

    card: ClassVar[Card] = Card(
        title="CFG-Zero*",
        says="The unconditional velocity is scaled to lie closest to the conditional one; the first steps stand still.",
        formula="a u + w (c - a u), a = <c, u> / |u|^2; 0 while index < zero_steps",
        paper="2503.18886",
        source="zero-init: section 4.2, as diffusers quotes it; the scale: `optimized_scale` of the authors' code",
        rows="2 (0 in the first steps)",
        defaults="one zero step: diffusers' `zero_init_steps` and, counted otherwise, the authors' pipelines; the "
        "paper says the first 4 % of the steps, which is 2 of 50",
        hosts=(
            Implementation(
                "WeichenFan/CFG-Zero-star",
                "`i <= zero_steps` from 0, default 0: its zero_steps=1 zeroes steps 0 and 1: as_in=authors",
            ),
            Implementation(
                "diffusers", "runs both passes for a step that is zero; with guidance_rescale that step is NaN"
            ),
            Implementation("ComfyUI", "no zero-init; `a` of the residuals scales x0: as_in=comfyui"),
        ),
    )

    kind: Literal["cfg_zero_star"] = "cfg_zero_star"
    space: Space = "flow"
    zero_steps: Whole = 1
    as_in: Literal["paper", "authors", "comfyui"] = "paper"

    @model_validator(mode="before")
    @classmethod
    def _with_theirs(cls, data: Any) -> Any:
        return with_defaults_of(_THEIRS, data)

    @model_validator(mode="after")
    def _on_x0(self) -> "CFGZeroStar":
        if self.as_in == "comfyui" and self.space != "x0":
            raise ValueError(
                f"cfg_zero_star(as_in='comfyui', space={self.space!r}): that variant scales x0; leave the space out."
            )
        return self

    def is_zero(self, step: Step) -> bool:
        return step.index < self.zero_steps + (self.as_in == "authors")

    def unconditional(self, uncond: "Tensor", context: StepContext) -> "Tensor":
        from cfglab.guidance.reductions import dot, safe_divide

        u, c = (
            (uncond, context.cond)
            if self.as_in != "comfyui"
            else (context.residual(uncond), context.residual(context.cond))
        )
        return uncond * safe_divide(dot(c, u), dot(u, u))

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        return guided * 0 if self.is_zero(context.step) else guided
