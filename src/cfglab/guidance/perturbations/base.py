"""The bases of perturbed passes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cfglab.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

MASKS = ("encoder_hidden_states_mask", "encoder_attention_mask", "encoder_mask")
"""The arguments of denoisers that say which tokens of `encoder_hidden_states` are read, (n, tokens)."""


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


def text_mask(arguments: Mapping[str, Any]) -> str | None:
    """Which argument of a network says which tokens of its text are read.

    Args:
        arguments: The arguments by name.

    Returns:
        One of `MASKS`; None if it has none.
    """
    return next((name for name in MASKS if name in arguments), None)


def check_encoded(method: str, prompt: str, conditioning: Mapping[str, Any]) -> None:
    """Refuse the arguments of a pass with another text beside its own that nobody has encoded.

    Args:
        method: The kind of the transform, for the message.
        prompt: The other text.
        conditioning: The arguments of the network by name.

    Raises:
        InputError: They hold no encoding of it.
    """
    if "prompted" not in conditioning:
        raise InputError(f"{method}: {prompt!r} was not encoded: it needs a host that can encode a further prompt.")


def own_containers(value: Any) -> Any:
    """The same nest of dicts, lists and tuples, for one run of a network, which may take its parts out or change it.

    Args:
        value: Arguments of a network, or one of them.

    Returns:
        A copy of the nest with the same things in it.
    """
    if type(value) is dict:
        return {key: own_containers(item) for key, item in value.items()}
    return type(value)(own_containers(item) for item in value) if type(value) in (list, tuple) else value
