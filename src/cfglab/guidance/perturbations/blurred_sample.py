"""The sample blurred at the positions with most self-attention; the rows run on it again."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cfglab.errors import InputError
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.base import UnchangedInputs
from cfglab.guidance.perturbations.hooks import hooked, self_attentions
from cfglab.guidance.perturbations.self_attention import gaussian, grid_shape
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

TAPS = 9
"""The width of the kernel, in diffusers as in ComfyUI."""


@dataclass(frozen=True)
class BlurredSample(UnchangedInputs):
    """A perturbed pass: the rows of `source` on `x + alpha (D' - D)`, blurred where attention is high.

    D is the rows' own prediction of the clean image, D' that image blurred by a Gaussian of `sigma` where the first
    self-attention of the middle block looks: at positions that get more than 1 of the attention of all the others
    together, in the mean of the heads. The network runs twice: for the attention and D, then for the result, whose
    epsilon is kept. Channels of the sample behind those that are predicted (an image to edit, a mask) stay as they are.

    Attributes:
        source: The prediction whose rows are run, "cond" or "uncond".
        step: The step.
        sigma: The standard deviation of the blur, in values of the sample, above 0.
        prediction: What the network predicts.
        runs: 2, the runs of the network.
    """

    source: Literal["cond", "uncond"]
    step: Step
    sigma: float
    prediction: Space = "model"
    runs: ClassVar[int] = 2

    @contextmanager
    def applied(self, denoiser: "Module") -> "Iterator[Module]":
        import torch

        attention: Any = self_attentions(denoiser, ("mid",), "sag")[0]
        sample_name = next(iter(list(inspect.signature(type(denoiser).forward).parameters)[1:]))
        projections: dict[str, Tensor] = {}

        def recorder(name: str) -> Any:
            def hook(_: "Module", __: Any, output: "Tensor") -> None:
                projections[name] = output

            return hook

        def second_pass(module: "Module", args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            if not self.step.alpha:  # nothing of the image is in the sample
                return output
            sample = args[0] if args else kwargs[sample_name]
            prediction = _tensor(output)[:, : sample.shape[1]]
            noised, beside = sample[:, : prediction.shape[1]], sample[:, prediction.shape[1] :]
            blurred = self._blurred(noised, prediction, _attended(attention, projections["q"], projections["k"]))
            whole = torch.cat([blurred, beside], 1)
            positional = (whole, *args[1:]) if args else ()
            output = module.forward(*positional, **kwargs if args else {**kwargs, sample_name: whole})
            return self._as_of(noised, blurred, _tensor(output)[:, : sample.shape[1]])

        def add_hooks(handles: list[Any]) -> None:
            handles.append(attention.to_q.register_forward_hook(recorder("q")))
            handles.append(attention.to_k.register_forward_hook(recorder("k")))
            handles.append(denoiser.register_forward_hook(second_pass, with_kwargs=True))

        with hooked(denoiser, add_hooks):
            yield denoiser

    def _as_of(self, sample: "Tensor", blurred: "Tensor", prediction: "Tensor") -> "tuple[Tensor]":
        """The prediction for the blurred sample, as the prediction for `sample` with the same epsilon."""
        from cfglab.guidance.parameterization import convert

        noise = convert(prediction, blurred, self.step, self.prediction, "epsilon")
        return (convert(noise, sample, self.step, "epsilon", self.prediction).to(prediction.dtype),)

    def _blurred(self, sample: "Tensor", prediction: "Tensor", attended: "Tensor") -> "Tensor":
        """The input in place of the sample; `looked_at` (n, positions) is 1 where it is to be blurred."""
        from torch.nn.functional import interpolate

        from cfglab.guidance.parameterization import convert, upcast

        if sample.ndim != 4:
            raise InputError(
                f"sag on samples of shape {tuple(sample.shape)}: it blurs images, (n, channels, h, w); leave it out."
            )
        height, width = sample.shape[-2:]
        clean = convert(prediction, sample, self.step, self.prediction, "x0")
        soft = clean
        for dim in (2, 3):
            soft = gaussian(soft, self.sigma, dim, TAPS)
        grid = grid_shape(attended.shape[1], height, width)
        if grid is None:
            raise InputError(
                f"sag: {attended.shape[1]} positions are no image of {height} x {width}'s proportions; use another "
                "size."
            )
        mask = interpolate(attended.unflatten(1, grid)[:, None].to(clean), (height, width))
        return (upcast(sample) + (self.step.alpha or 0.0) * mask * (soft - clean)).to(sample.dtype)


def _tensor(output: Any) -> "Tensor":
    """The prediction in the output of a denoiser."""
    prediction: Tensor = output if hasattr(output, "shape") else output[0]
    return prediction


def _attended(attention: Any, queries: "Tensor", keys: "Tensor") -> "Tensor":
    """(n, positions): 1 where a position gets more than 1 of the attention of all, in the mean of the heads."""
    from cfglab.guidance.parameterization import upcast

    width = queries.shape[2] // attention.heads
    q = upcast(_heads(queries, width, getattr(attention, "norm_q", None)))
    k = upcast(_heads(keys, width, getattr(attention, "norm_k", None)))
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)  # heads that share their keys
    weights = (q @ k.transpose(2, 3) * attention.scale).softmax(-1)
    return (weights.mean(1).sum(1) > 1).float()


def _heads(projection: "Tensor", width: int, norm: Any) -> "Tensor":
    """(n, heads, positions, width): a projection split into heads and normalized, each head alone or all together."""
    if norm is None:
        return projection.unflatten(2, (-1, width)).transpose(1, 2)
    weight = getattr(norm, "weight", None)
    if weight is not None and weight.numel() > width:  # of all heads
        return _heads(norm(projection), width, None)
    return norm(projection.unflatten(2, (-1, width))).transpose(1, 2)
