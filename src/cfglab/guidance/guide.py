"""Guide: one live run of a Guidance, and the arithmetic of a step."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.guidance.names import Space
from cfglab.guidance.now import Now, Variation
from cfglab.guidance.transforms import Transform
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor

    from cfglab.guidance.base import Guidance


_CHANGES = {"conditional": "cond", "unconditional": "uncond"}
"""What a hook changes of that which the next one sees."""


@dataclass(frozen=True, slots=True, eq=False)
class _Active:
    """A transform of this run, its memory, and the further prediction it got at this step."""

    transform: Transform
    memory: dict[str, Any] = field(default_factory=dict)
    extra: "Tensor | None" = None

    def has(self, hook: str) -> bool:
        return getattr(type(self.transform), hook) is not getattr(Transform, hook)


class Guide:
    """One live run: whatever has to be remembered between steps lives here and dies with it.

    `alone` is True where the rows that are needed depend on an image's own history: give each image its own Guide.
    `w` is the scale of the last `combine`: a number, or (n,) where a transform reads it off the predictions.
    """

    def __init__(self, guidance: "Guidance", prediction: Space = "epsilon") -> None:
        self.guidance = guidance
        self.prediction = prediction
        self.w: float | Tensor = 1.0
        self._active = [_Active(transform) for transform in guidance.transforms if transform.strength > 0]
        self.alone = any(one.transform.alone for one in self._active)

    def scale(self, step: Step) -> float:
        """w at this step; 1 where guidance is off."""
        return self.guidance.schedule(step)

    def needs(self, step: Step) -> tuple[bool, bool]:
        """Whether the unconditional and the conditional prediction are needed at this step.

        (False, False) means: the denoiser is not called for them, `combine(None, None, step, latents, extras)` does.
        """
        if not self.guidance.schedule.is_on(step):
            return False, True
        if self._is_zero(step) is not None:
            return False, False
        if not self._active:
            w = self.scale(step)
            return w != 1, w != 0
        supplied = {one.transform.supplies(step, one.memory) for one in self._active if one.transform.strength == 1}
        unread = self.scale(step) == 1 and not any(_reads_uncond(one) for one in self._active)
        return "uncond" not in supplied and not unread, "cond" not in supplied

    def variations(self, step: Step) -> tuple[Variation, ...]:
        """The further predictions this step needs, in the order in which `combine` takes them as `extras`."""
        if not self.guidance.schedule.is_on(step) or self._is_zero(step) is not None:
            return ()
        asked = (one.transform.variation(step) for one in self._active)
        return tuple(self._told(variation) for variation in asked if variation is not None)

    def combine(
        self,
        uncond: "Tensor | None",
        cond: "Tensor | None",
        step: Step,
        latents: "Tensor | None" = None,
        extras: "Sequence[Tensor]" = (),
    ) -> "Tensor":
        """The guided prediction, in the shape and dtype of the predictions, (n, ...), each image alone.

        A prediction that `needs` does without may be None; `extras` are those of `variations`. Where guidance is off,
        or w is 1 without transforms, this is `cond` itself; plain CFG is computed in the given dtype, transforms in
        float32 or better. `latents` is what the denoiser saw; a transform in another space than the model's needs it,
        and the step's sigma and alpha. Call it once a step: some transforms remember.
        Raises InputError for a missing or differently shaped prediction and a conversion that cannot be done.
        """
        with_uncond, with_cond = self.needs(step)
        on, zero = self.guidance.schedule.is_on(step), self._is_zero(step)
        if on and zero is not None:
            self.w = 1.0
            return self._zero(uncond if cond is None else cond, step, latents, zero)
        plain = not on or not self._active
        if plain and not with_uncond and cond is not None:
            self.w = 1.0
            return cond
        if plain and not with_cond and uncond is not None:
            self.w = 0.0
            return uncond
        self._check(uncond, cond, step, (with_uncond, with_cond), extras)
        uncond, cond = uncond if with_uncond else None, cond if with_cond else None
        given = next(one for one in (cond, uncond, *extras) if one is not None)
        uncond, cond = given if uncond is None else uncond, given if cond is None else cond
        if plain:
            self.w = self.scale(step)
            return uncond + self.w * (cond - uncond)
        return self._transformed(uncond, cond, step, latents, extras).to(given.dtype)

    def _transformed(
        self, uncond: "Tensor", cond: "Tensor", step: Step, latents: "Tensor | None", extras: "Sequence[Tensor]"
    ) -> "Tensor":
        from cfglab.guidance.spaces import convert, ratio, wide

        u, c = wide(uncond), wide(cond)
        seen = None if latents is None else wide(latents)
        left = iter(extras)
        active = [
            one if one.transform.variation(step) is None else replace(one, extra=next(left)) for one in self._active
        ]

        def there(value: "Tensor", space: Space) -> "Tensor":
            return convert(value, latents, step, self.prediction, space)

        def now(one: _Active, **changed: "Tensor") -> Now:
            space = self._space(one.transform)
            given = {"uncond": u, "cond": c} | ({} if one.extra is None else {"extra": one.extra})
            here = {name: there(given[name], space) for name in given if name not in changed} | changed
            return Now(step, w, space=space, latents=seen, memory=one.memory, **here)

        def hooked(hook: str, value: "Tensor", difference: bool = False) -> "Tensor":
            for one in active:
                if not one.has(hook):
                    continue
                space, factor = self._space(one.transform), ratio(step, self.prediction, self._space(one.transform))
                before = there(value, space) if not difference else value if factor == 1 else value * factor
                changed = {_CHANGES[hook]: before} if hook in _CHANGES else {}
                after = getattr(one.transform, hook)(before, now(one, **changed))
                if after is before:
                    continue
                value = _blend(value, before, after, one.transform.strength, factor)
            return value

        w: float | Tensor = self.scale(step)
        for one in active:
            if one.has("scale"):
                w = w + one.transform.strength * (one.transform.scale(w, now(one)) - w)
        self.w = w if isinstance(w, float | int) else w.reshape(-1)
        c = hooked("conditional", c)
        u = hooked("unconditional", u)
        update = hooked("update", c - u, difference=True)
        return hooked("prediction", u + w * update)

    def _is_zero(self, step: Step) -> Space | None:
        """The space in which a transform makes this step's prediction zero, None where none does."""
        zero = (one.transform for one in self._active if one.transform.strength == 1 and one.transform.is_zero(step))
        return next((self._space(transform) for transform in zero), None)

    def _zero(self, like: "Tensor | None", step: Step, latents: "Tensor | None", space: Space) -> "Tensor":
        from cfglab.guidance.spaces import convert

        like = latents if like is None else like
        if like is None:
            raise InputError(
                f"no latents at step {step.index} of {self.guidance}: the prediction is zero there and takes its shape "
                "from them; call combine(None, None, step, latents)."
            )
        return convert(like.new_zeros(like.shape), latents, step, space, self.prediction).to(like.dtype)

    def _check(
        self,
        uncond: "Tensor | None",
        cond: "Tensor | None",
        step: Step,
        needed: tuple[bool, bool],
        extras: "Sequence[Tensor]",
    ) -> None:
        for name, one, need in (("unconditional", uncond, needed[0]), ("conditional", cond, needed[1])):
            if need and one is None:
                raise InputError(
                    f"no {name} prediction at step {step.index} of {self.guidance}: it is needed there; ask "
                    "needs(step) before leaving one out."
                )
        wanted = len(self.variations(step))
        if len(extras) != wanted:
            raise InputError(
                f"{len(extras)} further predictions at step {step.index} of {self.guidance}, which needs {wanted}: run "
                "each of variations(step) and pass combine(..., extras=[...]); where the denoiser cannot be reached, "
                "leave the transform out."
            )
        shapes = {tuple(one.shape) for one in (uncond, cond, *extras) if one is not None}
        if len(shapes) > 1:
            said = " and ".join(str(tuple(one.shape)) for one in (uncond, cond, *extras) if one is not None)
            raise InputError(
                f"predictions of shape {said}: the unconditional and the conditional one have one shape; pass the two "
                "halves of the batch."
            )

    def _told(self, variation: Variation) -> Variation:
        """The variation, which knows what the network predicts where it asks for that."""
        if not hasattr(variation, "prediction"):
            return variation
        told: Any = replace(variation, prediction=self.prediction)  # type: ignore[type-var]
        return told

    def _space(self, transform: Transform) -> Space:
        return self.prediction if transform.space == "model" else transform.space


def _reads_uncond(one: _Active) -> bool:
    """Whether a transform at w = 1 still reads the unconditional prediction."""
    return one.transform.reads_uncond or one.has("unconditional") or one.has("update") or one.has("scale")


def _blend(now: "Tensor", before: "Tensor", after: "Tensor", strength: float, factor: float) -> "Tensor":
    """`now` moved by the share `strength` of what a hook changed, `factor` times larger in the hook's space. What it
    did not change stays exactly, so that equal predictions stay equal through a conversion."""
    return before.lerp(after, strength) if before is now else now.add(after - before, alpha=strength / factor)
