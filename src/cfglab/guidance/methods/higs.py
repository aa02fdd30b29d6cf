"""HiGS, history-guided sampling: away from the average of past predictions, in high frequencies (2509.22300)."""

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from cfglab.errors import InputError, NoNoiseLevel
from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Fraction, NotNegative
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card, Implementation
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor

SHARPNESS = 50.0
"""The slope of the high-pass filter at its cutoff (appendix F)."""


class HiGS(Transform):
    """`D + s(t) HP(d)`, `d` the part of `D - m` across D plus `eta` times its part along D; then m moves towards D.

    arXiv:2509.22300, algorithms 2 and 3, on guided clean images D. m starts at zero and becomes
    `alpha D + (1 - alpha) m` after every step; the first step changes nothing. `s(t) = s sqrt((t - t_min) / (t_max -
    t_min))` for t_min < t <= t_max, 0 elsewhere, where t = sigma / (1 + sigma) is 1 at noise. HP is a high-pass filter
    of the orthonormal cosine transform, `sigmoid(50 (R - cutoff))` with R = hypot(row / rows, column / columns). A
    two-call sampler counts every call.

    Attributes:
        space: The parameterization in which it acts; the paper's is x0.
        s: The largest scale, 0 or more.
        alpha: The weight of the newest prediction in m, 0 to 1.
        eta: The factor of the part along the prediction, 0 to 1; 1 keeps it.
        cutoff: The frequency of the filter, in cycles of the cosine transform over its length, 0 or more.
        t_min: The noise level below which it does nothing, 0 to 1.
        t_max: The noise level above which it does nothing, above `t_min`.

    Reference:
        arXiv:2509.22300, algorithms 2 and 3, appendix F.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("4 | higs(s=1, eta=0)"))
        4 | higs(s=1, eta=0)
    """

    card: ClassVar[Card] = Card(
        title="History-guided sampling (HiGS)",
        says="High frequencies in which a prediction differs from the average of those before it are made stronger.",
        formula="D + s(t) HP(d), d = (D - m)_orth + eta (D - m)_par; m <- alpha D + (1 - alpha) m, m = 0 at first",
        paper="2509.22300",
        source="algorithms 2 and 3 and appendix F, as two independent implementations of them have it; the authors "
        "have no code",
        rows="2 (1 at w = 1)",
        defaults="s 1.75, alpha 0.75, cutoff 0.05, t from 0.4 to 1: within the paper's ranges (alpha 0.5 or 0.75, "
        "t_min 0.3 to 0.5, t_max 0.9 to 1); eta 1, its setting for preference, 0 is that for FID",
        hosts=(
            Implementation("Forge", "an extension, with eta 0"),
            Implementation("ComfyUI", "a custom node, with s 2 and t up to 0.95"),
        ),
    )
    reads_uncond: ClassVar[bool] = False
    acts_when_equal: ClassVar[bool] = True

    kind: Literal["higs"] = "higs"
    space: Space = "x0"
    s: NotNegative = 1.75
    alpha: Fraction = 0.75
    eta: Fraction = 1.0
    cutoff: NotNegative = 0.05
    t_min: Fraction = 0.4
    t_max: Fraction = 1.0

    @model_validator(mode="after")
    def _window(self) -> "HiGS":
        if self.t_max <= self.t_min:
            raise InputError(f"higs(t_min={self.t_min:g}, t_max={self.t_max:g}): t_min is below t_max; swap them.")
        return self

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":
        from cfglab.guidance.reductions import along

        mean = context.memory.get("mean")
        context.memory["mean"] = self.alpha * guided + (0.0 if mean is None else (1 - self.alpha) * mean)
        scale = self._scale(context.step)
        if mean is None or not scale:
            return guided
        change = guided - mean
        parallel = along(change, guided)
        return guided + scale * high_pass(change - parallel + self.eta * parallel, self.cutoff)

    def _scale(self, step: Step) -> float:
        if step.sigma is None:
            raise NoNoiseLevel(
                f"higs at step {step.index} without sigma: its scale follows the noise level; give the step its sigma."
            )
        t = 1.0 if math.isinf(step.sigma) else step.sigma / (1 + step.sigma)
        return self.s * math.sqrt((t - self.t_min) / (self.t_max - self.t_min)) if self.t_min < t <= self.t_max else 0.0


def high_pass(image: "Tensor", cutoff: float) -> "Tensor":
    """An image without its low frequencies of the cosine transform.

    Args:
        image: (n, channels, ..., h, w), float32 or float64.
        cutoff: The frequency at which half is kept, in cycles over the length of the transform.

    Returns:
        A tensor of the same shape.

    Raises:
        InputError: The image has no height and width.
    """
    import torch

    from cfglab.guidance.methods.laplacian_pyramid import check_spatial

    check_spatial("higs", image)
    height, width = image.shape[-2:]
    rows, columns = _cosines(height, image), _cosines(width, image)
    frequencies = (torch.arange(size, dtype=image.dtype, device=image.device) / size for size in (height, width))
    radius = torch.hypot(*torch.meshgrid(*frequencies, indexing="ij"))
    spectrum = rows @ image @ columns.T * torch.sigmoid(SHARPNESS * (radius - cutoff))
    return rows.T @ spectrum @ columns


def _cosines(size: int, like: "Tensor") -> "Tensor":
    """The matrix of the orthonormal cosine transform (DCT-II), (size, size), a frequency in each row."""
    import torch

    index = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * (index[None] + 0.5) * index[:, None]) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like)
