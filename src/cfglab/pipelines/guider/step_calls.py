"""The denoiser calls of one step of a guider."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import Perturbation


@dataclass(frozen=True)
class StepCall:
    """One denoiser call of a step.

    Attributes:
        name: The name of its prediction.
        source: 0 for the rows with the prompt, 1 for those without.
        variation: The perturbed pass; None for the denoiser as it is.
    """

    name: str
    source: int
    variation: Perturbation | None = None


CONDITIONAL, UNCONDITIONAL = StepCall("pred_cond", 0), StepCall("pred_uncond", 1)


def perturbed(variation: Perturbation, number: int) -> StepCall:
    """The call of a perturbed pass.

    Args:
        variation: The perturbed pass.
        number: Its number in the step, from 1.

    Returns:
        The call.

    Raises:
        InputError: The pass has a prompt of its own, which a guider cannot encode.
    """
    if getattr(variation, "prompt", None) is not None:
        raise InputError(
            f"{variation!r} has a prompt of its own: a guider is given embeddings and cannot encode a text; use "
            "guide(pipe, …) on a classic pipeline."
        )
    return StepCall(f"pred_{variation.source}_{number}", 1 if variation.source == "uncond" else 0, variation)


def as_batch(latents: Any, like: Tensor) -> Tensor:
    """The input of the denoiser as one tensor, without axes that the prediction does not have.

    Args:
        latents: A tensor, or a list with one tensor per image.
        like: The prediction, (n, ...).

    Returns:
        (n, ...), in the shape of `like` if the number of values is the same.
    """
    stacked: Tensor = torch.stack(list(latents)) if isinstance(latents, list | tuple) else latents
    return stacked.reshape(like.shape) if stacked.numel() == like.numel() else stacked
