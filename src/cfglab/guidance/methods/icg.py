"""ICG, independent condition guidance: a random condition in place of the unconditional one (2407.02687)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.noised_text import NoisedText
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card
from cfglab.schedules.fields import Whole
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class ICG(Transform):
    """`D(y') + w (D(y) - D(y'))`: an independent condition y' replaces no condition; it is drawn anew at every step.

    arXiv:2407.02687, section 4 and algorithm 1, in its Gaussian form: y' is normal with the standard deviation of the
    text's own encoding (here per row and per tensor). The paper also has random tokens, which it finds as good. The
    unconditional row does not run, so a model without one can be guided. `seed` chooses the noise.

    Attributes:
        seed: The seed of the noise, a whole number, 0 or more.

    Reference:
        arXiv:2407.02687, section 4 and algorithm 1.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> plan = Guidance("7.5 | icg()").start().plan(Step(index=0, count=4))
        >>> plan.uncond, plan.evaluations
        (False, 2)
    """

    card: ClassVar[Card] = Card(
        title="Independent condition guidance (ICG)",
        needs="text",
        says="A random condition takes the place of the unconditional one: no null condition has to be trained.",
        formula="D(y') + w (D(y) - D(y')), y' = std(y) n",
        paper="2407.02687",
        source="section 4, algorithm 1, and the Gaussian embedding of appendix G",
        rows="2",
        defaults="nothing to set; the paper's w is that of CFG or a little less",
    )

    replaces: ClassVar[Literal["cond", "uncond"] | None] = "uncond"
    reads_uncond: ClassVar[bool] = False

    kind: Literal["icg"] = "icg"
    space: Space = "model"
    seed: Whole = 0

    def variation(self, step: Step) -> Perturbation | None:
        return NoisedText(gamma=0.0, scale=1.0, psi=0.0, own_scale=True, seed=self.seed, index=step.index)

    def supplies(self, step: Step, memory: Mapping[str, Any]) -> Literal["uncond", "cond"] | None:  # noqa: ARG002
        return "uncond"

    def unconditional(self, uncond: "Tensor", context: StepContext) -> "Tensor":
        return uncond if context.extra is None else context.extra
