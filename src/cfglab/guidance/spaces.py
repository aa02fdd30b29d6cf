"""What a prediction means, and the one linear formula between the meanings.

The model sees `x = alpha * (x0 + sigma * epsilon)` (sigma is noise over signal; VP: alpha = 1 / sqrt(1 + sigma^2),
flow: alpha = 1 - t = 1 / (1 + sigma)). With `z = x / alpha` every prediction is `a * z + b * epsilon`:

| space | meaning | a | b |
|---|---|---|---|
| epsilon | the noise | 0 | 1 |
| x0 | the clean picture, `z - sigma * epsilon` | 1 | -sigma |
| v | `alpha * (epsilon - sigma * x0)` (2202.00512) | -alpha * sigma | alpha * (1 + sigma^2) |
| flow | `epsilon - x0` (2209.03003) | -1 | 1 + sigma |
"""

from math import isfinite

import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance.names import Space
from cfglab.step import Step


def convert(tensor: Tensor, latents: Tensor | None, step: Step, source: Space, target: Space) -> Tensor:
    """The same prediction in another space. Shape (n, ...); float32 inside, or float64 where the tensor is.

    `latents` is what the denoiser sees, already scaled. Raises InputError where latents, sigma or alpha are missing,
    or where the conversion divides by zero (from x0 at sigma 0, from anything at alpha 0).
    """
    tensor = wide(tensor)
    if source == target:
        return tensor
    a, b = _factors(step, source, target)
    c, d = _factors(step, target, source)
    if latents is None:
        raise InputError(
            f"a prediction of {source!r} without latents: turning it into {target!r} needs what the denoiser saw; "
            "call combine(uncond, cond, step, latents) with the scaled model input."
        )
    z = wide(latents) / _alpha(step)
    return c * z + (d / b) * (tensor - a * z)


def ratio(step: Step, source: Space, target: Space) -> float:
    """The factor that turns a difference of two predictions from `source` into `target`. Raises as `convert` does."""
    if source == target:
        return 1.0
    return _factors(step, target, source)[1] / _factors(step, source, target)[1]


def wide(tensor: Tensor) -> Tensor:
    """float32 for half precision, float64 stays: reductions never run in float16 or bfloat16."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _alpha(step: Step) -> float:
    if step.alpha is None or not step.alpha > 0:
        raise InputError(
            f"step {step.index} has alpha {step.alpha}: a conversion between spaces divides by it, so it must be known "
            'and above zero; give the step its alpha or use space="model".'
        )
    return step.alpha


def _factors(step: Step, space: Space, other: Space) -> tuple[float, float]:
    if "model" in (space, other):
        raise InputError(
            f"what this model predicts is not known, so {other!r} cannot be had from {space!r}: "
            'use space="model", or name the prediction in Guidance.start(prediction).'
        )
    sigma, alpha = step.sigma, _alpha(step)
    if sigma is None or not isfinite(sigma):
        raise InputError(
            f"step {step.index} has sigma {sigma}: turning {space!r} into {other!r} needs the noise over signal; "
            'give the step a finite sigma or use space="model".'
        )
    if sigma == 0 and "x0" in (space, other):
        raise InputError(
            f"step {step.index} has sigma 0: without noise x0 says nothing about {({space, other} - {'x0'}).pop()!r}; "
            'use space="model" or a sampler that does not call the model at sigma 0.'
        )
    return {
        "epsilon": (0.0, 1.0),
        "x0": (1.0, -sigma),
        "v": (-alpha * sigma, alpha * (1 + sigma**2)),
        "flow": (-1.0, 1 + sigma),
    }[space]
