"""Autoguidance: away from a weaker model under the same condition (2406.02507)."""

from typing import ClassVar, Literal

from pydantic import model_validator

from cfglab.errors import InputError
from cfglab.guidance.context import Perturbation
from cfglab.guidance.fields import NotNegative
from cfglab.guidance.methods.weak_prediction import Layers, WeakPrediction
from cfglab.guidance.perturbations.skipped_layers import SkippedLayers
from cfglab.guidance.perturbations.weak_models import WeakModelPass
from cfglab.method_card import Card, Implementation
from cfglab.step import Step


class AutoGuidance(WeakPrediction):
    """`g + (w - 1) (D_1 - D_0)`: away from a weaker model D_0 under the same condition.

    arXiv:2406.02507. The paper's autoguidance is `1 | autoguidance(w=2, model=...)`, two rows a step; over a schedule
    it adds to classifier-free guidance. `model` names a network known to `register_weak_model`; `twin` is that of the
    bundled model. `skip` instead makes the weaker model out of the same one by leaving layers out, a variant that is
    not the paper's. The best w differs from model to model (1.7 to 2.9 in the paper), so it has no default.

    Attributes:
        w: The scale of the extrapolation, 0 or more; 1 is none.
        model: The name of the weaker network, known to `register_weak_model`; None with `skip`.
        skip: The layers to leave out of the same network; None with `model`.
        start: The fraction of the run from which it acts, 0 to 1.
        stop: The fraction of the run at which it stops, above `start`.

    Reference:
        arXiv:2406.02507.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> guidance = Guidance("1 | autoguidance(w=2, model=twin)")
        >>> guidance.start().plan(Step(index=0, count=4)).evaluations
        2
    """

    card: ClassVar[Card] = Card(
        title="Autoguidance",
        needs="weak model",
        says="Away from what a smaller or less trained model predicts under the same condition.",
        formula="g + (w - 1) (D - D_weak)",
        paper="2406.02507",
        source="NVlabs/edm2, generate_images.py: the weaker prediction, extrapolated by w",
        rows="2 (3 with classifier-free guidance)",
        defaults="none: w depends on the pair of models, 1.7 to 2.9 in the authors' presets",
        hosts=(
            Implementation(
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
    def _check_source(self) -> "AutoGuidance":
        if (self.model is None) == (self.skip is None):
            fault = "without a weaker model" if self.model is None else "with a weaker model and layers to skip"
            raise InputError(
                f"autoguidance {fault}: it needs one of them; write model=twin for the bundled model, or skip=mid."
            )
        return self

    def factor(self) -> float:
        return self.w - 1

    def weak_pass(self, step: Step) -> Perturbation:  # noqa: ARG002
        return SkippedLayers(self.skip, self.kind) if self.skip is not None else WeakModelPass(str(self.model))
