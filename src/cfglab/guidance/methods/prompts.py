"""Guidance with one more prompt: perpendicular negatives, two scales, and composed prompts."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SecondPrompt:
    """A perturbed pass: the unconditional rows with another prompt, whose encoding the host puts in place of their own.

    Attributes:
        prompt: The prompt.
    """

    prompt: str

    @property
    def source(self) -> Literal["cond", "uncond"]:
        return "uncond"

    def applied(self, denoiser: Any) -> "AbstractContextManager[Any]":
        return nullcontext(denoiser)

    def inputs(
        self, sample: "Tensor", timestep: Any, conditioning: Mapping[str, Any]
    ) -> "tuple[Tensor, Any, Mapping[str, Any]]":
        return sample, timestep, conditioning


class _WithSecondPrompt(Transform):
    """The base class of transforms with one more prompt."""

    kind: str
    space: Space = "model"
    prompt: str

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return SecondPrompt(self.prompt)


class PerpNeg(_WithSecondPrompt):
    """`u + w (p - weight (n - <n, p> / |p|^2 p))`: the negative prompt counts where it is perpendicular to the prompt.

    arXiv:2304.04968; p = c - u and n are differences from the prediction without a prompt, per image, so
    the pipeline's own negative prompt is left empty. Several of them add up, each against the same p.

    Attributes:
        prompt: The negative prompt.
        weight: The factor of its perpendicular part, 0 or more.

    Reference:
        arXiv:2304.04968.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("7.5 | perp_neg(prompt=blurry)").start().plan(Step(index=0, count=4)).evaluations
        3
    """

    card: ClassVar[Card] = Card(
        title="Perp-Neg",
        says="A negative prompt that cannot take back what the prompt asks for.",
        formula="u + w (p - weight (n - <n, p> / |p|^2 p)), p = c - u, n = c_neg - u",
        paper="2304.04968",
        source="as ComfyUI's nodes_perpneg.py has it, image by image",
        rows="3",
        defaults="weight 1: ComfyUI's; the paper chooses it per prompt",
        hosts=(Implementation("ComfyUI", "the projection sums over the whole batch, on x0"),),
    )

    kind: Literal["perp_neg"] = "perp_neg"
    weight: NotNegative = 1.0

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":
        from cfglab.guidance.reductions import dot, safe_divide

        if context.extra is None:
            return update
        p, n = context.cond - context.uncond, context.extra - context.uncond
        return update - self.weight * (n - safe_divide(dot(n, p), dot(p, p), 0.0) * p)


class Composed(_WithSecondPrompt):
    """`u + w ((c - u) + weight (c' - u))`: one more prompt beside the first, or against it with a negative weight.

    arXiv:2206.01714, conjunction and negation; there every prompt has a scale of its own, here those
    of the others are multiples of the schedule. Several of them add up.

    Attributes:
        prompt: The other prompt.
        weight: Its factor, a finite number; negative for negation.

    Reference:
        arXiv:2206.01714.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | composed(prompt='a red hat', weight=0.5)"))
        7.5 | composed(prompt='a red hat', weight=0.5)
    """

    card: ClassVar[Card] = Card(
        title="Composed prompts",
        says="Two prompts at once, each with its own weight; a negative one takes its prompt away.",
        formula="u + w ((c - u) + weight (c' - u))",
        paper="2206.01714",
        source="conjunction, and negation with a negative weight",
        rows="3",
        defaults="weight 1: both prompts count the same",
        hosts=(
            Implementation("A1111", "AND between prompts"),
            Implementation("diffusers", "a community pipeline, composable_stable_diffusion"),
        ),
    )

    kind: Literal["composed"] = "composed"
    weight: Real = 1.0

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":
        return update if context.extra is None else update + self.weight * (context.extra - context.uncond)


class DualCFG(_WithSecondPrompt):
    """`u + middle (m - u) + w (c - m)`: two scales, one from nothing to a middle prompt, one from there to the prompt.

    arXiv:2211.09800, whose middle is the image to be edited; here it is a second prompt, as in ComfyUI's
    node. At middle = w it is plain CFG.

    Attributes:
        prompt: The middle prompt.
        middle: The scale from the unconditional prediction to the middle one, a finite number.

    Reference:
        arXiv:2211.09800.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | dual_cfg(prompt='a hat', middle=2)"))
        7.5 | dual_cfg(prompt='a hat', middle=2)
    """

    card: ClassVar[Card] = Card(
        title="Dual classifier-free guidance",
        says="Two scales: from nothing to a middle prompt, and from there to the prompt.",
        formula="u + middle (m - u) + w (c - m)",
        paper="2211.09800",
        source="diffusers' StableDiffusionInstructPix2PixPipeline",
        rows="3",
        defaults="middle 1.5: InstructPix2Pix's image scale",
        hosts=(
            Implementation("diffusers", "InstructPix2Pix, whose middle is the image without the text"),
            Implementation("ComfyUI", "DualCFGGuider is this; its nested style scales the whole again"),
        ),
    )

    kind: Literal["dual_cfg"] = "dual_cfg"
    middle: Real = 1.5

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        return (
            guided if context.extra is None else guided + (self.middle - context.w) * (context.extra - context.uncond)
        )
