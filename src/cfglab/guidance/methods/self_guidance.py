"""SG and SG-prev, self-guidance: away from the model's own prediction for a noisier time (2412.05827)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.methods.weak_prediction import WeakPrediction
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.shifted_timestep import LAST, ShiftedTimestep
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class SG(WeakPrediction):
    """`g + s (c - c~)`, where the network is told of c~ that the sample is `shift` time steps noisier than it is.

    arXiv:2412.05827, self-guidance, as in the authors' code: the conditional row once more, the sample as it is, the
    time step plus `shift`, at most 1000. `1 | sg()` needs no unconditional row.

    Attributes:
        s: The scale of the perturbed pass, 0 or more.
        shift: How many training time steps noisier, 0 or more.
        start: The fraction of the run from which it acts, 0 to 1.
        stop: The fraction of the run at which it stops, above `start`.

    Reference:
        arXiv:2412.05827; maple-research-lab/Self-Guidance, `pipeline_sd.py`.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("5 | sg(shift=20)").start().plan(Step(index=0, count=4)).evaluations
        3
    """

    card: ClassVar[Card] = Card(
        title="Self-guidance (SG)",
        needs="timestep",
        says="Away from what the model predicts when it is told that the sample is noisier.",
        formula="g + s (c(t) - c(t + shift)), t in training time steps, at most 1000",
        paper="2412.05827",
        source="maple-research-lab/Self-Guidance, the pipelines for Stable Diffusion, SD 3, Flux, CogVideoX and Mochi",
        rows="3 (2 at w = 1)",
        defaults="s 3 and shift 10: the configurations of the authors' code",
    )

    kind: Literal["sg"] = "sg"
    s: NotNegative = 3.0
    shift: NotNegative = 10.0

    def factor(self) -> float:
        return self.s

    def weak_pass(self, step: Step) -> Perturbation:
        return ShiftedTimestep(self.shift, step.timestep)


class SGPrev(Transform):
    """`g + s (c - c')`, c' the conditional prediction of the step before; only at time steps below `max_t`.

    arXiv:2412.05827, SG-prev: self-guidance whose noisier prediction is the one of the step before, which costs
    nothing. As in the authors' code the first step changes nothing, and c' is in what the network predicts. Where the
    sampler has no time steps, 1000 (1 - i / N) stands for them. A two-call sampler counts every call.

    Attributes:
        s: The scale, 0 or more.
        max_t: The training time step below which it acts, 0 or more.

    Reference:
        arXiv:2412.05827; maple-research-lab/Self-Guidance, `pipeline_sd.py`.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("1 | sg_prev()").start().plan(Step(index=0, count=4)).evaluations
        1
    """

    card: ClassVar[Card] = Card(
        title="Self-guidance by the previous step (SG-prev)",
        says="Away from the model's prediction of the step before, in the second half of the run.",
        formula="g + s (c - c_before) where t < max_t",
        paper="2412.05827",
        source="maple-research-lab/Self-Guidance, the pipelines for Stable Diffusion, SD 3, Flux, CogVideoX and Mochi",
        rows="2 (1 at w = 1)",
        defaults="s 3 and max_t 500: the configurations of the authors' code, which has ODE samplers in mind",
    )
    reads_uncond: ClassVar[bool] = False
    acts_when_equal: ClassVar[bool] = True

    kind: Literal["sg_prev"] = "sg_prev"
    space: Space = "model"
    s: NotNegative = 3.0
    max_t: NotNegative = 500.0

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        step, before = context.step, context.memory.get("cond")
        context.memory["cond"] = context.cond
        timestep = LAST * (1 - step.progress) if step.timestep is None else step.timestep
        return guided if before is None or timestep >= self.max_t else guided + self.s * (context.cond - before)
