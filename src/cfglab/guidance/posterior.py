"""How far the sampler's last step lies from where a prediction would have led: what FBG and DNG compare.

With z = x / alpha = x0 + sigma epsilon, and the noises s = sigma^2 before the step and s' after it, the reverse process
goes from z to a Gaussian of mean (s' / s) z + (1 - s' / s) D and variance (s - s') s' / s, for a prediction D of x0.
At pure noise, where a flow begins, alpha is 0 and s infinite: the mean is D then, and the variance s'.
"""

from collections.abc import Sequence
from math import isinf
from typing import TYPE_CHECKING

from cfglab.guidance.context import StepContext

if TYPE_CHECKING:
    from torch import Tensor


def over_signal(context: StepContext) -> "Tensor | None":
    """z = x / alpha of a step.

    Args:
        context: The step.

    Returns:
        (n, ...); zeros at pure noise, where no later step weighs it; None where latents, sigma or alpha are missing.
    """
    step = context.step
    if context.latents is None or step.sigma is None or step.alpha is None:
        return None
    return context.latents / step.alpha if step.alpha else context.latents * 0


def transition(
    z: "Tensor", before: "Tensor", sigma_before: float, sigma: float, predictions: Sequence["Tensor"]
) -> tuple[list["Tensor"], float]:
    """Squared distances of a sample from the means to which predictions of x0 would have led.

    Args:
        z: The sample after the step, (n, ...).
        before: The sample before the step, (n, ...).
        sigma_before: Its noise level, above `sigma`; may be infinite.
        sigma: The noise level after the step, above 0.
        predictions: Predictions of x0 at the step before, (n, ...) each.

    Returns:
        One distance for each prediction, (n, 1, ...), and the variance of the step.
    """
    from cfglab.guidance.reductions import dot

    s, s_next = sigma_before**2, sigma**2
    share, variance = (0.0, s_next) if isinf(s) else (s_next / s, (s - s_next) * s_next / s)
    errors = [z - share * before - (1 - share) * clean for clean in predictions]
    return [dot(error, error) for error in errors], variance
