"""PLADIS: attention to the text beyond sparse attention, away from the dense one (2503.07677)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.methods.weak_prediction import Layers
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.sparse_attention import LEVELS, Sparse, SparseAttention
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Real
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class PLADIS(Transform):
    """In attention to the text `A = s sparse + (1 - s) softmax`, for the conditional and the unconditional prediction.

    arXiv:2503.07677; sparse is 1.5-entmax or sparsemax of the same products of queries and keys. No row is added: both
    predictions are made this way. At w = 1 only the conditional one is. Where text and image share one attention (SD 3,
    Flux, Chroma, Qwen-Image, Z-Image), A is the weights with which the image reads the text, times their sum in the
    softmax over all tokens: as much of every token of the image comes from the text as before.

    Attributes:
        s: The share of the sparse weights, a finite number; 0 changes nothing.
        sparse: The sparse weights, "entmax15" or "sparsemax".
        layers: The layers whose attention is changed: `mid`, dotted names, or numbers of blocks; by default a UNet
            without its middle, or every block of a transformer.

    Reference:
        arXiv:2503.07677.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("5 | pladis()").start().plan(Step(index=0, count=4)).evaluations
        2
    """

    card: ClassVar[Card] = Card(
        title="PLADIS",
        needs="cross-attention",
        says="Attention to the text is pushed from dense weights past sparse ones, in every prediction.",
        formula="A = s entmax_1.5(Q K / sqrt d) + (1 - s) softmax(Q K / sqrt d)",
        paper="2503.07677",
        source="pamparamm/sd-perturbed-attention, pladis_utils.py, and a port of the authors' processor, which agree; "
        "joint attention: KwanjoonPark/pladis-vla, which states the lines of the authors' pipeline for Flux",
        rows="2 (1 at w = 1)",
        defaults="s 2, 1.5-entmax, and the layers of the encoder and the decoder without the middle: the node's; the "
        "authors' for SDXL, as a port quotes them",
        hosts=(Implementation("ComfyUI", "a custom node"),),
    )
    reads_uncond: ClassVar[bool] = False
    replaces: ClassVar[Literal["cond", "uncond", "both"] | None] = "both"

    kind: Literal["pladis"] = "pladis"
    space: Space = "model"
    s: Real = 2.0
    sparse: Sparse = "entmax15"
    layers: Layers = LEVELS

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return SparseAttention("cond", self.s, self.sparse, self.layers)

    def second_variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return SparseAttention("uncond", self.s, self.sparse, self.layers)

    def supplies(self, step: Step, memory: Mapping[str, Any]) -> Literal["uncond", "cond", "both"] | None:  # noqa: ARG002
        return "both"

    def conditional(self, cond: "Tensor", context: StepContext) -> "Tensor":
        return cond if context.extra is None else context.extra

    def unconditional(self, uncond: "Tensor", context: StepContext) -> "Tensor":
        return uncond if context.second is None else context.second
