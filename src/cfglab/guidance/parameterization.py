"""The parameterizations of a prediction, and the one linear formula that converts between them.

The model sees `x = a * x0 + n * epsilon`, with the signal's factor `a = alpha` and the noise's `n = alpha * sigma`
(sigma is noise over signal; VP: a^2 + n^2 = 1, flow: a = 1 - t, n = t). Every prediction is `p * epsilon + q * x0`:

| parameterization | meaning | p | q |
|---|---|---|---|
| epsilon | the noise | 1 | 0 |
| x0 | the clean image | 0 | 1 |
| v | `a * epsilon - n * x0` (2202.00512) | a | -n |
| flow | `epsilon - x0` (2209.03003) | 1 | -1 |
| edm | F of EDM: `x0 = c_skip (x0 + sigma epsilon) + c_out F` (2206.00364, table 1) | -a d | n / d |

The last has `a = 1 / sqrt(d^2 + sigma^2)` with the standard deviation d of the data, `sigma_data`, so `a d` is
`sqrt(1 - n^2)`; at d = 1 it is -v.

The logits of a discrete model (masked or autoregressive) are no such sum: they stay as they are.

Two equations, so `y' = ((p' a - q' n) y + (q' p - p' q) x) / (p a - q n)`: finite at pure noise too, where a is 0.
"""

from math import isinf, sqrt

import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance.names import Space, check_space
from cfglab.step import Step


def convert(tensor: Tensor, latents: Tensor | None, step: Step, source: Space, target: Space) -> Tensor:
    """The same prediction in another parameterization.

    Args:
        tensor: The prediction, (n, ...), any floating dtype.
        latents: The input of the denoiser, (n, ...), already scaled; not read if `source == target`.
        step: The step, with its sigma and alpha.
        source: The parameterization of `tensor`.
        target: The parameterization to convert to.

    Returns:
        The converted prediction, (n, ...), float32, or float64 if `tensor` is.

    Raises:
        InputError: The latents, sigma or alpha are missing, the shapes differ, or one parameterization does not
            determine the other (x0 without noise, epsilon at pure noise).
    """
    check_space("source", source)
    check_space("target", target)
    if not isinstance(tensor, Tensor):
        raise InputError(f"a prediction that is a {type(tensor).__name__}: give torch.as_tensor(…).")
    tensor = upcast(tensor)
    if source == target:
        return tensor
    a, n = _levels(step, source, target)
    (p, q), (to_p, to_q) = parts(source, a, n), parts(target, a, n)
    _check(step, source, target, p * a - q * n, to_p * a - to_q * n)
    if latents is None:
        raise InputError(
            f"a prediction of {source!r} without latents: turning it into {target!r} needs the denoiser's input; "
            "call combine(uncond, cond, step, latents) with the scaled model input."
        )
    if latents.shape != tensor.shape:
        raise InputError(
            f"latents of shape {tuple(latents.shape)} and predictions of shape {tuple(tensor.shape)}: turning "
            f'{source!r} into {target!r} needs both of one shape; use space="model" for this model.'
        )
    determinant = p * a - q * n
    converted = tensor * ((to_p * a - to_q * n) / determinant)
    return converted.add(upcast(latents), alpha=(to_q * p - to_p * q) / determinant)


def ratio(step: Step, source: Space, target: Space) -> float:
    """The factor that turns a difference of two predictions from `source` into `target`.

    Args:
        step: The step, with its sigma and alpha.
        source: The parameterization of the difference.
        target: The parameterization to convert to.

    Returns:
        The factor; 1.0 if `source == target`.

    Raises:
        InputError: As `convert` does for sigma and alpha.

    Examples:
        >>> from cfglab import Step
        >>> ratio(Step(0, 4, sigma=3.0, alpha=0.25), "epsilon", "x0")
        -3.0
    """
    if source == target:
        return 1.0
    a, n = _levels(step, source, target)
    (p, q), (to_p, to_q) = parts(source, a, n), parts(target, a, n)
    _check(step, source, target, p * a - q * n, to_p * a - to_q * n)
    return (to_p * a - to_q * n) / (p * a - q * n)


def upcast(tensor: Tensor) -> Tensor:
    """float32 for half precision, float64 stays: reductions never run in float16 or bfloat16.

    Args:
        tensor: Any shape, any floating dtype.

    Returns:
        The tensor in float32 or float64.
    """
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _levels(step: Step, space: Space, target: Space) -> tuple[float, float]:
    """The factors of signal and noise at this step."""
    if "logits" in (space, target):
        raise InputError(
            f"the logits of tokens have no epsilon, x0, v or flow, so {target!r} cannot be had from {space!r}: guide "
            'this model by a schedule alone, or use space="model", which is the logits here.'
        )
    if "model" in (space, target):
        raise InputError(
            f"what this model predicts is not known, so {target!r} cannot be had from {space!r}: use "
            'space="model", or in a loop of your own name the prediction, Guidance.start(prediction).'
        )
    sigma, alpha = step.sigma, step.alpha
    if sigma is None or sigma != sigma or (isinf(sigma) and alpha):
        raise InputError(
            f"step {step.index} has sigma {sigma}: turning {space!r} into {target!r} needs the noise over signal, "
            'infinite only where alpha is 0; give the step its sigma or use space="model".'
        )
    if alpha is None or not alpha >= 0 or (alpha == 0 and not isinf(sigma)):
        raise InputError(
            f"step {step.index} has alpha {alpha} and sigma {sigma}: a conversion between spaces needs the signal's "
            'factor, 0 only at infinite sigma; give the step its alpha or use space="model".'
        )
    return alpha, 1.0 if isinf(sigma) else alpha * sigma


def parts(space: Space, a: float, n: float) -> tuple[float, float]:
    """The shares of noise and image in a prediction, p and q of the table above.

    Args:
        space: "epsilon", "x0", "v", "flow" or "edm".
        a: The signal's factor.
        n: The noise's factor.

    Returns:
        (p, q).

    Raises:
        InputError: These are no levels of EDM, and the space is "edm".
    """
    if space == "edm":
        if not 0 < n < 1 or not a > 0:
            raise InputError(
                f"factors of signal {a:g} and noise {n:g}: those of EDM are 1 and sigma over sqrt(sigma_data^2 + "
                'sigma^2); use space="model", or another space.'
            )
        ad = sqrt((1 - n) * (1 + n))
        return -ad, n * a / ad
    return {"epsilon": (1.0, 0.0), "x0": (0.0, 1.0), "v": (a, -n), "flow": (1.0, -1.0)}[space]


def _check(step: Step, source: Space, target: Space, *determinants: float) -> None:
    if 0 in determinants:
        condition = "without noise x0" if step.sigma == 0 else "at pure noise epsilon"
        lost = ({source, target} - {condition.split()[-1]}).pop()
        raise InputError(
            f"step {step.index} has sigma {step.sigma}: {condition} says nothing about {lost!r}; "
            'use space="model", another space, or a sampler that does not call the model there.'
        )
