"""SAG, self-attention guidance: away from a prediction for a sample blurred where attention is high (2210.00939)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.fields import NotNegative, Positive
from cfglab.guidance.methods.weak_prediction import WeakPrediction
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.blurred_sample import BlurredSample
from cfglab.method_card import Card, Implementation
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class SAG(WeakPrediction):
    """`g + s (u - u~)`, where u~ is predicted for a sample whose own clean image is blurred where attention looks.

    arXiv:2210.00939, equation 16, and 25 with classifier-free guidance, on epsilon: there the unconditional prediction
    is guided. `of=cond` guides the conditional one, as in `1 | sag(of=cond)`, which needs no unconditional row. `sigma`
    of the blur is in values of the sample. The rows are run twice more, once for their attention, because the
    perturbed pass is requested before the first prediction is computed. Refused if text and image share one attention.

    Attributes:
        space: The parameterization in which it acts; the paper's is epsilon.
        s: The scale of the perturbed pass, 0 or more.
        sigma: The standard deviation of the blur, in values of the sample, above 0.
        of: The prediction that is guided, "uncond" or "cond".
        start: The fraction of the run from which it acts, 0 to 1.
        stop: The fraction of the run at which it stops, above `start`.

    Reference:
        arXiv:2210.00939, equations 16 and 25.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("5 | sag()").start().plan(Step(index=0, count=4)).evaluations
        4
    """

    card: ClassVar[Card] = Card(
        title="Self-attention guidance (SAG)",
        needs="self-attention",
        says="Away from a prediction for a sample that is blurred where its self-attention looks.",
        formula="g + s (u - u~), u~ = u(x + alpha M (blur(D_u) - D_u)), M where attention sums up to more than 1",
        paper="2210.00939",
        source="equations 16 and 25; diffusers' StableDiffusionSAGPipeline",
        rows="4 (3 at w = 1 with of=cond); the hosts, which keep the attention, have 3",
        defaults="s 0.75, sigma 1: diffusers' pipeline",
        hosts=(
            Implementation(
                "diffusers", "a deprecated pipeline for Stable Diffusion; of v models it subtracts v, not epsilon"
            ),
            Implementation("ComfyUI", "s 0.5, sigma 2"),
        ),
    )

    kind: Literal["sag"] = "sag"
    space: Space = "epsilon"
    s: NotNegative = 0.75
    sigma: Positive = 1.0
    of: Literal["uncond", "cond"] = "uncond"

    @property
    def reads_uncond(self) -> bool:  # type: ignore[override]
        """Whether the unconditional prediction is read: not with `of=cond`."""
        return self.of == "uncond"

    def factor(self) -> float:
        return self.s

    def weak_pass(self, step: Step) -> Perturbation:
        return BlurredSample(self.of, step, self.sigma)

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        if context.extra is None:
            return guided
        return guided + self.s * ((context.uncond if self.of == "uncond" else context.cond) - context.extra)
