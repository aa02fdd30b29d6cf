"""Adaptive guidance: no unconditional row once both predictions point the same way (2312.12487)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Fraction
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class AdaptiveGuidance(Transform):
    """`g = u + w (c - u)` until `cos(c, u) >= gamma`, then `g = c`: the unconditional row no longer runs.

    gamma is `similarity`. arXiv:2312.12487, section 5, on epsilon; each image decides for itself. After that step,
    transforms that stand before this one have no effect.

    Attributes:
        space: The parameterization of the cosine; the paper's is epsilon.
        similarity: The cosine at which guidance stops, 0 to 1.

    Reference:
        arXiv:2312.12487, section 5.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("5 | adaptive(similarity=0.99)"))
        5 | adaptive(similarity=0.99)
    """

    card: ClassVar[Card] = Card(
        title="Adaptive guidance",
        says="Guidance stops, image by image, once both predictions point the same way.",
        formula="c from the step after cos(c, u) >= similarity",
        paper="2312.12487",
        rows="2, then 1",
        defaults="none: the threshold depends on the model; ComfyUI-Adaptive-Guidance starts at 0.99",
        hosts=(Implementation("ComfyUI", "asagi4's node takes the cosine over the whole batch"),),
    )
    per_image: ClassVar[bool] = True

    kind: Literal["adaptive"] = "adaptive"
    space: Space = "epsilon"
    similarity: Fraction

    def scale(self, w: "float | Tensor", context: StepContext) -> "float | Tensor":
        from cfglab.guidance.reductions import dot, norm, safe_divide

        index, agreed = context.memory.get("agreed", (-1, None))
        if agreed is None or not self._dropped(context.step, context.memory):
            cosine = safe_divide(dot(context.cond, context.uncond), norm(context.cond) * norm(context.uncond))
            agrees = (cosine >= self.similarity).all()
            if agreed is not None and index == context.step.index:  # the second call of a step
                agrees = agrees | agreed.value
            context.memory["agreed"] = (context.step.index, _OnDevice(agrees))
        return w

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        return context.cond if self._dropped(context.step, context.memory) else guided

    def supplies(self, step: Step, memory: Mapping[str, Any]) -> Literal["uncond", "cond"] | None:
        return "uncond" if self._dropped(step, memory) else None

    def _dropped(self, step: Step, memory: Mapping[str, Any]) -> bool:
        index, agreed = memory.get("agreed", (step.index, None))
        return agreed is not None and index < step.index and bool(agreed)


class _OnDevice:
    """A truth value on a device. It is read once: when the next step is planned, before that step's denoiser call."""

    def __init__(self, value: "Tensor") -> None:
        self.value = value
        self._read: bool | None = None

    def __bool__(self) -> bool:
        if self._read is None:
            self._read = bool(self.value)
        return self._read
