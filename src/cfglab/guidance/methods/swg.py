"""SWG, sliding window guidance: away from the same model on crops of the sample (2411.10257)."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.fields import Inside, NotNegative
from cfglab.guidance.methods.weak_prediction import WeakPrediction
from cfglab.guidance.perturbations.cropped_sample import CroppedSample
from cfglab.method_card import Card, Implementation
from cfglab.schedules.fields import Whole, bounded
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor

Windows = Annotated[
    Whole, bounded(lambda value: 2 <= value <= 10, "it is between 2 and 10 crops along each side; write 2.")
]


class SWG(WeakPrediction):
    """`g + s M (c - c~)`, where c~ is predicted on overlapping crops of the sample and averaged where they overlap.

    arXiv:2411.10257, masked sliding window guidance, M-SWG: M is 1 where crops overlap and 0 elsewhere;
    `masked=False` is SWG, with M = 1 everywhere. A crop sees nothing outside of it, so the difference is what the
    network knows of the whole. It costs `windows`^2 runs of a smaller network input. `1 | swg(s=...)` needs no
    unconditional row. The network must take smaller samples: UNets do, and transformers that interpolate or crop their
    positions, whose patches the crops have to be a multiple of. Refused for packed tokens and video, and where an image
    beside the sample, such as a ControlNet's, is not cropped with it.

    Attributes:
        s: The scale of the perturbed pass, 0 or more.
        crop: The sides of a crop as a share of those of the sample, above 0 and below 1.
        windows: The number of crops along each side, 2 to 10.
        masked: Whether it acts only where crops overlap.
        start: The fraction of the run from which it acts, 0 to 1.
        stop: The fraction of the run at which it stops, above `start`.

    Reference:
        arXiv:2411.10257; HHU-MMBS/swg_bmvc2025_official, `models.py`.

    Examples:
        >>> from cfglab import Guidance, Step
        >>> Guidance("1 | swg(s=0.5)").start().plan(Step(index=0, count=4)).evaluations
        5
    """

    card: ClassVar[Card] = Card(
        title="Sliding window guidance (SWG, M-SWG)",
        needs="image",
        says="Away from what the model predicts for crops of the sample, each without the others.",
        formula="g + s M (c - c~), c~ the mean of the predictions for overlapping crops, M 1 where they overlap",
        paper="2411.10257",
        source="HHU-MMBS/swg_bmvc2025_official, forward_with_crop and forward_with_cfg_crop of models.py",
        rows="6 with 2 x 2 crops (5 at w = 1), of which 4 see 39 % of the positions",
        defaults="2 x 2 crops of 0.625 of the sides, masked: the authors' code (20 of 32, 40 of 64); s depends on the "
        "model and has to be said: 0.2 to 1.1 for EDM2, 0.5 to 1.5 for DiT",
        hosts=(
            Implementation(
                "ComfyUI, reForge",
                "a custom node, s 5 above sigma 5.42, not masked; its crops are larger by the overlap and start at "
                "multiples of the tile",
            ),
        ),
    )

    kind: Literal["swg"] = "swg"
    s: NotNegative
    crop: Inside = 0.625
    windows: Windows = 2
    masked: bool = True

    def factor(self) -> float:
        return self.s

    def weak_pass(self, step: Step) -> Perturbation:  # noqa: ARG002
        return CroppedSample(self.crop, self.windows)

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        if context.extra is None:
            return guided
        change = self.s * (context.cond - context.extra)
        if self.masked:
            change = change * (CroppedSample(self.crop, self.windows).count(change) > 1)
        return guided + change
