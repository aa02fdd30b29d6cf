"""The seed's three normalisations, per image. They keep the guided prediction as long as the unconditional one."""

from typing import TYPE_CHECKING, Literal

from cfglab.guidance.now import Now
from cfglab.guidance.transforms import Transform

if TYPE_CHECKING:
    from torch import Tensor


class PredictionNorm(Transform):
    """The guided prediction at the length of the unconditional one: `p -> p * ||u|| / ||p||` (cf_guidance's BaseNorm).

    Close to guidance rescale (2305.08891, section 3.4) at phi = 1, with ||u|| in place of the conditional deviation.
    """

    kind: Literal["prediction_norm"] = "prediction_norm"

    def prediction(self, guided: "Tensor", now: Now) -> "Tensor":
        return _at_length_of(guided, now.uncond)


class UpdateNorm(Transform):
    """The update at the length of the prediction: `c - u -> (c - u) / ||c - u|| * ||u||` (cf_guidance's T-Norm).

    The same as plain CFG with the scale `w / (||c - u|| / ||u||)`, so useful w are small, 0.05 to 0.5.
    """

    kind: Literal["update_norm"] = "update_norm"

    def update(self, update: "Tensor", now: Now) -> "Tensor":
        return _at_length_of(update, now.uncond)


class FullNorm(Transform):
    """The update, then the guided prediction, at the length of the unconditional one (cf_guidance's FullNorm)."""

    kind: Literal["full_norm"] = "full_norm"

    def update(self, update: "Tensor", now: Now) -> "Tensor":
        return _at_length_of(update, now.uncond)

    def prediction(self, guided: "Tensor", now: Now) -> "Tensor":
        return _at_length_of(guided, now.uncond)


def _at_length_of(tensor: "Tensor", other: "Tensor") -> "Tensor":
    """`tensor` (n, ...) with each image's L2 norm that of `other`; an image of zeros stays."""
    own, wanted = _norm(tensor), _norm(other)
    return tensor * (wanted / own.where(own > 0, 1.0))


def _norm(tensor: "Tensor") -> "Tensor":
    return tensor.flatten(1).norm(dim=1).reshape(-1, *[1] * (tensor.ndim - 1))
