"""FBG, feedback guidance: the scale from a running posterior of the condition (2506.06085)."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from cfglab.errors import InputError, NoNoiseLevel
from cfglab.guidance.context import StepContext
from cfglab.guidance.fields import Inside, NotNegative, Positive
from cfglab.guidance.names import Space
from cfglab.guidance.posterior import over_signal, transition
from cfglab.guidance.transform import Transform
from cfglab.method_card import Card

if TYPE_CHECKING:
    from torch import Tensor

REFERENCE = 3.0  # the scale reached at t0 without any evidence
HIGHEST = 3.0  # log p is held below this


class FeedbackGuidance(Transform):
    """FBG: `w -> w + lambda - 1`, `lambda = p / (p - (1 - pi))`, p the running posterior of the condition.

    arXiv:2506.06085. With z = x / alpha, noise s = sigma^2 and s' at the end of the last step, on x0:

        log p <- log p - tau / (2 v) (|z' - mu_c|^2 - |z' - mu_u|^2) + delta
        mu = (s' / s) z + (1 - s' / s) D,   v = (s - s') s' / s,   delta = log((1 - pi) 3 / 2) / ((1 - t0) N)

    held between log((1 - pi) m / (m - 1)), m = max + 1 - w, and 3. Pure FBG is `1 | feedback(...)`, the paper's hybrids
    are `2 | feedback(...)` and `phases(scales=(1, 2, 1), sigma=(10, 0.3)) | feedback(...)`, with FBG outside the
    interval too; there the authors hold the posterior as inside. `feedback_temperature` finds tau from t1 as the
    authors' code does. Both calls of a two-call step use the scale of the first. Where w is a map, every position has
    the scale that its w gives alone; the posterior is that of the whole image.

    Attributes:
        space: The parameterization of the posterior; the paper's is x0.
        pi: The number pi of the formula, above 0 and below 1.
        t0: The time at which the scale is 3 without any evidence, above 0 and below 1 (1 is noise, 0 the image).
        tau: The temperature of the posterior, 0 or more; see `feedback_temperature`.
        max: The largest scale that it reaches, w included; above w.

    Reference:
        arXiv:2506.06085.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("1 | feedback(pi=0.95, t0=0.8, tau=0.5)"))
        1 | feedback(pi=0.95, t0=0.8, tau=0.5)
    """

    card: ClassVar[Card] = Card(
        title="Feedback guidance (FBG)",
        says="More guidance while the sample does not yet look like its condition, less once it does.",
        formula="w = p / (p - (1 - pi)), p a running posterior",
        paper="2506.06085",
        source="FelixKoulischer/FBG_using_edm2, generate_images_FBG.py",
        defaults="max 10: their function's and README's (their command's is 2); pi, t0 and tau have to be said, they "
        "depend on model and sampler",
    )

    kind: Literal["feedback"] = "feedback"
    space: Space = "x0"
    pi: Inside
    t0: Inside
    tau: NotNegative
    max: Positive = 10.0

    def scale(self, w: "float | Tensor", context: StepContext) -> "float | Tensor":
        step, memory = context.step, context.memory
        z = over_signal(context)
        if z is None:
            raise NoNoiseLevel(
                f"{self.kind} at step {step.index} without latents, sigma or alpha: it compares the sample with what "
                "was predicted; call combine(uncond, cond, step, latents) with a whole step."
            )
        if memory.get("step") != step.index:
            memory["log"] = self._log_posterior(z, w, context)
            memory.update(step=step.index, z=z, sigma=step.sigma, cond=context.cond, uncond=context.uncond)
        p = memory["log"].exp()
        return w + p / (p - (1 - self.pi)) - 1

    def _log_posterior(self, z: "Tensor", w: "float | Tensor", context: StepContext) -> "Tensor":
        memory, sigma = context.memory, float(context.step.sigma or 0)
        if "log" not in memory:
            return z.new_zeros(len(z), *[1] * (z.ndim - 1))
        seen = (memory["cond"], memory["uncond"])
        errors, variance = transition(z, memory["z"], memory["sigma"], sigma, seen)
        log = memory["log"] - self.tau / (2 * variance) * (errors[0] - errors[1]) + self._delta(context.step.count)
        most = self.max + 1 - w
        on_device = not isinstance(most, float | int) and most.device.type != "cpu"  # NaN, which the run's end reports
        if not on_device and not bool(most > 1 if isinstance(most, float | int) else (most > 1).all()):
            highest = float(w if isinstance(w, float | int) else w.max())
            raise InputError(
                f"{self} at w = {highest:g}: max is the largest scale that it reaches, w included; give a max above w."
            )
        floor = (1 - self.pi) * most / (most - 1)
        held = log.clamp(min=math.log(floor)) if isinstance(floor, float | int) else log.maximum(floor.log())
        return held.clamp(max=HIGHEST)

    def _delta(self, count: int) -> float:
        return math.log((1 - self.pi) * REFERENCE / (REFERENCE - 1)) / ((1 - self.t0) * count)


def feedback_temperature(sigmas: Sequence[float], pi: float, t0: float, t1: float) -> float:
    """tau from t1, as the authors' code finds it: `|2 v(t1) delta / 10|`, v between the neighbouring steps.

    Args:
        sigmas: The n + 1 levels (noise over signal) of a run of n steps, falling.
        pi: As in `FeedbackGuidance`, above 0 and below 1.
        t0: As in `FeedbackGuidance`, above 0 and below 1.
        t1: The time whose variance is taken, 0 to below 1; t runs from 1 (noise) to 0.

    Returns:
        The temperature, 0 or more.

    Reference:
        arXiv:2506.06085.

    Examples:
        >>> from cfglab.guidance import feedback_temperature
        >>> round(feedback_temperature([10, 5, 1, 0], pi=0.95, t0=0.8, t1=0.5), 3)
        8.509
    """
    count = len(sigmas) - 1
    delta = math.log((1 - pi) * REFERENCE / (REFERENCE - 1)) / ((1 - t0) * count)
    variances = [(a * a - b * b) * b * b / (a * a) for a, b in pairwise(sigmas)]
    rising = variances[::-1]
    low = int(t1 * count)
    part = t1 * count - low
    return abs(2 * ((1 - part) * rising[low] + part * rising[min(low + 1, count - 1)]) / 10 * delta)
