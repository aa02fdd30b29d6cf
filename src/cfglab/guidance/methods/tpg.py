"""TPG, token perturbation guidance: away from a prediction with shuffled tokens (2506.10036)."""

from typing import ClassVar, Literal

from cfglab.guidance.context import Perturbation
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.methods.weak_prediction import Layers, WeakPrediction
from cfglab.guidance.perturbations.shuffled_tokens import ShuffledTokens
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Whole
from cfglab.step import Step


class TPG(WeakPrediction):
    """`g + s (c - c~)`, where each transformer block in `layers` gets the tokens of c~ in a random order.

    arXiv:2506.10036, as in the authors' code: the block's input is permuted and stays so, one order for the whole
    batch, another one for each block and each step; `seed` chooses them. `1 | tpg()` is guidance without an
    unconditional row. Where text and image are two streams, or one sequence of which it is known which tokens are
    the image (Flux, Chroma, Z-Image), the image's tokens are permuted; another block with both in one is refused.

    Attributes:
        s: The scale of the perturbed pass, 0 or more.
        layers: The layers whose transformer blocks are perturbed, such as `mid`, `'d2.2-9'`, `'7-9'` or `'single.3'`.
        seed: The seed of the orders, a whole number, 0 or more.
        start: The fraction of the run from which it acts, 0 to 1.
        stop: The fraction of the run at which it stops, above `start`.

    Reference:
        arXiv:2506.10036; TaatiTeam/Token-Perturbation-Guidance, `pipeline_sdxl_tpg.py`.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("1 | tpg()").start().plan(Step(index=0, count=4)).evaluations
        2
    """

    card: ClassVar[Card] = Card(
        title="Token perturbation guidance (TPG)",
        needs="layers",
        says="Away from a prediction whose tokens are shuffled before chosen transformer blocks.",
        formula="g + s (c - c~), c~ with the tokens of each block in a random order",
        paper="2506.10036",
        source="TaatiTeam/Token-Perturbation-Guidance, pipeline_sdxl_tpg.py; with CFG c + (w - 1) (c - u) + s (c - c~)",
        rows="3 (2 at w = 1)",
        defaults="s 3: the authors' code; the layers are all blocks of the encoder, of which the authors leave out the "
        "first six of SDXL's 24: down_blocks.2.attentions.0.transformer_blocks.2 to .9 and down_blocks.2.attentions.1",
        hosts=(Implementation("ComfyUI", "a custom node; its orders come of torch's global generator"),),
    )

    kind: Literal["tpg"] = "tpg"
    s: NotNegative = 3.0
    layers: Layers = ("down_blocks",)
    seed: Whole = 0

    def factor(self) -> float:
        return self.s

    def weak_pass(self, step: Step) -> Perturbation:
        return ShuffledTokens(self.layers, self.seed, step.index)
