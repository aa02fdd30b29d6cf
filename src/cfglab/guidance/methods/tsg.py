"""TSG, time-step guidance: away from a prediction with a noised timestep embedding (2407.02687)."""

from typing import ClassVar, Literal

from cfglab.guidance.context import Perturbation
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.methods.weak_prediction import WeakPrediction
from cfglab.guidance.perturbations.noised_timestep import NoisedTimestep
from cfglab.method_card import Card
from cfglab.schedules.fields import Whole
from cfglab.step import Step


class TSG(WeakPrediction):
    """`g + (w - 1) (D - D~)`, where D~ has `e + s t^alpha std(e) n` for the embedding e of the time step.

    arXiv:2407.02687, section 5, equation 8 and the listing of appendix G. The paper's guidance is `1 | tsg(w=...,
    s=...)`, two rows a step and no unconditional one; the noise is drawn anew at every step, `seed` chooses it. alpha
    0 is its constant schedule. t is 1 - i / N, from noise to image, and every layer reads the noised embedding; the
    paper also has it for the first layers alone. The paper leaves two things open; here t is between 0
    and 1 (in thousands its own s = 2, alpha = 1 would be 2000 standard deviations), and e is the output of
    the embedding's layers, since only that can differ from layer to layer.

    Attributes:
        w: The scale of the extrapolation, 0 or more; 1 is none.
        s: The factor of the noise, in standard deviations of the embedding, 0 or more.
        alpha: The exponent of t, 0 or more; 0 is constant noise.
        seed: The seed of the noise, a whole number, 0 or more.
        start: The fraction of the run from which it acts, 0 to 1.
        stop: The fraction of the run at which it stops, above `start`.

    Reference:
        arXiv:2407.02687, section 5, equation 8 and appendix G.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("1 | tsg(w=4, s=3)").start().plan(Step(index=0, count=4)).evaluations
        2
    """

    card: ClassVar[Card] = Card(
        title="Time-step guidance (TSG)",
        needs="timestep",
        says="Away from a prediction whose embedding of the time step has noise in it; needs no condition at all.",
        formula="g + (w - 1) (D - D~), D~ with e + s t^alpha std(e) n, e the time step's embedding",
        paper="2407.02687",
        source="section 5, equation 8 and appendix G, as two descriptions quote them; the authors have no code",
        rows="2 (3 with classifier-free guidance)",
        defaults="none: w and s have to be said; for Stable Diffusion with a prompt appendix G is quoted with w 4, "
        "s 3, alpha 0.25 and t down to 0.4 (stop=0.6); alpha 0 is the paper's constant schedule",
    )

    kind: Literal["tsg"] = "tsg"
    w: NotNegative
    s: NotNegative
    alpha: NotNegative = 0.0
    seed: Whole = 0

    def factor(self) -> float:
        return self.w - 1

    def weak_pass(self, step: Step) -> Perturbation:
        return NoisedTimestep(self.s * (1 - step.progress) ** self.alpha, self.seed, step.index)
