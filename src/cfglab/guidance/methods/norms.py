"""The three normalizations of cf_guidance, per image: the target norm is that of the unconditional prediction."""

from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.guidance.context import StepContext
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation

if TYPE_CHECKING:
    from torch import Tensor


class PredictionNorm(Transform):
    """`g -> g |u| / |g|`: the guided prediction with the norm of the unconditional one (cf_guidance's BaseNorm).

    Close to guidance rescale (2305.08891, section 3.4) at phi = 1, with |u| in place of std(c).

    Reference:
        arXiv:2305.08891, section 3.4, for guidance rescale.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | prediction_norm(strength=0.5)"))
        7.5 | prediction_norm(strength=0.5)
    """

    card: ClassVar[Card] = Card(
        title="Prediction norm (BaseNorm)",
        says="The guided prediction at the length of the unconditional one.",
        formula="g |u| / |g|",
        source="cf_guidance 0.0.3, BaseNormGuidance",
        defaults="it has no parameters",
        hosts=(Implementation("cf_guidance", "lengths over the whole batch, in what the model predicts"),),
    )

    kind: Literal["prediction_norm"] = "prediction_norm"

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        return _at_length_of(guided, context.uncond)


class UpdateNorm(Transform):
    """`g = u + w (c - u) |u| / |c - u|`: the update with the norm of u (cf_guidance's T-Norm).

    The same as plain CFG with the scale `w |u| / |c - u|`, so useful w are small, 0.05 to 0.5.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("0.25 | update_norm()"))
        0.25 | update_norm()
    """

    card: ClassVar[Card] = Card(
        title="Update norm (T-Norm)",
        says="The update at the length of the unconditional prediction, so w is a share of it.",
        formula="u + w (c - u) |u| / |c - u|",
        source="cf_guidance 0.0.3, TNormGuidance",
        defaults="it has no parameters; useful w are 0.05 to 0.5",
        hosts=(Implementation("cf_guidance", "lengths over the whole batch, in what the model predicts"),),
    )

    kind: Literal["update_norm"] = "update_norm"

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":
        return _at_length_of(update, context.uncond)


class FullNorm(Transform):
    """`g -> g |u| / |g|` of `g = u + w (c - u) |u| / |c - u|`: both normalizations (cf_guidance's FullNorm).

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("0.25 | full_norm()"))
        0.25 | full_norm()
    """

    card: ClassVar[Card] = Card(
        title="Full norm",
        says="The update norm, then the prediction norm.",
        formula="g |u| / |g|, g = u + w (c - u) |u| / |c - u|",
        source="cf_guidance 0.0.3, FullNormGuidance",
        defaults="it has no parameters",
        hosts=(Implementation("cf_guidance", "lengths over the whole batch, in what the model predicts"),),
    )

    kind: Literal["full_norm"] = "full_norm"

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":
        return _at_length_of(update, context.uncond)

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        return _at_length_of(guided, context.uncond)


def _at_length_of(tensor: "Tensor", reference: "Tensor") -> "Tensor":
    """`tensor` (n, ...) with each image's L2 norm that of `other`; an image of zeros stays."""
    from cfglab.guidance.reductions import norm, safe_divide

    return tensor * safe_divide(norm(reference), norm(tensor), 0.0)
