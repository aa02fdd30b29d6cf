"""The base of guidance with a second prompt, and its perturbed pass."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.names import Space
from cfglab.guidance.perturbations.base import UnchangedInputs
from cfglab.guidance.transform import Transform
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SecondPrompt(UnchangedInputs):
    """A perturbed pass: the unconditional rows with another prompt, whose encoding the host puts in place of their own.

    Attributes:
        prompt: The prompt.
    """

    prompt: str

    @property
    def source(self) -> Literal["cond", "uncond"]:
        return "uncond"

    def applied(self, denoiser: Any) -> "AbstractContextManager[Any]":
        return nullcontext(denoiser)


class SecondPromptTransform(Transform):
    """The base class of transforms with one more prompt."""

    kind: str
    space: Space = "model"
    prompt: str

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return SecondPrompt(self.prompt)


class SecondPromptUpdate(SecondPromptTransform):
    """The base class of transforms that change the update by one more prompt; without its prediction it stays."""

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":
        return update if context.extra is None else self.changed(update, context.extra - context.uncond, context)

    def changed(self, update: "Tensor", second: "Tensor", context: StepContext) -> "Tensor":
        """The update with the second prompt.

        Args:
            update: `c - u`, (n, ...), in the transform's parameterization.
            second: The same for the second prompt, `c' - u`.
            context: The step and its predictions.

        Returns:
            A tensor of the same shape.
        """
        raise NotImplementedError
