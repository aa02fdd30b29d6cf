"""PAG, perturbed-attention guidance: away from a prediction with identity self-attention (2403.17377)."""

from typing import ClassVar, Literal

from cfglab.guidance.context import Perturbation
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.methods.weak_prediction import Layers, WeakPrediction
from cfglab.guidance.perturbations.self_attention import IdentityAttention
from cfglab.method_card import Card, Implementation
from cfglab.step import Step


class PAG(WeakPrediction):
    """`g + s (c - c~)`, where self-attention of c~ is the identity in `layers`: every position sees only itself.

    arXiv:2403.17377; the middle block and s = 3 as in diffusers' PAG pipelines. `1 | pag()` is guidance without
    an unconditional row. Where text and image share one attention (SD 3, Flux, Chroma, Qwen-Image, Z-Image), an image
    position sees itself and the text, as in diffusers' pipeline for SD 3; the layers have to be named there.

    Attributes:
        s: The scale of the perturbed pass, 0 or more.
        layers: The layers that are perturbed: `mid`, dotted names, numbers of blocks, `'7-9'`, `'single.3'`,
            `'d2.2-9'`.
        start: The fraction of the run from which it acts, 0 to 1.
        stop: The fraction of the run at which it stops, above `start`.

    Reference:
        arXiv:2403.17377.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> plan = Guidance("1 | pag()").start().plan(Step(index=0, count=4))
        >>> plan.uncond, plan.evaluations
        (False, 2)
    """

    card: ClassVar[Card] = Card(
        title="Perturbed-attention guidance (PAG)",
        needs="self-attention",
        says="Away from a prediction whose self-attention is switched to the identity.",
        formula="g + s (c - c~), c~ with A = I in the middle block",
        paper="2403.17377",
        source="diffusers' StableDiffusionPAGPipeline and StableDiffusion3PAGPipeline",
        rows="3 (2 at w = 1)",
        defaults="s 3 and the middle block: diffusers' PAG pipelines",
        hosts=(
            Implementation(
                "diffusers",
                "the PAG pipelines are this; the guider has c + (s - 1) (c - c~) without CFG, and by default s 2.8 "
                "from 1 to 20 % of the run; in joint attention every token of the text gets its own value, too",
            ),
            Implementation("ComfyUI"),
        ),
    )

    kind: Literal["pag"] = "pag"
    s: NotNegative = 3.0
    layers: Layers = ("mid",)

    def factor(self) -> float:
        return self.s

    def weak_pass(self, step: Step) -> Perturbation:  # noqa: ARG002
        return IdentityAttention(self.layers)
