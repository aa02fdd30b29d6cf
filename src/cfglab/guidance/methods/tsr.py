"""TSR, temporal score rescaling: the score of a narrower or wider distribution, by one factor a step (2510.01184)."""

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.errors import InputError, NoNoiseLevel
from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Positive
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class TSR(Transform):
    """`epsilon -> r epsilon`, `r = (s^2 + sigma^2) / (s^2 / k + sigma^2)`: the score as if the variance were 1 / k.

    arXiv:2510.01184; sigma is noise over signal, so in the paper's letters, with the signal-to-noise ratio q,
    `r = (q s^2 + 1) / (q s^2 / k + 1)`. Exact for normal data of standard deviation `data_sigma` (s). k above 1 samples
    a narrower distribution, k below 1 a wider one. The velocity of a flow and the other predictions change as epsilon
    does; at pure noise nothing changes. With or without CFG: at w = 1 no unconditional row runs.

    Attributes:
        k: The inverse temperature, above 0; 1 changes nothing.
        data_sigma: The standard deviation of the data around a mode, in the unit of the latents, above 0.

    Reference:
        arXiv:2510.01184; temporalscorerescaling/TSR, `TSR_schedulers.py`.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("1 | tsr(k=2)").start().plan(Step(index=0, count=4)).evaluations
        1
    """

    card: ClassVar[Card] = Card(
        title="Temporal score rescaling (TSR)",
        says="The predicted noise is multiplied so that the samples come from a narrower or a wider distribution; "
        "needs no guidance.",
        formula="r epsilon, r = (s^2 + sigma^2) / (s^2 / k + sigma^2)",
        paper="2510.01184",
        source="temporalscorerescaling/TSR, TSR_schedulers.py, for DDIM and for flows",
        rows="2 (1 at w = 1)",
        defaults="k 0.95 and data_sigma 1: ComfyUI's node; the authors' schedulers have k 1, which is off, with "
        "data_sigma 1 for epsilon and 0.1 for flows",
        hosts=(Implementation("ComfyUI"),),
    )
    reads_uncond: ClassVar[bool] = False
    acts_when_equal: ClassVar[bool] = True

    kind: Literal["tsr"] = "tsr"
    space: Space = "model"
    k: Positive = 0.95
    data_sigma: Positive = 1.0

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        from cfglab.guidance.parameterization import parts

        sigma, alpha = _levels(context.step)
        if math.isinf(sigma):
            return guided
        variance = self.data_sigma**2
        ratio = (variance + sigma**2) / (variance / self.k + sigma**2)
        if context.space == "epsilon":
            return ratio * guided
        if context.space in ("model", "logits"):
            raise InputError(
                f"tsr at step {context.step.index} without the parameterization of the prediction: it multiplies "
                "epsilon; leave it out, or in a loop of your own name the prediction, Guidance.start(prediction)."
            )
        if context.latents is None:
            raise InputError(
                f"tsr at step {context.step.index} without latents: it multiplies epsilon; call "
                "combine(uncond, cond, step, latents)."
            )
        share = parts(context.space, alpha, alpha * sigma)[1] / alpha  # of the latents, beside epsilon
        return ratio * guided + (1 - ratio) * share * context.latents


def _levels(step: Step) -> tuple[float, float]:
    """sigma and alpha of a step."""
    if step.sigma is None or (step.alpha is None and not math.isinf(step.sigma)):
        raise NoNoiseLevel(
            f"tsr at step {step.index} without sigma and alpha: its factor follows the noise level; give the step both."
        )
    return step.sigma, step.alpha or 0.0
