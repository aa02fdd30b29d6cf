"""What a transform sees at one step, and the further prediction it may ask for."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cfglab.errors import InputError
from cfglab.guidance.names import Space
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Now:
    """One step as a hook sees it: tensors of shape (n, ...), float32 or float64, predictions in `space`.

    `w` is a number, or (n, 1, ...) where a transform has read it off the predictions. `latents` is what the denoiser
    saw, None where nobody gave it. `extra` is the prediction of the transform's own Variation, None where it asked for
    none. A prediction that was not run, because the transform said that it does not read or that it supplies it, is
    stood in for by the other one. `memory` is a dict of this transform in this run, kept from step to step.
    """

    step: Step
    w: "float | Tensor"
    uncond: "Tensor"
    cond: "Tensor"
    space: Space = "model"
    latents: "Tensor | None" = None
    extra: "Tensor | None" = None
    memory: dict[str, Any] = field(default_factory=dict)

    def over_w(self, tensor: "Tensor") -> "Tensor":
        """tensor / w, zero where w is 0: added to the update, it adds `tensor` to the guided prediction."""
        if isinstance(self.w, float | int):
            return tensor / self.w if self.w else tensor * 0
        return tensor / self.w.where(self.w != 0, 1.0) * (self.w != 0)

    def residual(self, x0: "Tensor") -> "Tensor":
        """`x - x0` up to a positive factor, with x as ComfyUI's samplers have it: `latents / alpha` of a VP model, the
        latents of a flow. Along epsilon on a VP model, along the velocity on a flow. Raises InputError where the
        latents or alpha are not known."""
        step = self.step
        if self.latents is None or step.sigma is None or step.alpha is None:
            raise InputError(
                f"step {step.index} without {'latents' if self.latents is None else 'sigma and alpha'}: this transform "
                "compares with what the denoiser saw; call combine(uncond, cond, step, latents) with a whole step."
            )
        flow = step.alpha == 0 or abs(step.alpha * (1 + step.sigma) - 1) < 1e-6
        return self.latents - x0 * (1.0 if flow else step.alpha)


class Variation(Protocol):
    """A further prediction: the rows of `source`, run once more under a change. One more denoiser row an image.

    One with a `prompt` of its own (text) gets the encoding of it in the place of its rows' own, before `inputs`; a host
    that cannot encode a text refuses it. One that also is `beside` keeps its own, and finds the arguments with the
    other text in `conditioning["prompted"]`. One with a `prediction` of its own is told what the network predicts. One
    that says how often it `runs` the network costs that many rows. A frozen, hashable value: equal variations at one
    step are one denoiser call, and rows that are equal under it run once, so the change is the same for every row and
    every batch. It names no pipeline.
    """

    @property
    def source(self) -> Literal["cond", "uncond"]:
        """Whose rows are run again."""

    def applied(self, denoiser: Any) -> AbstractContextManager[Any]:
        """While it is open, `denoiser` (the module) is perturbed; it yields the module to call: `denoiser` or another
        one. Afterwards the module is as it was, also after an error."""

    def inputs(
        self, sample: "Tensor", timestep: Any, conditioning: Mapping[str, Any]
    ) -> "tuple[Tensor, Any, Mapping[str, Any]]":
        """What goes in instead: the rows' sample (m, ...), the timestep, and the denoiser's other arguments by name."""


def runs(variation: Variation) -> int:
    """How often its rows are run: 1 where it does not say."""
    return int(getattr(variation, "runs", 1))
