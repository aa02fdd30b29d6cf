"""Guidance by a worse prediction of the same denoiser or of a weaker one: `g + s (c - worse)`."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, model_validator

from cfglab.card import Card, Host
from cfglab.errors import InputError
from cfglab.guidance.fields import Fraction, NotNegative
from cfglab.guidance.names import Space
from cfglab.guidance.now import Now, Variation
from cfglab.guidance.skipping import SkippedLayers
from cfglab.guidance.transforms import Transform
from cfglab.guidance.weak_models import OtherModel
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


class Weaker(Transform):
    """What they share: the hook, and the part of the run in which they act."""

    reads_uncond: ClassVar[bool] = False

    kind: str
    space: Space = "model"
    start: Fraction = 0.0
    stop: Fraction = 1.0

    @model_validator(mode="after")
    def _window(self) -> "Weaker":
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


class AutoGuidance(Weaker):
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
