"""Guide: one live run of a Guidance. `plan` gives the needs of a step, `combine` computes the guided prediction."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cfglab.errors import InputError, NoNoiseLevel
from cfglab.guidance.context import Perturbation, StepContext, runs
from cfglab.guidance.names import Space, check_space
from cfglab.guidance.transform import Transform
from cfglab.plugins import is_outside
from cfglab.schedules import Schedule
from cfglab.schedules.fields import shown
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class Spec(Protocol):
    """What a run reads of a Guidance."""

    @property
    def schedule(self) -> Schedule:
        """The scale w."""

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """The transforms, in their order."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The needs of one step, decided once. The denoiser runs the rows that it names and no others.

    Attributes:
        step: The step.
        w: The scale of the schedule; 1 where guidance is off.
        on: False where guidance is off: the conditional prediction is used, and no transform acts.
        uncond: Whether the unconditional prediction is needed.
        cond: Whether the conditional prediction is needed.
        passes: The perturbed passes, each once, in the order of the transforms that need them.
        zero: The parameterization in which a transform sets this step's prediction to zero; None at other steps.
    """

    step: Step
    w: float
    on: bool
    uncond: bool
    cond: bool
    passes: tuple[Perturbation, ...] = ()
    zero: Space | None = None

    @property
    def evaluations(self) -> int:
        """Function evaluations of the denoiser that this step costs one image (NFE)."""
        return self.uncond + self.cond + sum(map(runs, self.passes))


FLOW_TOLERANCE = 1e-4
"""How far the factors of signal and noise of a flow may be from the sum 1."""


@dataclass(frozen=True, slots=True, eq=False)
class _Active:
    """A transform that acts in this run, and its memory."""

    transform: Transform
    memory: dict[str, Any] = field(default_factory=dict)

    def has(self, hook: str) -> bool:
        return getattr(type(self.transform), hook) is not getattr(Transform, hook)

    def reads_uncond(self) -> bool:
        """Whether it reads the unconditional prediction at w = 1. One that replaces that prediction does not."""
        hooks = ("update",) if self.transform.replaces in ("both", "uncond") else ("unconditional", "update")
        return self.transform.reads_uncond or any(map(self.has, hooks))

    def known_scale(self, w: float, step: Step) -> float | None:
        """The scale after it, where that is one number whatever the predictions are."""
        known = self.transform.known_scale(w, step)
        return known if known is None else _blended(w, known, self.transform.strength)


class Guide:
    """One live run of a guidance. It holds all memory between the steps.

    Attributes:
        guidance: The guidance that this is a run of.
        prediction: The parameterization of the predictions that `combine` takes; "model" if it is not known.
        model: The parameterization of the network itself, in which a transform with space="model" acts.
        acts: Whether a transform acts, beside the scale.
        repeats: True if equal images, combined by this Guide, are equal afterwards: every transform is cfglab's own.
        per_image: True if the needed rows depend on the history of an image; each image then needs its own Guide.
        channel_dim: The dimension of the channels: 1; 2 for (n, frames, channels, h, w); -1 for packed tokens, (n,
            tokens, channels), and where the channels are last, as in (n, frames, h, w, channels): the transforms see
            these as (n, channels, frames, h, w).
        w: The scale of the last `combine`: a number, or (n,) if a transform computes it from the predictions; the mean
            over each image where it is a map.
        w_range: (2, n), the smallest and the largest scale in each image, where the last scale was a map; else None.

    Examples:
        >>> from cfglab import Guidance, steps
        >>> guide = Guidance("constant(5).inside(progress=(0.5, 1))").start()
        >>> [guide.plan(step).uncond for step in steps(4)]
        [False, False, True, True]
    """

    def __init__(self, guidance: Spec, prediction: Space = "epsilon", model: Space | None = None) -> None:
        if not hasattr(guidance, "schedule") or not hasattr(guidance, "transforms"):
            raise InputError(f"{shown(guidance)} is no Guidance: a run has one; write Guidance(7.5).start().")
        check_space("prediction", prediction)
        check_space("model", model)
        self.guidance = guidance
        self.prediction = prediction
        self.model = prediction if model is None else model
        self.channel_dim = 1
        self.w: float | Tensor = 1.0
        self.w_range: Tensor | None = None
        self._active = [_Active(transform) for transform in guidance.transforms if transform.strength > 0]
        self._plan: StepPlan | None = None
        self.acts = bool(self._active)
        self.repeats = not any(is_outside(type(active.transform)) for active in self._active)
        self.per_image = any(active.transform.per_image for active in self._active)

    def plan(self, step: Step) -> StepPlan:
        """The plan of this step: the predictions and perturbed passes that it needs.

        A plan with neither `uncond` nor `cond` means: the denoiser is not called for them, and
        `combine(None, None, step, latents, extras)` gives the prediction.

        Args:
            step: The step.

        Returns:
            The plan; the same one until `combine` is called.

        Raises:
            InputError: The schedule raises at this step, or it is no Step.

        Examples:
            >>> from cfglab import Guidance, Step
            >>> plan = Guidance("5 | pag()").start().plan(Step(index=0, count=4))
            >>> plan.w, plan.uncond, plan.cond, plan.evaluations
            (5.0, True, True, 3)
        """
        if self._plan is None or self._plan.step is not step:
            if not isinstance(step, Step):
                raise InputError(
                    f"step {shown(step)}: a Step is needed, as steps(20)[0] or StepReader(scheduler).next() gives it."
                )
            self._plan = self._planned(step)
        return self._plan

    def combine(
        self,
        uncond: "Tensor | None",
        cond: "Tensor | None",
        step: Step,
        latents: "Tensor | None" = None,
        extras: "Mapping[Perturbation, Tensor] | None" = None,
    ) -> "Tensor":
        """The guided prediction, each image alone.

        Where guidance is off, or w is 1 without transforms, the result is `cond` itself. Plain CFG is computed in the
        dtype of the predictions, transforms in float32 or float64. Call it once a step: some transforms remember.

        Args:
            uncond: The unconditional prediction, (n, ...); None where the plan does without.
            cond: The conditional prediction, (n, ...); None where the plan does without.
            step: The step that was planned.
            latents: The input of the denoiser, (n, ...): for transforms in another parameterization than the model's,
                which also need the step's sigma and alpha.
            extras: The prediction of each of the plan's `passes`, (n, ...).

        Returns:
            The guided prediction, in the shape and dtype of the predictions.

        Raises:
            InputError: A prediction is missing or has another shape, or a conversion between parameterizations cannot
                be done.
        """
        plan, extras = self.plan(step), extras or {}
        self._plan = None  # the memory of the transforms may change the next plan
        self.w_range = None
        if plan.zero is not None:
            self.w = 1.0
            return self._zero(uncond if cond is None else cond, plan, latents)
        plain = not plan.on or not self._active
        if plain and not plan.uncond and cond is not None:
            self.w = 1.0
            return cond
        if plain and not plan.cond and uncond is not None:
            self.w = 0.0
            return uncond
        self._check(plan, uncond, cond, extras)
        uncond, cond = uncond if plan.uncond else None, cond if plan.cond else None
        reference = next(tensor for tensor in (cond, uncond, *extras.values()) if tensor is not None)
        uncond, cond = reference if uncond is None else uncond, reference if cond is None else cond
        if plain:
            self.w = plan.w
            return (cond - uncond).mul_(plan.w).add_(uncond)
        channels_last = self.channel_dim == -1 and reference.ndim > 3
        if channels_last:
            uncond, cond = uncond.movedim(-1, 1), cond.movedim(-1, 1)
            latents = None if latents is None else latents.movedim(-1, 1)
            extras = {one_pass: prediction.movedim(-1, 1) for one_pass, prediction in extras.items()}
        channel_dim = 1 if channels_last else self.channel_dim
        combination = _Combination(self, plan, uncond, cond, latents, extras, channel_dim)
        guided = combination.guided()
        self.w, self.w_range = _summary(combination.w, len(guided))
        return (guided.movedim(1, -1) if channels_last else guided).to(reference.dtype)

    def parameterization(self, transform: Transform, step: Step) -> Space:
        """The parameterization that a transform acts in.

        Args:
            transform: A transform of this guidance.
            step: The step.

        Returns:
            Its `space`; the network's own for "model", and the velocity for "epsilon" on the path of a flow, which does
            not determine epsilon at pure noise, where it begins.
        """
        if transform.space == "epsilon" and self._is_of_flow(step):
            return "flow"
        return self.model if transform.space == "model" else transform.space

    def _is_of_flow(self, step: Step) -> bool:
        """Whether x = (1 - t) x0 + t epsilon at this step. At pure noise every path is so: then the network decides."""
        if not step.alpha or not step.sigma:
            return self.model == "flow"
        return abs(step.alpha * (1 + step.sigma) - 1) < FLOW_TOLERANCE

    def variations(self, transform: Transform, step: Step) -> tuple[Perturbation | None, Perturbation | None]:
        """The perturbed passes of a transform, each with its `prediction` set if it has that field.

        Args:
            transform: A transform of this guidance.
            step: The step.

        Returns:
            The perturbed pass and the second one, None for one that it does not need.
        """
        return self._informed(transform.variation(step)), self._informed(transform.second_variation(step))

    def _informed(self, variation: Perturbation | None) -> Perturbation | None:
        if variation is None or not hasattr(variation, "prediction"):
            return variation
        informed: Any = replace(variation, prediction=self.model)  # type: ignore[type-var]
        return informed

    def _planned(self, step: Step) -> StepPlan:
        schedule = self.guidance.schedule
        with self._without_levels(schedule, "use progress= or steps= in place of sigma=, or a schedule over the steps"):
            on = schedule.is_on(step)
            w = schedule(step) if on else 1.0
        if not on:
            return StepPlan(step, w, on=False, uncond=False, cond=True)
        full = [active for active in self._active if active.transform.strength == 1]
        zero = next((active.transform for active in full if active.transform.is_zero(step)), None)
        if zero is not None and "logits" in (self.prediction, self.model):
            raise InputError(
                f"{zero.kind} at step {step.index}: it sets the prediction to zero, and logits of zero are tokens at "
                "random, not a step that stands still; leave it out for a model of tokens."
            )
        if zero is not None:
            return StepPlan(step, w, on=True, uncond=False, cond=False, zero=self.parameterization(zero, step))
        if not self._active:
            return StepPlan(step, w, on=True, uncond=w != 1, cond=w != 0)
        scale_reads = any(active.has("scale") and active.transform.reads_uncond for active in self._active)
        supplied = {
            active.transform.supplies(step, active.memory)
            for active in full
            if not (scale_reads and active.transform.replaces)  # the scale reads what the denoiser gives
        }
        supplied |= {"uncond", "cond"} if "both" in supplied else set()
        known: float | None = w
        for active in self._active:
            known = None if known is None else active.known_scale(known, step)
        unread = known == 1 and not any(active.reads_uncond() for active in self._active)
        passes: list[Perturbation | None] = []
        for active in self._active:
            first, second = self.variations(active.transform, step)
            passes += (
                None if unread and active.transform.replaces == "uncond" else first,
                None if unread else second,
            )
        return StepPlan(
            step,
            w,
            on=True,
            uncond="uncond" not in supplied and not unread,
            cond="cond" not in supplied,
            passes=tuple(dict.fromkeys(variation for variation in passes if variation is not None)),
        )

    @contextmanager
    def _without_levels(self, part: Schedule | Transform, advice: str) -> Iterator[None]:
        """Say of a model of tokens that it has no noise levels at all, where a step lacks one."""
        try:
            yield
        except NoNoiseLevel as error:
            if self.model != "logits":
                raise
            raise InputError(
                f"{part} with a model of tokens: it reads the noise level or the noisy sample, and tokens have "
                f"neither; {advice}."
            ) from error

    def _zero(self, like: "Tensor | None", plan: StepPlan, latents: "Tensor | None") -> "Tensor":
        from cfglab.guidance.parameterization import convert

        like = latents if like is None else like
        if like is None or plan.zero is None:
            raise InputError(
                f"no latents at step {plan.step.index} of {self.guidance}: the prediction is zero there and takes its "
                "shape from them; call combine(None, None, step, latents)."
            )
        zero = convert(like.new_zeros(like.shape), latents, plan.step, plan.zero, self.prediction)
        return zero.to(like.dtype)

    def _check(
        self,
        plan: StepPlan,
        uncond: "Tensor | None",
        cond: "Tensor | None",
        extras: "Mapping[Perturbation, Tensor]",
    ) -> None:
        where = f"at step {plan.step.index} of {self.guidance}"
        for name, tensor, needed in (("unconditional", uncond, plan.uncond), ("conditional", cond, plan.cond)):
            if needed and tensor is None:
                raise InputError(
                    f"no {name} prediction {where}: it is needed there; ask plan(step) before you leave one out."
                )
        if not isinstance(extras, Mapping) or extras.keys() != set(plan.passes):
            raise InputError(
                f"{len(extras)} further predictions {where}, which needs {len(plan.passes)}: run each of "
                "plan(step).passes and pass combine(..., extras={one_pass: its prediction}); where the denoiser cannot "
                "be run again, leave the transform out."
            )
        tensors = [tensor for tensor in (uncond, cond, *extras.values()) if tensor is not None]
        for tensor in tensors:
            if not hasattr(tensor, "is_floating_point") or not tensor.is_floating_point():
                kind = type(tensor).__name__ + (f" of {tensor.dtype}" if hasattr(tensor, "dtype") else "")
                raise InputError(
                    f"a prediction that is a {kind} {where}: torch tensors of a floating "
                    "dtype are combined; give torch.as_tensor(prediction).float()."
                )
        shapes = [tuple(tensor.shape) for tensor in tensors]
        if len(set(shapes)) > 1:
            raise InputError(
                f"predictions of shape {' and '.join(map(str, shapes))}: the unconditional and the conditional one "
                "have one shape; pass the two halves of the batch."
            )


class _Combination:
    """One step of a guidance with transforms: the two predictions in the model's parameterization, hook after hook."""

    def __init__(
        self,
        guide: Guide,
        plan: StepPlan,
        uncond: "Tensor",
        cond: "Tensor",
        latents: "Tensor | None",
        extras: "Mapping[Perturbation, Tensor]",
        channel_dim: int,
    ) -> None:
        from cfglab.guidance.parameterization import upcast

        self._guide, self._step, self._latents, self._extras = guide, plan.step, latents, extras
        self._active, self._channel_dim = guide._active, channel_dim
        self._input = None if latents is None else upcast(latents)
        self._uncond, self._cond = upcast(uncond), upcast(cond)
        self.w: float | Tensor = plan.w

    def guided(self) -> "Tensor":
        """The hooks in their order: scale, conditional, unconditional, update, prediction."""
        for active in self._transforms_with("scale"):
            self.w = _blended(self.w, active.transform.scale(self.w, self._context(active)), active.transform.strength)
        for active in self._transforms_with("conditional"):
            self._cond = self._apply_hook(active, "conditional", self._cond, value_field="cond")
        for active in self._transforms_with("unconditional"):
            self._uncond = self._apply_hook(active, "unconditional", self._uncond, value_field="uncond")
        update = self._cond - self._uncond
        for active in self._transforms_with("update"):
            update = self._apply_hook(active, "update", update)
        predicts = self._transforms_with("prediction")
        uncond = self._uncond
        if not predicts:
            del self._cond, self._uncond  # freed before the result is made
        update = self.w * update
        guided = (
            update.add_(uncond) if update.dtype == uncond.dtype and update.shape == uncond.shape else uncond + update
        )
        for active in predicts:
            guided = self._apply_hook(active, "prediction", guided)
        return guided

    def _transforms_with(self, hook: str) -> list[_Active]:
        return [active for active in self._active if active.has(hook)]

    def _apply_hook(self, active: _Active, hook: str, value: "Tensor", value_field: str | None = None) -> "Tensor":
        """`value` after one hook, which sees it in the transform's parameterization.

        A difference of predictions changes its parameterization by a factor, without the latents. `own` is the field
        of the context that holds the value itself. What the hook leaves alone stays exactly as it was, so that equal
        predictions stay equal through a conversion.
        """
        from cfglab.guidance.parameterization import ratio

        space, strength = self._guide.parameterization(active.transform, self._step), active.transform.strength
        factor = ratio(self._step, self._guide.prediction, space)
        difference = value if factor == 1 else value * factor
        hook_input = difference if hook == "update" else self._converted(value, space)
        context = self._context(active, **({value_field: hook_input} if value_field else {}))
        seen = [hook_input, *(part for part in (context.uncond, context.cond, context.latents) if part is not None)]
        versions = [_version(tensor) for tensor in seen]
        with self._guide._without_levels(active.transform, "leave it out"):
            hook_output = getattr(active.transform, hook)(hook_input, context)
        _check_hook(f"{active.transform.kind}: its {hook}", hook_input, hook_output)
        if versions != [_version(tensor) for tensor in seen]:
            raise InputError(
                f"{active.transform.kind}: its {hook} changes a tensor that it is given; a hook returns a new one, as "
                "clamp does and clamp_ does not."
            )
        if hook_output is hook_input:
            return value
        if hook_input is value:
            return hook_input.lerp(hook_output, strength)
        return value.add(hook_output - hook_input, alpha=strength / factor)

    def _context(self, active: _Active, **converted: "Tensor") -> StepContext:
        """The context of a transform: tensors in its own parameterization; `known` are already converted."""
        space, predictions = (
            self._guide.parameterization(active.transform, self._step),
            {"uncond": self._uncond, "cond": self._cond},
        )
        for name, variation in zip(
            ("extra", "second"), self._guide.variations(active.transform, self._step), strict=True
        ):
            if variation is not None and variation in self._extras:
                predictions[name] = self._extras[variation]
        fields = {
            name: converted[name] if name in converted else self._converted(predictions[name], space)
            for name in predictions
        }
        return StepContext(
            self._step,
            self.w,
            space=space,
            latents=self._input,
            channel_dim=self._channel_dim,
            memory=active.memory,
            **fields,
        )

    def _converted(self, value: "Tensor", space: Space) -> "Tensor":
        from cfglab.guidance.parameterization import convert

        return convert(value, self._latents, self._step, self._guide.prediction, space)


_W = TypeVar("_W", float, "float | Tensor")


def _version(tensor: "Tensor") -> int:
    """What changes when a tensor is changed in place; 0 in inference mode, which does not count."""
    return 0 if tensor.is_inference() else tensor._version


def _check_hook(title: str, given: "Tensor", result: Any) -> None:
    """Raise InputError unless a hook returned a tensor of the shape that it was given."""
    shape = getattr(result, "shape", None)
    if shape != given.shape:
        what = type(result).__name__ if shape is None else f"a tensor of shape {tuple(shape)}"
        raise InputError(f"{title} returns {what}: a hook returns a tensor of shape {tuple(given.shape)}, as it got.")


def _blended(w: _W, changed: _W, strength: float) -> _W:
    """`changed` by its strength; a full one as it is, to the last bit."""
    return changed if strength == 1 else w + strength * (changed - w)


def _summary(w: "float | Tensor", images: int) -> "tuple[float | Tensor, Tensor | None]":
    """The scale of each image, and its range in each where it is a map."""
    if isinstance(w, float | int):
        return w, None
    import torch

    scales = w.expand(images, *w.shape[1:]).flatten(1)
    if scales.shape[1] == 1:
        return scales[:, 0], None
    return scales.mean(1), torch.stack(scales.aminmax(dim=1))
