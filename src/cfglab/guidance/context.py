"""The context that a transform sees at one step, and the perturbed pass that it may ask for."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cfglab.errors import NoNoiseLevel
from cfglab.guidance.names import Space
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


def divided(tensor: "Tensor", scale: "float | Tensor") -> "Tensor":
    """tensor / scale, zero where the scale is 0.

    Args:
        tensor: (n, ...).
        scale: A number, or a tensor that broadcasts with it.

    Returns:
        A tensor of the same shape and dtype.
    """
    if isinstance(scale, float | int):
        return tensor / scale if scale else tensor * 0
    return tensor / scale.where(scale != 0, 1.0) * (scale != 0)


@dataclass(frozen=True, slots=True, eq=False)
class StepContext:
    """One step as a hook sees it: tensors of shape (n, ...), float32 or float64, predictions in `space`.

    Attributes:
        step: The step.
        w: The scale: a number, or (n, 1, ...) where a transform computes it from the predictions.
        uncond: The unconditional prediction, (n, ...). If its pass was skipped, it holds the other prediction as a
            placeholder.
        cond: The conditional prediction, (n, ...). If its pass was skipped, it holds the other prediction as a
            placeholder.
        space: The parameterization of the predictions: the transform's own.
        latents: The input of the denoiser, (n, ...); None if it was not given.
        extra: The prediction of the perturbed pass of the transform, (n, ...); None if it has no perturbed pass.
        second: That of its second perturbed pass, (n, ...); None if it has none, or it was not needed.
        channel_dim: The dimension of the channels: 1; -1 for packed tokens, (n, tokens, channels); 2 for
            (n, frames, channels, h, w).
        memory: A dict of this transform in this run, kept from step to step.
    """

    step: Step
    w: "float | Tensor"
    uncond: "Tensor"
    cond: "Tensor"
    space: Space = "model"
    latents: "Tensor | None" = None
    extra: "Tensor | None" = None
    second: "Tensor | None" = None
    channel_dim: int = 1
    memory: dict[str, Any] = field(default_factory=dict)

    def over_w(self, tensor: "Tensor") -> "Tensor":
        """tensor / w, zero where w is 0: added to the update, it adds `tensor` to the guided prediction.

        Args:
            tensor: (n, ...), in the dtype of the predictions.

        Returns:
            A tensor of the same shape and dtype.
        """
        return divided(tensor, self.w)

    def residual(self, x0: "Tensor") -> "Tensor":
        """`x - x0` up to a positive factor, with x as ComfyUI's samplers have it.

        x is `latents / alpha` for a VP model and the latents for a flow model. The result is along epsilon for a VP
        model, along the velocity for a flow model.

        Args:
            x0: A prediction of the clean image, (n, ...).

        Returns:
            A tensor of the shape of `x0`.

        Raises:
            InputError: The latents, sigma or alpha are not known.
        """
        step = self.step
        if self.latents is None or step.sigma is None or step.alpha is None:
            raise NoNoiseLevel(
                f"step {step.index} without {'latents' if self.latents is None else 'sigma and alpha'}: this transform "
                "compares with the input of the denoiser; call combine(uncond, cond, step, latents) with a whole step."
            )
        flow = step.alpha == 0 or abs(step.alpha * (1 + step.sigma) - 1) < 1e-6
        return self.latents - x0 * (1.0 if flow else step.alpha)


class Perturbation(Protocol):
    """A perturbed pass: the rows of `source`, run once more with a change. It costs one more denoiser row per image.

    An immutable, hashable value: equal perturbations at one step are one denoiser call, and rows that are equal under
    it run once, so the change is the same for every row and every batch. It refers to no pipeline. Optional attributes
    change how it is run:

    - `prompt` (text): the rows get its encoding in place of their own, before `inputs`; a host that cannot encode a
      text refuses it.
    - `beside` (True, with a `prompt`): the rows keep their own encoding, and the arguments with the other text are in
      `conditioning["prompted"]`.
    - `prediction`: set to the parameterization of the network.
    - `runs`: the number of network runs, which are that many rows; 0 with a `part`.
    - `part`: the part of the pipeline's own batch that it stands for, as `Profile.parts` has it; the pipeline runs its
      rows, and a host without them calls `applied`, which refuses.
    """

    @property
    def source(self) -> Literal["cond", "uncond"]:
        """The prediction whose rows are run again."""

    def applied(self, denoiser: Any) -> AbstractContextManager[Any]:
        """A context in which `denoiser` is perturbed.

        Args:
            denoiser: The module of the network.

        Returns:
            A context manager that yields the module to call, `denoiser` or another one. After it, also after an error,
            the module is as before.
        """

    def inputs(
        self, sample: "Tensor", timestep: Any, conditioning: Mapping[str, Any]
    ) -> "tuple[Tensor, Any, Mapping[str, Any]]":
        """The inputs of the perturbed pass.

        Args:
            sample: The rows' sample, (m, ...).
            timestep: The timestep, as the denoiser takes it.
            conditioning: The denoiser's other arguments by name.

        Returns:
            The changed sample, timestep and other arguments.
        """


def runs(variation: Perturbation) -> int:
    """How often a perturbed pass runs its rows.

    Args:
        variation: The perturbed pass.

    Returns:
        Its `runs`; 1 if it has none.
    """
    return int(getattr(variation, "runs", 1))
