"""S2-Guidance: away from a prediction without random blocks (2508.12880)."""

from typing import ClassVar, Literal

from cfglab.guidance.context import Perturbation
from cfglab.guidance.fields import Fraction, NotNegative
from cfglab.guidance.methods.weak_prediction import WeakPrediction
from cfglab.guidance.perturbations.skipped_layers import RandomBlocks
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Whole
from cfglab.step import Step


class S2Guidance(WeakPrediction):
    """`g + omega (c - c~)`, where c~ leaves out random transformer blocks, new ones at every step.

    arXiv:2508.12880, equation 4 of its later versions (the first ones subtract `omega c~` alone); one draw a step, in
    the middle of the run, never the first block. The draw is the same for every image; `seed` chooses it.

    Attributes:
        omega: The scale of the perturbed pass, 0 or more.
        share: The share of the transformer blocks that is left out, 0 to 1; at least one block.
        seed: The seed of the draw, a whole number, 0 or more.
        start: The fraction of the run from which it acts, 0 to 1.
        stop: The fraction of the run at which it stops, above `start`.

    Reference:
        arXiv:2508.12880, equation 4.

    Examples:
        >>> from cfglab import Guidance, steps
        >>> guide = Guidance("5 | s2()").start()
        >>> [guide.plan(step).evaluations for step in steps(4)]
        [2, 3, 3, 3]
    """

    card: ClassVar[Card] = Card(
        title="S2-Guidance",
        needs="layers",
        says="Away from a prediction that leaves out a few blocks, drawn anew at every step.",
        formula="g + omega (c - c~), c~ without a random share of the blocks",
        paper="2508.12880",
        source="equation 4 and algorithm 1, from two independent descriptions of the paper; the authors have no code",
        rows="3 in the window, 2 outside (one less at w = 1)",
        defaults="omega 0.25, a tenth of the blocks, from 10 to 90 % of the run: as those describe the paper",
        hosts=(Implementation("ComfyUI", "custom nodes subtract omega c~ without adding omega c"),),
    )

    kind: Literal["s2"] = "s2"
    omega: NotNegative = 0.25
    share: Fraction = 0.1
    seed: Whole = 0
    start: Fraction = 0.1
    stop: Fraction = 0.9

    def factor(self) -> float:
        return self.omega

    def weak_pass(self, step: Step) -> Perturbation:
        return RandomBlocks(self.share, self.seed, step.index)
