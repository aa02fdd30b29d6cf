"""The prediction in a denoiser's output: read and replaced."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cfglab.guidance import Perturbation
from cfglab.pipelines.interception.channels import last_image
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.run import GuidedRun


class SkippedOutput(tuple[Any, ...]):
    """An output of a denoiser that was not run yet: a tuple, and an object with `sample`, also as `["sample"]`."""

    sample = property(lambda self: self[0])

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(0 if key == "sample" else key)


def prediction(output: Any) -> Tensor:
    """The prediction in a denoiser's output.

    Args:
        output: A tensor, a list of tensors, a tuple or an output object.

    Returns:
        (rows, ...).
    """
    value = output if isinstance(output, Tensor) else output[0]
    return torch.stack(list(value)) if isinstance(value, list | tuple) else value


def with_prediction(output: Any, value: Tensor) -> Any:
    """The same kind of output with another prediction.

    Args:
        output: An output of the denoiser; None if nothing was run.
        value: The prediction, (rows, ...).

    Returns:
        An output of the same kind; a SkippedOutput for None.
    """
    if output is None:
        return SkippedOutput((value,))
    if isinstance(output, Tensor):
        return value
    content: Any = list(value.unbind(0)) if isinstance(output[0], list | tuple) else value
    if isinstance(output, dict):
        keys: Iterator[str] = iter(output)
        return type(output)(**{**output, next(keys): content})
    return (content, *output[1:])


def predicted(
    run: GuidedRun, call: DenoiserCall, rows: list[int] | None = None, variation: Perturbation | None = None
) -> Tensor:
    """The predictions of some rows, with the sign and dtype of the profile. Stores the output's kind as `run.template`.

    Args:
        run: The run.
        call: The denoiser call.
        rows: The rows, in this order; None for all.
        variation: The perturbed pass; None for the denoiser as it is.

    Returns:
        (rows, ...).
    """
    output = call.run(rows, variation, run.encodings.insert)
    value = last_image(call, prediction(output))
    if variation is None or run.template is None:
        run.template = with_prediction(output, value.new_empty(0))  # no prediction stays alive in it
    value = value.float() if run.profile.wide else value
    return -value if run.profile.negated else value
