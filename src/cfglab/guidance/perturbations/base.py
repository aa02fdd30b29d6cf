"""The bases of perturbed passes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor


class UnchangedInputs:
    """The base class of perturbed passes whose rows have the inputs of the rows that they stand beside."""

    def inputs(
        self, sample: "Tensor", timestep: Any, conditioning: Mapping[str, Any]
    ) -> "tuple[Tensor, Any, Mapping[str, Any]]":
        return sample, timestep, conditioning


@dataclass(frozen=True)
class ConditionalPass(UnchangedInputs):
    """The base class of perturbed passes of the conditional rows with unchanged inputs."""

    @property
    def source(self) -> Literal["cond", "uncond"]:
        return "cond"
