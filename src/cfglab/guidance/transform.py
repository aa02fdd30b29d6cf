"""Transform: a change of the guided prediction besides scaling, as an immutable value."""

from collections.abc import Iterable, Mapping
from keyword import iskeyword
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny, ValidationError

from cfglab.errors import InputError
from cfglab.guidance.context import Perturbation, StepContext
from cfglab.guidance.contracts import check_transform_kind
from cfglab.guidance.fields import Strength
from cfglab.guidance.names import Space
from cfglab.guidance.registry import TRANSFORMS, enter_transform
from cfglab.method_card import Card
from cfglab.plugins import is_outside
from cfglab.schedules.fields import explain, nearest, shown
from cfglab.schedules.printer import number
from cfglab.step import Step

if TYPE_CHECKING:
    from torch import Tensor


class Transform(BaseModel):
    """The base class of all methods: hooks around the scale.

    Hooks are called with float32 (or float64) tensors of shape (n, ...) in the transform's own `space`. Each hook's
    result is blended linearly with its input by `strength`. A subclass defines `kind`, its fields, and the hooks it
    needs. It treats each of the n images separately and keeps state in `context.memory` only. An invalid field raises
    InputError.

    Attributes:
        card: The facts about a published method for `docs/methods.md`; None if there is none.
        reads_uncond: False: at w = 1 it works on the conditional prediction alone, which saves the unconditional row.
        acts_when_equal: True: it changes the prediction even where cond == uncond.
        per_image: True: the rows it needs depend on an image's own history, so every image needs a Guide of its own.
        reads_w: False: its prediction does not depend on the scale, so a transform that changes the scale is refused.
        replaces: The prediction that its own one replaces: "cond", "uncond", both, or "guided"; a transform whose
            change would be lost by that is refused.
        example: Values of the fields that have no default, with which the contracts of a new class are checked.
        kind: The name in text and in JSON.
        strength: The share of the transform, 0 (plain CFG) to 1 (the full transform).
        space: The parameterization in which the hooks act; "model" for the model's own.

    Examples:
        >>> from cfglab import Guidance
        >>> from cfglab.guidance import Rescale
        >>> print(Guidance(7.5, [Rescale(strength=0.5)]))
        7.5 | rescale(strength=0.5)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    card: ClassVar[Card | None] = None
    reads_uncond: ClassVar[bool] = True
    """False: at w = 1 it works on the conditional prediction alone, which saves the unconditional row."""
    acts_when_equal: ClassVar[bool] = False
    """True: it changes the prediction even where cond == uncond."""
    per_image: ClassVar[bool] = False
    """True: the rows it needs depend on an image's own history, so every image has a Guide of its own."""

    reads_w: ClassVar[bool] = True
    """False: its prediction does not depend on the scale."""
    replaces: ClassVar[Literal["cond", "uncond", "both", "guided"] | None] = None
    """The prediction that its own one takes the place of; "guided": it is made of the two predictions alone."""

    example: ClassVar[dict[str, Any]] = {}

    kind: str
    strength: Strength = 1.0
    space: Space = "epsilon"

    def __init__(self, **data: Any) -> None:
        owner = str(type(self).model_fields["kind"].default)
        for name, field in type(self).model_fields.items():
            if field.annotation is bool and not isinstance(data.get(name, True), bool):
                raise InputError(
                    f"{owner}({name}={shown(data[name])}): it is True or False; write {name}=True or {name}=False."
                )
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise InputError(
                explain(error, owner, [name for name in type(self).model_fields if name != "kind"])
            ) from None
        if self.kind != owner:
            raise InputError(f"{owner}(kind={shown(self.kind)}): a class has one kind, {owner}; leave it out.")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        kind = cls.model_fields["kind"].default
        if isinstance(kind, str):
            enter_transform(kind, cls, check_transform_kind if is_outside(cls) else None)

    # -- the hooks, in the order in which they run -----------------------------------------------------------------

    def scale(self, w: "float | Tensor", context: StepContext) -> "float | Tensor":  # noqa: ARG002
        """Changes the scale, from the predictions as the denoiser gave them. The first hook.

        Args:
            w: The scale so far: a number, or a tensor that broadcasts with the predictions: (n, 1, ...), one w per
                image, or a map, such as (1, 1, h, w).
            context: The context of the step.

        Returns:
            The new scale: a number, or such a tensor.
        """
        return w

    def conditional(self, cond: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        """Changes the conditional prediction, before everything but the scale.

        Args:
            cond: The conditional prediction, (n, ...).
            context: The context of the step; `context.cond` is `cond`.

        Returns:
            The new conditional prediction, (n, ...).
        """
        return cond

    def unconditional(self, uncond: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        """Changes the unconditional prediction, before the update is formed.

        Args:
            uncond: The unconditional prediction, (n, ...).
            context: The context of the step; `context.uncond` is `uncond`.

        Returns:
            The new unconditional prediction, (n, ...).
        """
        return uncond

    def update(self, update: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        """Changes the update `cond - uncond`, before the scale is applied.

        Args:
            update: The difference of the predictions, (n, ...).
            context: The context of the step.

        Returns:
            The new update, (n, ...).
        """
        return update

    def prediction(self, guided: "Tensor", context: StepContext) -> "Tensor":  # noqa: ARG002
        """Changes the guided prediction `uncond + w * update`. The last hook.

        Args:
            guided: The guided prediction, (n, ...).
            context: The context of the step.

        Returns:
            The new guided prediction, (n, ...).
        """
        return guided

    def known_scale(self, w: float, step: Step) -> float | None:  # noqa: ARG002
        """What `scale` makes of a number, where the predictions are not read and it is one number for all positions.

        Where the scale of a step is known to be 1, the unconditional prediction is left out if nothing else reads it.

        Args:
            w: The scale so far.
            step: The step.

        Returns:
            The new scale; None where it is a map, or depends on the predictions.
        """
        return w if type(self).scale is Transform.scale else None

    @property
    def acts_alone(self) -> bool:
        """Whether it can change a prediction that has no unconditional one beside it.

        A transform that acts on differences alone cannot, unless a perturbed pass makes one.
        """
        has_pass = type(self).variation is not Transform.variation and self.replaces != "uncond"
        return self.acts_when_equal or has_pass or self.replaces == "cond"

    # -- the needs of the transform --------------------------------------------------------------------------------

    def variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        """The perturbed pass that the transform needs at this step; `context.extra` holds its prediction in the hooks.

        Args:
            step: The step.

        Returns:
            The perturbed pass, or None.
        """
        return None

    def second_variation(self, step: Step) -> Perturbation | None:  # noqa: ARG002
        """A second perturbed pass; `context.second` holds its prediction in the hooks.

        At w = 1 it is not run where nothing reads the unconditional prediction, which is what it is for.

        Args:
            step: The step.

        Returns:
            The perturbed pass, or None.
        """
        return None

    def supplies(
        self,
        step: Step,  # noqa: ARG002
        memory: Mapping[str, Any],  # noqa: ARG002
    ) -> Literal["uncond", "cond", "both"] | None:
        """The prediction that its hook computes without the denoiser at this step, so that the row need not run.

        Args:
            step: The step.
            memory: The memory of this transform in this run; it must not be changed here.

        Returns:
            "uncond", "cond" or "both"; None if both are read from the denoiser.
        """
        return None

    def of_sound(self) -> "Transform | None":
        """The transform that guides the sound of a video, where a network predicts both.

        Returns:
            The transform itself, which acts on the sound as on the video, unless it has fields for the sound; None if
            it acts on the video alone.
        """
        return self

    def is_zero(self, step: Step) -> bool:  # noqa: ARG002
        """Whether the guided prediction is zero in its space at this step.

        Args:
            step: The step.

        Returns:
            True if the denoiser and the other hooks are not called.
        """
        return False

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [
            (name, value)
            for name, value in super().__repr_args__()
            if name is not None and name != "kind" and value != type(self).model_fields[name].default
        ]

    def __str__(self) -> str:
        """The text form, such as `prediction_norm(strength=0.5)`."""
        fields = [f"{name}={_format_value(value)}" for name, value in self.__repr_args__()]
        return f"{self.kind}({', '.join(fields)})"


def _format_value(value: Any) -> str:
    """A field's value as `parse_transform` reads it: one word bare, other text in quotes and without a bar."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_format_value, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, str) and not (value.isidentifier() and not iskeyword(value)):
        return repr(value).replace("|", r"\x7c")
    return value if isinstance(value, str) else repr(value) if isinstance(value, bool) else number(value)


def as_transform(value: Any) -> Transform:
    """A Transform from itself or from its JSON object.

    Args:
        value: A Transform, or a dict with its `kind` and fields.

    Returns:
        The transform.

    Raises:
        InputError: The value is neither, its kind is unknown, or a field is not valid.

    Examples:
        >>> from cfglab.guidance import as_transform
        >>> as_transform({"kind": "rescale", "strength": 0.5})
        Rescale(strength=0.5)
    """
    if isinstance(value, Transform):
        return value
    if not isinstance(value, dict) or "kind" not in value:
        raise InputError(
            f"{shown(value)} is no transform: it is an object with a kind; write {{'kind': 'prediction_norm'}}."
        )
    if unnamed := [name for name in value if not isinstance(name, str)]:
        raise InputError(f"a transform with the field {shown(unnamed[0])}: fields have names; write 'strength'.")
    return transform_class(str(value["kind"]))(**value)


def transform_class(kind: str) -> type[Transform]:
    """The class of a kind.

    Args:
        kind: The name of the transform in text and in JSON.

    Returns:
        The class.

    Raises:
        InputError: There is no such transform; the message lists the known kinds.
    """
    if kind not in TRANSFORMS:
        names = sorted(TRANSFORMS)
        hint = nearest(kind, names) or " write one of them, or install the package that adds it."
        raise InputError(f"no transform {shown(kind)}: there are {', '.join(names)};{hint}")
    transform: type[Transform] = TRANSFORMS[kind]
    return transform


AnyTransform = Annotated[SerializeAsAny[Transform], BeforeValidator(as_transform)]
"""A field that takes any transform, or its JSON object."""
