"""SEG, smoothed energy guidance: away from a prediction with blurred attention queries (2408.00760)."""

from typing import ClassVar, Literal

from cfglab.guidance.context import Perturbation
from cfglab.guidance.fields import NotNegative, Positive
from cfglab.guidance.methods.weak_prediction import Layers, WeakPrediction
from cfglab.guidance.perturbations.self_attention import BlurredQueries
from cfglab.method_card import Card, Implementation
from cfglab.step import Step


class SEG(WeakPrediction):
    """`g + s (c - c~)`, where the queries of self-attention of c~ are blurred over the image in `layers`.

    arXiv:2408.00760, equations 6 to 9, in the form of the authors' code, whose blurred row has the prompt and whose s
    is the paper's gamma less 1. `sigma` is in positions of that layer; None is infinite: all queries are their mean.
    In transformers the queries are those of the product, normalized and turned by their positions, so that its logits
    are blurred; the text's stay, and the frames of a video are blurred each alone.

    Attributes:
        s: The scale of the perturbed pass, 0 or more.
        sigma: The standard deviation of the blur, in positions of the layer, above 0; None is infinite.
        layers: The layers that are perturbed: `mid`, dotted names, numbers of blocks, `'7-9'`, `'single.3'`,
            `'d2.2-9'`.
        start: The fraction of the run from which it acts, 0 to 1.
        stop: The fraction of the run at which it stops, above `start`.

    Reference:
        arXiv:2408.00760, equations 6 to 9.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("5 | seg(sigma=10)"))
        5 | seg(sigma=10)
    """

    card: ClassVar[Card] = Card(
        title="Smoothed energy guidance (SEG)",
        needs="self-attention",
        says="Away from a prediction whose self-attention weights are blurred.",
        formula="g + s (c - c~), c~ with Q -> G_sigma * Q in the middle block",
        paper="2408.00760",
        source="equations 6 to 9; SusungHong/SEG-SDXL, pipeline_seg.py",
        rows="3 (2 at w = 1)",
        defaults="s 3, infinite sigma and the middle block: the authors' code",
        hosts=(
            Implementation(
                "diffusers",
                "the guider never perturbs (0.42.1), its third prediction is the conditional one; its blur is the mean "
                "where sigma is finite, the Gaussian where it is infinite, of queries before norm and rotation",
            ),
            Implementation("ComfyUI", "a custom node"),
        ),
    )

    kind: Literal["seg"] = "seg"
    s: NotNegative = 3.0
    sigma: Positive | None = None
    layers: Layers = ("mid",)

    def factor(self) -> float:
        return self.s

    def weak_pass(self, step: Step) -> Perturbation:  # noqa: ARG002
        return BlurredQueries(self.layers, self.sigma)
