"""The prediction in a denoiser's output, taken out and put in."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cfglab.guidance import Perturbation
from cfglab.pipelines.interception.denoiser_call import DenoiserCall
from cfglab.pipelines.interception.run import GuidedRun


class SkippedOutput(tuple[Any, ...]):
    """An output of a denoiser that was not run: a tuple, and an object with `sample`."""

    sample = property(lambda self: self[0])


def prediction(output: Any) -> Tensor:
    """The tensor in a denoiser's output: rows first."""
    value = output if isinstance(output, Tensor) else output[0]
    return torch.stack(list(value)) if isinstance(value, list | tuple) else value


def with_prediction(output: Any, value: Tensor) -> Any:
    """The same kind of output with another prediction; a tuple where nothing was run (None)."""
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
    """The prediction of these rows, as the profile says it is meant; the output is kept as the run's template."""
    output = call.run(rows, variation, run.encodings.insert)
    if variation is None:
        run.template = output
    value = prediction(output)
    value = value.float() if run.profile.wide else value
    return -value if run.profile.negated else value
