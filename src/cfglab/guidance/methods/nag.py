"""NAG, normalized attention guidance: a negative prompt inside cross-attention (2505.21179)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.fields import Fraction, Positive
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.normalized_attention import NormalizedAttention
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class NAG(Transform):
    """In attention to the text `Z = alpha * hold(s Z+ - (s - 1) Z-) + (1 - alpha) Z+`, Z- for the negative `prompt`.

    arXiv:2505.21179; hold shortens a position to `tau` times the L1 norm of Z+. The conditional prediction is made this
    way, so `1 | nag(s=5)` has a negative prompt where the model has no unconditional row; the second attention costs a
    part of a row. Where text and image share one attention (SD 3, Flux, Chroma, Qwen-Image, Z-Image), both texts go
    through the network, the image is guided in every block, and the row costs two. SD 3, Flux and Wan are as the
    authors have them.

    Attributes:
        s: The scale of the extrapolation in attention, a finite number; 1 is none.
        tau: The largest L1 norm, as a multiple of that of Z+; above 0.
        alpha: The share of the guided attention, 0 to 1.
        prompt: The negative prompt; empty text by default.

    Reference:
        arXiv:2505.21179.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("1 | nag(s=5, prompt=blurry)").start().plan(Step(index=0, count=4)).evaluations
        1
    """

    card: ClassVar[Card] = Card(
        title="Normalized attention guidance (NAG)",
        needs="attention to the text",
        says="A negative prompt inside attention to the text, for models that are run without CFG.",
        formula="Z = alpha hold_tau(s Z+ - (s - 1) Z-) + (1 - alpha) Z+",
        paper="2505.21179",
        source="the authors' NAGAttnProcessor2_0, NAGJointAttnProcessor2_0, NAGFluxAttnProcessor2_0, "
        "NAGWanAttnProcessor2_0",
        rows="2 (1 at w = 1), with a second cross-attention in one of them, or twice its work in joint attention",
        defaults="tau 2.5 and alpha 0.5: the authors' processor for UNets, alpha 0.125 for SD 3, 0.25 for Flux and "
        "Wan; s differs per model and has to be said",
        hosts=(
            Implementation("the authors' pipelines", "the first ones for Flux hold the L2 norm"),
            Implementation("ComfyUI", "Qwen-Image: a custom node guides after the projection"),
        ),
    )

    replaces: ClassVar[Literal["cond", "uncond"] | None] = "cond"

    kind: Literal["nag"] = "nag"
    space: Space = "model"
    reads_uncond: ClassVar[bool] = False
    s: Real
    tau: Positive = 2.5
    alpha: Fraction = 0.5
    prompt: str = ""

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return NormalizedAttention(self.prompt, self.s, self.tau, self.alpha)

    def supplies(self, step: Step, memory: Mapping[str, Any]) -> Literal["uncond", "cond"] | None:  # noqa: ARG002
        return "cond"

    def conditional(self, cond: "Tensor", context: StepContext) -> "Tensor":
        return cond if context.extra is None else context.extra
