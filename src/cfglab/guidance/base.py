"""Guidance, the frozen spec: a schedule and transforms."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cfglab.errors import InputError
from cfglab.guidance.guide import Guide
from cfglab.guidance.names import Space
from cfglab.guidance.transforms import AnyTransform, Transform
from cfglab.schedules import AnySchedule
from cfglab.schedules.fields import explain


class Guidance(BaseModel):
    """A schedule and the transforms around it: `p = u + w * update(cond - u)`, `u = unconditional(uncond)`, then
    `prediction(p)`; each hook in the order of the transforms.

    A value: it compares, hashes, prints (`str` is what `parse_guidance` reads, `repr` is Python) and goes to JSON and
    back. `schedule` is anything `as_schedule` takes: a Schedule, a number, a list, text, a function; or the text of a
    whole guidance, transforms included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: AnySchedule
    transforms: tuple[AnyTransform, ...] = ()

    def __init__(self, schedule: Any, transforms: Iterable[Transform | dict[str, Any]] = ()) -> None:
        listed = _listed(transforms)
        if isinstance(schedule, str) and "|" in schedule:
            from cfglab.guidance.text import parse_parts

            schedule, read = parse_parts(schedule)
            listed = (*read, *listed)
        try:
            super().__init__(schedule=schedule, transforms=listed)
        except ValidationError as error:
            raise InputError(explain(error, "guidance", ["schedule", "transforms"])) from None

    def __str__(self) -> str:
        return " | ".join(map(str, (self.schedule, *self.transforms)))

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        yield None, self.schedule
        if self.transforms:
            yield None, self.transforms

    @property
    def varies(self) -> bool:
        """Whether a transform asks for predictions of a changed denoiser: a host that cannot reach it refuses these."""
        return any(one.strength > 0 and type(one).variation is not Transform.variation for one in self.transforms)

    def start(self, prediction: Space = "epsilon") -> Guide:
        """One run of this guidance on a model that predicts `prediction`; "model" where that is not known."""
        return Guide(self, prediction)


def _listed(transforms: Any) -> tuple[Any, ...]:
    if isinstance(transforms, Transform | dict):
        return (transforms,)
    return tuple(transforms)
