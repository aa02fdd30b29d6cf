"""Published curves that no other shape gives: the beta density and the exponential."""

import math
from typing import Annotated, Literal

from pydantic import Field

from cfglab.schedules.fields import Real, bounded
from cfglab.schedules.schedule import Schedule
from cfglab.step import Step

Order = Annotated[
    Real,
    bounded(
        lambda value: 1 <= value <= 1000,
        "it is between 1 and 1000, below 1 the density has no bound; write a=2, b=3.",
    ),
]
Rate = Annotated[
    Real,
    bounded(lambda value: value >= 0, "it is 0 or more, for guidance grows as the noise falls; 0 is the constant max."),
]


class Beta(Schedule):
    """w = scale * Beta(a, b).pdf(i / (N - 1)): the time curve of beta-CFG, arXiv:2502.10574.

    A hump that peaks at (a - 1) / (a + b - 2) of the run; a = 2, b = 3 is the example of the authors' repository. The
    density has mean 1 over the run, so `scale` is about the dose. Where a and b are above 1 it is 0 at the first and
    the last step, and w = 0 is purely *unconditional*, not off. The paper also divides the update by its norm, which
    reads the predictions and is a transform; without it (gamma = 0) the method is this schedule.

    Attributes:
        scale: The factor of the density, a finite number.
        a: The first parameter of the beta distribution, 1 to 1000.
        b: The second parameter of the beta distribution, 1 to 1000.

    Reference:
        arXiv:2502.10574.

    Examples:
        >>> from cfglab import Beta
        >>> [round(w, 3) for w in Beta(scale=7.5).values(5)]
        [0.0, 12.656, 11.25, 4.219, 0.0]
    """

    kind: Literal["beta"] = Field("beta", repr=False)
    scale: Real
    a: Order = 2.0
    b: Order = 3.0

    def _w(self, step: Step) -> float:
        return self.scale * _density(step.index / max(1, step.count - 1), self.a, self.b)


def _density(x: float, a: float, b: float) -> float:
    """Beta(a, b).pdf(x) on [0, 1], in logarithms where that could overflow."""
    if x <= 0:
        return b if a == 1 else 0.0
    if x >= 1:
        return a if b == 1 else 0.0
    size = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(size + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x))


class C2FG(Schedule):
    """w = max * exp(-rate * t), with t = 1 - i / N from noise to image: C2FG, arXiv:2603.08155.

    Guidance grows along the run, from max * exp(-rate) towards `max`. t is the paper's t / t_max where timesteps are
    evenly spaced, as the paper's are. The paper writes it from the other end,
    `omega0 exp(lambda (1 - t / t_max))`: `max = omega0 e^lambda`, `rate = lambda`. The published combination is
    `uncond + w (cond - uncond)` as here. Neither number has a default: the paper chooses them per model (omega0 = 1,
    lambda = ln 2 for DiT-XL/2 is `c2fg(max=2, rate=0.693)`).

    Attributes:
        max: The value that w approaches at the end of the run, a finite number.
        rate: The exponential rate, 0 or more; 0 is the constant max.

    Reference:
        arXiv:2603.08155.

    Examples:
        >>> from cfglab import C2FG
        >>> [round(w, 3) for w in C2FG(max=2, rate=0.693).values(4)]
        [1.0, 1.189, 1.414, 1.682]
    """

    kind: Literal["c2fg"] = Field("c2fg", repr=False)
    max: Real
    rate: Rate

    def _w(self, step: Step) -> float:
        return self.max * math.exp(-self.rate * (1 - step.progress))

    def span(self) -> tuple[float, float]:
        """(max * exp(-rate), max)."""
        return (self.max * math.exp(-self.rate), self.max)
