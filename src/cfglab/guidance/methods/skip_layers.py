"""SLG, skip-layer guidance: away from a prediction without some layers."""

from typing import ClassVar, Literal

from cfglab.guidance.context import Perturbation
from cfglab.guidance.fields import Fraction, NotNegative
from cfglab.guidance.methods.weak_prediction import Layers, WeakPrediction
from cfglab.guidance.perturbations.skipped_layers import SkippedLayers
from cfglab.method_card import Card, Implementation
from cfglab.step import Step


class SkipLayers(WeakPrediction):
    """`g + s (c - c~)`, where c~ leaves `layers` out: skip-layer guidance (SLG), Stability AI's for SD 3.5.

    It has no paper of its own; STG (arXiv:2411.18664) is its form for video. Layers are `mid`, dotted names, or numbers
    of blocks; which ones help depends on the network, so they have no default: (7, 8, 9) for SD 3.5 Medium.
    It acts while `start <= i / N < stop`. Stability AI's code leaves out the step at which `i / N` is `start` itself,
    which is one of a run of 100 steps and, with `start=0`, the first of any run.

    Attributes:
        s: The scale of the perturbed pass, 0 or more.
        layers: The layers that are left out: `mid`, dotted names, numbers of blocks, `'7-9'`, or `'single.3'`.
        start: The fraction of the run from which it acts, 0 to 1.
        stop: The fraction of the run at which it stops, above `start`.

    Reference:
        arXiv:2411.18664, for its form for video.

    Examples:
        >>> from cfglab import Guidance, steps
        >>> guide = Guidance("5 | skip_layers(layers=(7, 8, 9))").start()
        >>> [guide.plan(step).evaluations for step in steps(10)]
        [2, 3, 2, 2, 2, 2, 2, 2, 2, 2]
    """

    card: ClassVar[Card] = Card(
        title="Skip-layer guidance (SLG)",
        needs="layers",
        says="Away from a prediction that leaves some layers out, early in the run.",
        formula="g + s (c - c~), c~ without the layers",
        source="Stability AI's reference for SD 3.5 Medium, as diffusers' SkipLayerGuidance has it",
        rows="3 in the window, 2 outside (one less at w = 1)",
        defaults="s 2.8 from 1 to 20 % of the run: Stability AI's; no layers, they depend on the network",
        hosts=(
            Implementation("Stability-AI/sd3.5", "acts while N start < i: not at the step that is `start` itself"),
            Implementation(
                "diffusers",
                "c + (s - 1) (c - c~) without CFG; a list of layers fails, and the two streams of SD 3 come back "
                "swapped (0.42.1)",
            ),
            Implementation("ComfyUI", "s 3 from 1 to 15 %; layers 7, 8, 9"),
        ),
    )

    kind: Literal["skip_layers"] = "skip_layers"
    s: NotNegative = 2.8
    layers: Layers
    start: Fraction = 0.01
    stop: Fraction = 0.2

    def factor(self) -> float:
        return self.s

    def weak_pass(self, step: Step) -> Perturbation:  # noqa: ARG002
        return SkippedLayers(self.layers)
