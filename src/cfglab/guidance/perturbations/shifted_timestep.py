"""The rows at a noisier time step."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.perturbations.base import ConditionalPass

if TYPE_CHECKING:
    from torch import Tensor

LAST = 1000.0
"""The noisiest time step; a later one becomes this one."""


@dataclass(frozen=True)
class ShiftedTimestep(ConditionalPass):
    """A perturbed pass: the conditional rows with another time step, the sample as it is.

    Attributes:
        shift: How many training time steps later, 0 or more.
        timestep: The time step of the sampler; None if it is not known.
        method: The kind of the transform, for the messages.
    """

    shift: float
    timestep: float | None
    method: str = "sg"

    def applied(self, denoiser: Any) -> "AbstractContextManager[Any]":
        if getattr(getattr(denoiser, "config", None), "num_vector_embeds", None):
            raise InputError(
                f"{self.method}: this {type(denoiser).__name__} of tokens looks its time step up in a table, where "
                "there is none between two; leave it out for this network, or use sg_prev."
            )
        return nullcontext(denoiser)

    def inputs(
        self, sample: "Tensor", timestep: Any, conditioning: Mapping[str, Any]
    ) -> "tuple[Tensor, Any, Mapping[str, Any]]":
        unit = self._unit(timestep)
        later = timestep + self.shift * unit
        most = LAST * unit
        return sample, later.clamp(max=most) if hasattr(later, "clamp") else min(later, most), conditioning

    def _unit(self, timestep: Any) -> float:
        """What one training time step is to the network: 1, or 1 / 1000 where its time ends at 1."""
        value = None if timestep is None else float(timestep.flatten()[0] if hasattr(timestep, "flatten") else timestep)
        if value is not None and self.timestep is not None:
            for unit in (1.0, 1 / LAST):
                if abs(value - self.timestep * unit) <= 0.01 * abs(value) + 1e-6:
                    return unit
        raise InputError(
            f"{self.method}: the sampler's time step is {self.timestep} and the network is given {value}: it shifts "
            "time steps up to 1000, or those divided by 1000; leave it out for this network, or use sg_prev."
        )
