"""Guiders written another way, as oracles: diffusers' own with a scale that moves, and a formula in float64."""

from typing import Any

import torch
from diffusers import ClassifierFreeGuidance
from torch import Tensor


class Listed(ClassifierFreeGuidance):
    """diffusers' own guider with the scale of call i being `scales[i]`; None: off."""

    def __init__(self, scales: list[float | None]) -> None:
        super().__init__()
        self.scales = scales
        self.register_to_config()

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        super().set_state(step, num_inference_steps, timestep)
        self._num_inference_steps = None  # which calls of two-call samplers go beyond
        self.guidance_scale = 1.0 if self.scales[step] is None else self.scales[step]

    @property
    def num_conditions(self) -> int:
        """Before the loop both are asked for: a step left over from another run would say otherwise."""
        return 2 if self._step is None else super().num_conditions

    def __call__(self, data: Any) -> Any:
        output = super().__call__(data)
        self._step = None
        return output


class NormOfX0(ClassifierFreeGuidance):
    """Plain CFG, then x0 of each image at the length of the unconditional x0: by formula, in float64.

    It sees what the denoiser sees through `seen`, which the test fills, and the noise levels of `scheduler`.
    """

    def __init__(self, scale: float, scheduler: Any, seen: list[Any], flow: bool) -> None:
        super().__init__(guidance_scale=scale)
        self.scheduler, self.seen, self.flow = scheduler, seen, flow

    def forward(self, pred_cond: Tensor, pred_uncond: Tensor | None = None) -> Any:
        output = super().forward(pred_cond, pred_uncond)
        assert pred_uncond is not None
        x = self.seen[-1]
        x = (torch.stack(x) if isinstance(x, list) else x).double()
        x = x[tuple(slice(size) for size in pred_cond.shape)] if x.ndim == pred_cond.ndim else x.squeeze(2)
        sigma = float(self.scheduler.sigmas[self._step])
        scale = 1.0 if self.flow else (1 + sigma**2) ** 0.5  # the model sees x / sqrt(1 + sigma^2)

        def x0(prediction: Tensor) -> Tensor:
            return x * scale - sigma * prediction.double()

        guided, uncond = x0(output.pred), x0(pred_uncond)
        guided = guided * _norm(uncond) / _norm(guided)
        output.pred = ((x * scale - guided) / sigma).to(pred_cond.dtype)
        return output


def _norm(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), keepdim=True)
