"""The guidance transforms of the notebooks by their published names, over `cfglab.guidance`.

The norms here are taken over the whole tensor, batch included, as in cf_guidance 0.0.3: the images of a batch change
each other. `cfglab.PredictionNorm`, `UpdateNorm` and `FullNorm` do the same to each image alone; at one image a batch
the two agree.

A subclass may override `pre_proc`, `guide` and `post_proc` as published: `encode` calls the three in this order, and
what they leave in `self.pred` is the prediction.
"""

import math
from collections.abc import Mapping, Sequence, Sized
from typing import Any, ClassVar

import torch

from cfglab.errors import InputError
from cfglab.guidance import FullNorm, PredictionNorm, Transform, UpdateNorm
from cfglab.guidance.parameterization import upcast

__all__ = ["BaseNormGuidance", "FullNormGuidance", "GuidanceTfm", "TNormGuidance"]


class GuidanceTfm:
    """Plain classifier-free guidance, `u + g * (t - u)`, with g looked up by the index of the step.

    `schedules` is a dict with one entry `g`: a list with one scale a step (what `get_cos_sched` returns; an array or a
    tensor will do), or one number for every step. Further arguments are accepted and not used, as published.
    """

    name: ClassVar[str] = "CFGuidance"
    transforms: ClassVar[tuple[Transform, ...]] = ()
    """The same for cfglab, each image alone."""
    pred: torch.Tensor

    def __init__(self, schedules: Mapping[str, Sequence[float] | float], *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if not isinstance(schedules, Mapping):
            raise InputError(
                f"schedules {schedules!r:.60}: a dict with an entry g; write {{'g': 7.5}} or {{'g': a list}}."
            )
        self.schedules = schedules

    def encode(self, u: torch.Tensor, t: torch.Tensor, idx: int | None = None) -> torch.Tensor:
        """The guided prediction at step `idx`, from the unconditional `u` and the conditional `t`, both (batch, …).

        The arithmetic of norms is float32 whatever the dtype of the tensors, which the result keeps. Never NaN: where
        `u` equals `t` the result is `t` (the published T-Norm divides zero by zero there). Raises InputError where the
        schedule has no value for `idx`.
        """
        self.pre_proc(u, t, idx)
        self.guide(u, t, idx)
        self.post_proc(u, t, idx)
        self.pred = self.pred.to(u.dtype)
        return self.pred

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.encode(*args, **kwargs)

    def pre_proc(self, u: torch.Tensor, t: torch.Tensor, idx: int | None = None) -> None:
        """Called before `guide`; does nothing."""

    def guide(self, u: torch.Tensor, t: torch.Tensor, idx: int | None = None) -> None:
        """Put the mix of `u` and `t` into `self.pred`; transforms compute in float32."""
        u, t = (upcast(u), upcast(t)) if self.transforms else (u, t)
        self.pred = u + self.scheduler("g", idx) * (t - u)

    def post_proc(self, u: torch.Tensor, t: torch.Tensor, idx: int | None = None) -> None:
        """Called after `guide`; does nothing."""

    def scheduler(self, name: str, idx: int | None) -> float:
        """The value of the schedule `name` at step `idx`."""
        if name not in self.schedules:
            raise InputError(
                f"no schedule {name!r} among {sorted(self.schedules)}: pass {{{name!r}: [one value a step]}}."
            )
        values = self.schedules[name]
        if callable(values):
            raise InputError(
                f"{name!r} is {values!r}: this transform knows the index of the step only; "
                "pass its list, schedule.values(steps), or give the schedule itself to cfglab.guide."
            )
        if not isinstance(values, Sized):
            return _finite(name, values)
        if idx is None or not -len(values) <= idx < len(values):
            raise InputError(
                f"step {idx} of the schedule {name!r} with {len(values)} values: "
                "it needs one value for each step; make it as long as the run."
            )
        return _finite(name, values[idx])


class BaseNormGuidance(GuidanceTfm):
    """The guided prediction scaled to the norm of the unconditional one."""

    name = "BaseNormGuidance"
    transforms: ClassVar[tuple[Transform, ...]] = (PredictionNorm(space="model"),)

    def post_proc(self, u: torch.Tensor, t: torch.Tensor, idx: int | None = None) -> None:  # noqa: ARG002
        """Scale `self.pred`."""
        self.pred = _at_norm_of(u, self.pred)


class TNormGuidance(GuidanceTfm):
    """The update `t - u` scaled to the norm of `u` before g multiplies it, so g is small: 0.05 to 0.3."""

    name = "TNormGuidance"
    transforms: ClassVar[tuple[Transform, ...]] = (UpdateNorm(space="model"),)

    def guide(self, u: torch.Tensor, t: torch.Tensor, idx: int | None = None) -> None:
        """Put the mix of `u` and `t` into `self.pred`."""
        u, t = upcast(u), upcast(t)
        self.pred = u + self.scheduler("g", idx) * _at_norm_of(u, t - u)


class FullNormGuidance(TNormGuidance, BaseNormGuidance):
    """The update scaled as in TNormGuidance, then the guided prediction as in BaseNormGuidance."""

    name = "FullNormGuidance"
    transforms: ClassVar[tuple[Transform, ...]] = (FullNorm(space="model"),)


def _finite(name: str, value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise InputError(f"{name!r} is {number!r} at this step: a finite number is needed; give one, such as 7.5.")
    return number


def _at_norm_of(other: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` with the norm of `other`, over the whole batch; zeros stay."""
    tensor = upcast(tensor)
    norm = torch.linalg.norm(tensor)
    return tensor * torch.where(norm > 0, torch.linalg.norm(upcast(other)) / norm, 0.0)
