"""Guidance by a worse prediction of the same denoiser or of a weaker one: `g + s (c - worse)`."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, model_validator

from cfglab.card import Card, Host
from cfglab.errors import InputError
from cfglab.guidance.fields import Fraction, NotNegative, Positive
from cfglab.guidance.names import Space
from cfglab.guidance.now import Now, Variation
from cfglab.guidance.perturbed import BlurredQueries, IdentityAttention, OtherModel, SkippedLayers
from cfglab.guidance.transforms import Transform
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


def _layers(value: Any) -> tuple[str, ...]:
    """One name, a number, or several of them."""
    several = value if isinstance(value, tuple | list) else (value,)
    if not several or any(isinstance(one, bool) or not isinstance(one, str | int) or one == "" for one in several):
        raise ValueError("layers are names or numbers; write layers=mid or layers=(7, 8, 9).")
    return tuple(map(str, several))


Layers = Annotated[tuple[str, ...], BeforeValidator(_layers)]


class _Weaker(Transform):
    """What they share: the hook, and the part of the run in which they act."""

    reads_uncond: ClassVar[bool] = False

    kind: str
    space: Space = "model"
    start: Fraction = 0.0
    stop: Fraction = 1.0

    @model_validator(mode="after")
    def _window(self) -> "_Weaker":
        if self.stop <= self.start:
            raise InputError(
                f"{self.kind}(start={self.start:g}, stop={self.stop:g}): it stops after it starts; swap them."
            )
        return self

    def factor(self) -> float:
        """What `cond - worse` is multiplied by."""
        raise NotImplementedError

    def worse(self) -> Variation:
        """The further prediction."""
        raise NotImplementedError

    def variation(self, step: Step) -> Variation | None:
        return self.worse() if self.start <= step.progress < self.stop else None

    def prediction(self, guided: "Tensor", now: Now) -> "Tensor":
        return guided if now.extra is None else guided + self.factor() * (now.cond - now.extra)


class AutoGuidance(_Weaker):
    """`g + (w - 1) (D - D_weak)`: the prediction of a weaker model under the same condition is what guidance leaves.

    arXiv:2406.02507. The paper's autoguidance is `1 | autoguidance(w=2, model=...)`, two rows a step; over a schedule
    it adds to classifier-free guidance. `model` names a network known to `register_weak_model`; `twin` is that of the
    bundled model. `skip` instead makes the weaker model out of the same one by leaving layers out, a variant that is
    not the paper's. The best w differs from model to model (2.05 to 2.45 in the paper), so it has to be said.
    """

    card: ClassVar[Card] = Card(
        title="Autoguidance",
        says="Away from what a smaller or less trained model predicts under the same condition.",
        formula="g + (w - 1) (D - D_weak)",
        paper="2406.02507",
        source="NVlabs/edm2, generate_images.py: the weaker prediction, extrapolated by w",
        rows="2 (3 with classifier-free guidance)",
        defaults="none: w depends on the pair of models, 2.05 to 2.45 in the paper's presets",
        hosts=(
            Host(
                "diffusers",
                "its guider drops layers in the pass of the negative prompt: no weaker model, no CFG beside it",
            ),
        ),
    )

    kind: Literal["autoguidance"] = "autoguidance"
    w: NotNegative
    model: str | None = None
    skip: Layers | None = None

    @model_validator(mode="after")
    def _one(self) -> "AutoGuidance":
        if (self.model is None) == (self.skip is None):
            given = "without a weaker model" if self.model is None else "with a weaker model and layers to skip"
            raise InputError(
                f"autoguidance {given}: it needs one of them; write model=twin for the bundled model, or skip=mid."
            )
        return self

    def factor(self) -> float:
        return self.w - 1

    def worse(self) -> Variation:
        return SkippedLayers(self.skip, self.kind) if self.skip is not None else OtherModel(str(self.model))


class PAG(_Weaker):
    """`g + s (c - c~)`, where self-attention of c~ is the identity in `layers`: every position sees only itself.

    arXiv:2403.17377; the middle block and s = 3 as in diffusers' PAG pipelines. `1 | pag()` is guidance without
    an unconditional row. Refused where text and picture share one attention.
    """

    card: ClassVar[Card] = Card(
        title="Perturbed-attention guidance (PAG)",
        says="Away from a prediction whose self-attention is switched to the identity.",
        formula="g + s (c - c~), c~ with A = I in the middle block",
        paper="2403.17377",
        source="diffusers' StableDiffusionPAGPipeline",
        rows="3 (2 at w = 1)",
        defaults="s 3 and the middle block: diffusers' PAG pipelines",
        hosts=(
            Host(
                "diffusers",
                "the PAG pipelines are this; the guider has c + (s - 1) (c - c~) without CFG, and by default s 2.8 "
                "from 1 to 20 % of the run",
            ),
            Host("ComfyUI"),
        ),
    )

    kind: Literal["pag"] = "pag"
    s: NotNegative = 3.0
    layers: Layers = ("mid",)

    def factor(self) -> float:
        return self.s

    def worse(self) -> Variation:
        return IdentityAttention(self.layers)


class SEG(_Weaker):
    """`g + s (c - c~)`, where the queries of self-attention of c~ are blurred over the picture in `layers`.

    arXiv:2408.00760, equations 6 to 9, in the form of the authors' code, whose blurred row has the prompt and whose s
    is the paper's gamma less 1. `sigma` is in positions of that layer; None is infinite: all queries are their mean.
    """

    card: ClassVar[Card] = Card(
        title="Smoothed energy guidance (SEG)",
        says="Away from a prediction whose self-attention weights are blurred.",
        formula="g + s (c - c~), c~ with Q -> G_sigma * Q in the middle block",
        paper="2408.00760",
        source="equations 6 to 9; SusungHong/SEG-SDXL, pipeline_seg.py",
        rows="3 (2 at w = 1)",
        defaults="s 3, infinite sigma and the middle block: the authors' code",
        hosts=(
            Host(
                "diffusers",
                "the guider never perturbs (0.42.1), its third prediction is the conditional one; its blur is the mean "
                "where sigma is finite, the Gaussian where it is infinite",
            ),
            Host("ComfyUI", "a custom node"),
        ),
    )

    kind: Literal["seg"] = "seg"
    s: NotNegative = 3.0
    sigma: Positive | None = None
    layers: Layers = ("mid",)

    def factor(self) -> float:
        return self.s

    def worse(self) -> Variation:
        return BlurredQueries(self.layers, self.sigma)


class SkipLayers(_Weaker):
    """`g + s (c - c~)`, where c~ leaves `layers` out: skip-layer guidance (SLG), Stability AI's for SD 3.5.

    It has no paper of its own; STG (arXiv:2411.18664) is its form for video. Layers are `mid`, dotted names, or numbers
    of blocks; which ones help depends on the network, so they have to be said: (7, 8, 9) for SD 3.5 Medium.
    """

    card: ClassVar[Card] = Card(
        title="Skip-layer guidance (SLG)",
        says="Away from a prediction that leaves some layers out, early in the run.",
        formula="g + s (c - c~), c~ without the layers",
        source="Stability AI's reference for SD 3.5 Medium, as diffusers' SkipLayerGuidance has it",
        rows="3 in the window, 2 outside (one less at w = 1)",
        defaults="s 2.8 from 1 to 20 % of the run: Stability AI's; no layers, they depend on the network",
        hosts=(
            Host(
                "diffusers",
                "c + (s - 1) (c - c~) without CFG; a list of layers fails, and the two streams of SD 3 come back "
                "swapped (0.42.1)",
            ),
            Host("ComfyUI", "s 3 from 1 to 15 %; layers 7, 8, 9"),
        ),
    )

    kind: Literal["skip_layers"] = "skip_layers"
    s: NotNegative = 2.8
    layers: Layers
    start: Fraction = 0.01
    stop: Fraction = 0.2

    def factor(self) -> float:
        return self.s

    def worse(self) -> Variation:
        return SkippedLayers(self.layers)
