"""The base of guidance with a second prompt, and its perturbed pass."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cfglab.guidance.context import Perturbation
from cfglab.guidance.names import Space
from cfglab.guidance.transform import Transform
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SecondPrompt:
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

    def inputs(
        self, sample: "Tensor", timestep: Any, conditioning: Mapping[str, Any]
    ) -> "tuple[Tensor, Any, Mapping[str, Any]]":
        return sample, timestep, conditioning


class SecondPromptTransform(Transform):
    """The base class of transforms with one more prompt."""

    kind: str
    space: Space = "model"
    prompt: str

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        return SecondPrompt(self.prompt)
