"""CADS, condition-annealed sampling: noise in the condition that fades along the run (2310.17347)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from cfglab.errors import InputError
from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.fields import Fraction, NotNegative
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.noised_text import NoisedText
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Whole
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class CADS(Transform):
    """The condition is `sqrt(gamma) y + s sqrt(1 - gamma) n`, with gamma rising from 0 to 1 as the run goes on.

    arXiv:2310.17347, section 4: gamma is 1 where t <= tau1, 0 where t >= tau2, linear between, with t = 1 - i / N; the
    share `psi` of it is brought back to the mean and deviation of y (per row). The noise is drawn anew at every step;
    `seed` chooses it. The unconditional row keeps its condition. More variety at high scales; where gamma is 1 nothing
    is changed.

    Attributes:
        s: The factor of the noise, 0 or more.
        tau1: The time t at and below which the condition is unchanged, 0 to 1.
        tau2: The time t at and above which the condition is noise alone, above `tau1`, at most 1.
        psi: The share that is brought back to the mean and deviation of y, 0 to 1.
        seed: The seed of the noise, a whole number, 0 or more.

    Reference:
        arXiv:2310.17347, section 4.

    Examples:
        >>> from cfglab import steps
        >>> from cfglab.guidance import CADS
        >>> [round(CADS().gamma(step), 3) for step in steps(5)]
        [0.0, 0.333, 1.0, 1.0, 1.0]
    """

    card: ClassVar[Card] = Card(
        title="Condition-annealed sampling (CADS)",
        needs="text",
        says="Noise in the text's encoding early in the run, less and less of it: more variety.",
        formula="y^ = sqrt(gamma) y + s sqrt(1 - gamma) n, gamma from 0 at t >= tau2 to 1 at t <= tau1",
        paper="2310.17347",
        source="section 4",
        rows="2 (1 at w = 1)",
        defaults="s 0.25, tau 0.6 to 0.9, psi 1: v0xie/sd-webui-cads; the paper chooses them per model",
        hosts=(
            Implementation(
                "A1111",
                "v0xie/sd-webui-cads noises the unconditional text too, and takes mean and deviation over the whole "
                "batch",
            ),
            Implementation("ComfyUI", "custom nodes; one of them noises the unconditional text by default"),
        ),
    )

    reads_uncond: ClassVar[bool] = False
    replaces: ClassVar[Literal["cond", "uncond"] | None] = "cond"

    kind: Literal["cads"] = "cads"
    space: Space = "model"
    s: NotNegative = 0.25
    tau1: Fraction = 0.6
    tau2: Fraction = 0.9
    psi: Fraction = 1.0
    seed: Whole = 0

    @model_validator(mode="after")
    def _order(self) -> "CADS":
        if self.tau2 <= self.tau1:
            raise InputError(
                f"cads(tau1={self.tau1:g}, tau2={self.tau2:g}): the condition clears up from t = tau2 down to tau1; "
                "swap them."
            )
        return self

    def gamma(self, step: Step) -> float:
        """The share gamma of the condition at a step.

        Args:
            step: The step.

        Returns:
            0 (noise alone) to 1 (the condition unchanged).
        """
        return min(1.0, max(0.0, (self.tau2 - (1 - step.progress)) / (self.tau2 - self.tau1)))

    def variation(self, step: Step) -> Perturbation | None:
        gamma = self.gamma(step)
        if gamma == 1:
            return None
        return NoisedText(gamma, self.s, self.psi, own_scale=False, seed=self.seed, index=step.index)

    def supplies(self, step: Step, memory: Mapping[str, Any]) -> Literal["uncond", "cond"] | None:  # noqa: ARG002
        return None if self.gamma(step) == 1 else "cond"

    def conditional(self, cond: "Tensor", context: StepContext) -> "Tensor":
        return cond if context.extra is None else context.extra
