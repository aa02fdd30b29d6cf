"""Reused updates: the unconditional row runs at every few steps only."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Fraction
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class ReuseUpdate(Transform):
    """`g = c + (w - 1) (c' - u')`, with c' and u' of the last full step; a full step is every `every`-th one.

    The unconditional row runs at full steps only. It acts from progress `start` on. It is related to the reuse in
    Compress Guidance (arXiv:2408.11194) and FasterCache, which differ; it has no paper of its own. A two-call sampler
    stores and uses the update of either call.

    Attributes:
        every: The distance between two full steps, 2 or more.
        start: The fraction of the run up to which every step is full, 0 to 1.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("5 | reuse(every=3)"))
        5 | reuse(every=3)
    """

    card: ClassVar[Card] = Card(
        title="Reused updates",
        says="The difference of the predictions is computed at every few steps and used again between them.",
        formula="c + (w - 1) (c' - u'), c' and u' of the last full step",
        source="the simplest member of a family: Compress Guidance, FasterCache",
        rows="1 + 1 / every",
        defaults="every 2, from the first step on: ours",
        hosts=(
            Implementation("diffusers", "FasterCache approximates the unconditional branch in the frequency domain"),
        ),
    )

    kind: Literal["reuse"] = "reuse"
    space: Space = "model"
    every: int = Field(2, ge=2)
    start: Fraction = 0.0

    def supplies(self, step: Step, memory: Mapping[str, Any]) -> Literal["uncond", "cond"] | None:
        last_step = memory.get("step")
        fresh = last_step is None or step.progress < self.start or step.index % self.every == 0
        return None if fresh or last_step == step.index else "uncond"

    def unconditional(self, uncond: "Tensor", context: StepContext) -> "Tensor":
        if self.supplies(context.step, context.memory):
            return context.cond - context.memory["update"]
        context.memory.update(step=context.step.index, update=context.cond - uncond)
        return uncond
