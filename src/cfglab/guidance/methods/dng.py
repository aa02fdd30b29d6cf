"""DNG, dynamic negative guidance: the negative scale follows the posterior of the unwanted class (2410.14398)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from cfglab.errors import InputError, NoNoiseLevel
from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Inside, NotNegative
from cfglab.guidance.methods.second_prompt import SecondPromptTransform
from cfglab.guidance.names import Space
from cfglab.guidance.posterior import over_signal, transition
from cfglab.method_card import Card
from cfglab.schedules.fields import Real

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 1e-6
"""The smallest posterior, `p_min` of the authors' code."""


class DNG(SecondPromptTransform):
    """`g - s p / (1 - p) (n - u)`, n the prediction for the negative `prompt`, p the posterior of that prompt.

    arXiv:2410.14398, algorithm 1, as in the authors' code: after every step
    `p <- p exp((offset - temperature (|x - m_n|^2 - |x - m_u|^2)) / (2 v))`, held between 1e-6 and `max`, where m_n
    and m_u are the means of the DDPM step under n and u and v is its variance. So guidance is strong where the sample
    moves towards the prompt and none where it does not. Their guidance is `0 | dng(...)`, without a positive prompt;
    with one it is added to g, as composed prompts are. The step is that from sample to sample, whatever the sampler;
    theirs is DDPM, and samplers that add no noise hardly move p. x is the network's input of a variance-preserving
    model.

    Attributes:
        space: The parameterization in which it acts.
        prompt: The negative prompt.
        s: The scale, 0 or more.
        prior: The posterior at the first step, above 0 and below 1.
        temperature: The factor of the squared distances, 0 or more.
        offset: What is added at every step, in squared units of x; 0 for none.
        max: The largest posterior, above 0 and below 1.

    Reference:
        arXiv:2410.14398, algorithm 1; FelixKoulischer/Dynamic-Negative-Guidance.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("5 | dng(prompt=blurry, s=2)"))
        5 | dng(prompt=blurry, s=2)
    """

    card: ClassVar[Card] = Card(
        title="Dynamic negative guidance (DNG)",
        needs="prompt",
        says="A negative prompt that acts as much as the sample has come to look like it.",
        formula="g - s p / (1 - p) (n - u), p <- p exp((offset - T (|x - m_n|^2 - |x - m_u|^2)) / (2 v))",
        paper="2410.14398",
        source="FelixKoulischer/Dynamic-Negative-Guidance, compute_posterior_DNG; what the paper does beside a "
        "positive prompt could not be read",
        rows="3",
        defaults="the example of the authors' code, a class of CIFAR-10: s 5, prior 0.01, temperature 0.2, "
        "offset 0.0002, max 0.8; they depend on the model",
    )

    kind: Literal["dng"] = "dng"
    space: Space = "x0"
    s: NotNegative = 5.0
    prior: Inside = 0.01
    temperature: NotNegative = 0.2
    offset: Real = 2e-4
    max: Inside = 0.8

    @model_validator(mode="after")
    def _below_max(self) -> "DNG":
        if self.prior > self.max:
            raise InputError(
                f"dng(prior={self.prior:g}, max={self.max:g}): the posterior starts at prior and is held below max; "
                "give a prior of max or less."
            )
        return self

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        step, memory = context.step, context.memory
        if context.extra is None:
            return guided
        z = over_signal(context)
        if z is None:
            raise NoNoiseLevel(
                f"dng at step {step.index} without latents, sigma or alpha: it compares the sample with what was "
                "predicted; call combine(uncond, cond, step, latents) with a whole step."
            )
        if memory.get("step") != step.index:
            memory["p"] = self._posterior_at(z, context)
            memory.update(step=step.index, z=z, sigma=step.sigma, uncond=context.uncond, negative=context.extra)
        p: Tensor = memory["p"]
        return guided - self.s * p / (1 - p) * (context.extra - context.uncond)

    def _posterior_at(self, z: "Tensor", context: StepContext) -> "Tensor":
        """The posterior of each image, (n, 1, ...), after the step from the sample before to z = x0 + sigma epsilon."""
        memory, step = context.memory, context.step
        if "p" not in memory:
            return z.new_full((len(z), *[1] * (z.ndim - 1)), self.prior)
        before: Tensor = memory["p"]
        sigma = float(step.sigma or 0.0)
        if not 0 < sigma < memory["sigma"]:
            return before
        seen = (memory["negative"], memory["uncond"])
        errors, variance = transition(z, memory["z"], memory["sigma"], sigma, seen)
        offset = self.offset / float(step.alpha or 1.0) ** 2  # z is x / alpha, and so is its variance
        grown = (offset - self.temperature * (errors[0] - errors[1])) / (2 * variance)
        return (before.log() + grown).exp().clamp(LEAST, self.max)
