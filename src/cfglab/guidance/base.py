"""Guidance, the frozen spec, and Guide, one live run of it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cfglab.errors import InputError
from cfglab.guidance.names import Space
from cfglab.guidance.transforms import AnyTransform, Transform
from cfglab.schedules import AnySchedule
from cfglab.schedules.fields import explain
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class Guidance(BaseModel):
    """A schedule and the transforms around it: `p = uncond + w * update(cond - uncond)`, then `prediction(p)`.

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

    def start(self, prediction: Space = "epsilon") -> "Guide":
        """One run of this guidance on a model that predicts `prediction`; "model" where that is not known."""
        return Guide(self, prediction)


class Guide:
    """One live run: whatever has to be remembered between steps lives here and dies with it."""

    def __init__(self, guidance: Guidance, prediction: Space = "epsilon") -> None:
        self.guidance = guidance
        self.prediction = prediction
        self._active = [transform for transform in guidance.transforms if transform.strength > 0]

    def scale(self, step: Step) -> float:
        """w at this step; 1 where guidance is off."""
        return self.guidance.schedule(step)

    def needs(self, step: Step) -> tuple[bool, bool]:
        """Whether the unconditional and the conditional prediction are needed at this step."""
        if not self.guidance.schedule.is_on(step):
            return False, True
        w = self.scale(step)
        if self._active:
            return True, True
        return w != 1, w != 0

    def combine(
        self, uncond: "Tensor | None", cond: "Tensor | None", step: Step, latents: "Tensor | None" = None
    ) -> "Tensor":
        """The guided prediction, in the shape and dtype of the predictions, (n, ...), each image alone.

        A prediction that `needs` does without may be None. Where guidance is off, or w is 1 without transforms, this is
        `cond` itself; plain CFG is computed in the given dtype, transforms in float32 or better. `latents` is what the
        denoiser saw; a transform in another space than the model's needs it, and the step's sigma and alpha.
        Raises InputError for a missing or differently shaped prediction and a conversion that cannot be done.
        """
        with_uncond, with_cond = self.needs(step)
        if not with_uncond and cond is not None:
            return cond
        if not with_cond and uncond is not None:
            return uncond
        if uncond is None or cond is None:
            raise InputError(
                f"no {'conditional' if cond is None else 'unconditional'} prediction at step {step.index} of "
                f"{self.guidance}: it is needed there; ask needs(step) before leaving one out."
            )
        if uncond.shape != cond.shape:
            raise InputError(
                f"predictions of shape {tuple(uncond.shape)} and {tuple(cond.shape)}: the unconditional and the "
                "conditional one have one shape; pass the two halves of the batch."
            )
        w = self.scale(step)
        if not self._active:
            return uncond + w * (cond - uncond)
        return self._transformed(uncond, cond, w, step, latents).to(cond.dtype)

    def _transformed(
        self, uncond: "Tensor", cond: "Tensor", w: float, step: Step, latents: "Tensor | None"
    ) -> "Tensor":
        from cfglab.guidance.spaces import convert, ratio, wide

        u, c = wide(uncond), wide(cond)
        spaces = {self._space(transform) for transform in self._active}
        us = {space: convert(u, latents, step, self.prediction, space) for space in spaces}
        cs = {space: convert(c, latents, step, self.prediction, space) for space in spaces}
        update = c - u
        for transform in self._having("update"):
            space = self._space(transform)
            factor = ratio(step, self.prediction, space)
            before = update if factor == 1 else update * factor
            after = transform.update(before, us[space], cs[space], step)
            update = _blend(update, before, after, transform.strength, factor)
        guided = u + w * update
        for transform in self._having("prediction"):
            space = self._space(transform)
            before = convert(guided, latents, step, self.prediction, space)
            after = transform.prediction(before, us[space], cs[space], step)
            guided = _blend(guided, before, after, transform.strength, ratio(step, self.prediction, space))
        return guided

    def _space(self, transform: Transform) -> Space:
        return self.prediction if transform.space == "model" else transform.space

    def _having(self, hook: str) -> list[Transform]:
        return [t for t in self._active if getattr(type(t), hook) is not getattr(Transform, hook)]


def _blend(now: "Tensor", before: "Tensor", after: "Tensor", strength: float, factor: float) -> "Tensor":
    """`now` moved by the share `strength` of what a hook changed, `factor` times larger in the hook's space. What it
    did not change stays exactly, so that equal predictions stay equal through a conversion."""
    return before.lerp(after, strength) if before is now else now + (after - before) * (strength / factor)


def _listed(transforms: Any) -> tuple[Any, ...]:
    if isinstance(transforms, Transform | dict):
        return (transforms,)
    return tuple(transforms)
