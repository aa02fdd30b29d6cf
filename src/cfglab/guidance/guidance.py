"""Guidance: a schedule and transforms as an immutable value."""

import itertools
from collections.abc import Collection, Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError

from cfglab import limits
from cfglab.errors import InputError
from cfglab.guidance.guide import Guide
from cfglab.guidance.lost import check_nothing_lost
from cfglab.guidance.names import Space
from cfglab.guidance.parser import parse_parts
from cfglab.guidance.transform import AnyTransform, Transform
from cfglab.json_text import check_tree, read_json
from cfglab.schedules import AnySchedule
from cfglab.schedules.fields import NEWER, explain, not_stored, shown, unknown_field
from cfglab.schedules.transfer import Integration, transferred

FIELDS = ("schedule", "transforms")


class Guidance(BaseModel):
    """A schedule and the transforms around it.

    `p = u + w * update(cond - u)`, `u = unconditional(uncond)`, then `prediction(p)`; each hook in the order of the
    transforms.

    An immutable value: it compares, hashes, prints (`str` is the text that `parse_guidance` reads, `repr` is Python)
    and converts to JSON and back. Without a schedule, or with an invalid field, it raises InputError with a message of
    one line.

    Attributes:
        schedule: The scale w over the steps. Any value that `as_schedule` accepts: a Schedule, a number, a list, text,
            a function; or the text of a whole guidance, transforms included.
        transforms: The transforms in order, each a Transform or its JSON object.

    Examples:
        >>> from cfglab import Guidance
        >>> print(Guidance("7.5 | rescale(strength=0.5)"))
        7.5 | rescale(strength=0.5)
        >>> Guidance(7.5) == Guidance.from_json(Guidance(7.5).to_json())
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: AnySchedule
    transforms: tuple[AnyTransform, ...] = ()

    def __init__(
        self, schedule: Any = None, transforms: Iterable[Transform | dict[str, Any]] = (), **extra_fields: Any
    ) -> None:
        for name in extra_fields:
            raise InputError(unknown_field("guidance", name, FIELDS))
        if schedule is None:
            raise InputError("guidance without schedule: it is needed; write Guidance(7.5).")
        items = _as_tuple(transforms)
        check_tree([schedule, *items], "a guidance")
        if isinstance(schedule, str) and "|" in schedule:
            schedule, parsed = parse_parts(schedule)
            items = _check_count((*parsed, *items))
        try:
            super().__init__(schedule=schedule, transforms=items)
        except ValidationError as error:
            raise InputError(explain(error, "guidance", FIELDS)) from None
        check_nothing_lost(self.transforms)

    def __str__(self) -> str:
        return " | ".join(map(str, (self.schedule, *self.transforms)))

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """The curve, the formulas and the settings, for notebooks."""
        from cfglab.guidance.figure import draw
        from cfglab.notebook import bundle

        return bundle(repr(self), lambda: draw(self.schedule, self.transforms, str(self)), include, exclude)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        yield None, self.schedule
        if self.transforms:
            yield None, self.transforms

    def to_json(self) -> str:
        """The guidance as JSON; `from_json` reads it back.

        Returns:
            A JSON object as text, with `schedule` and `transforms`.

        Raises:
            InputError: The schedule contains a function, which cannot be stored.

        Examples:
            >>> from cfglab import Guidance
            >>> Guidance(7.5).to_json()
            '{"schedule":{"kind":"constant","value":7.5},"transforms":[]}'
        """
        try:
            return self.model_dump_json()
        except PydanticSerializationError as error:
            raise InputError(not_stored(error)) from None

    @classmethod
    def from_json(cls, text: str) -> "Guidance":
        """The guidance that `to_json` wrote.

        Args:
            text: A JSON object with `schedule` and `transforms`.

        Returns:
            A guidance equal to the one that was written.

        Raises:
            InputError: The text is not the JSON of a guidance, or it has methods or fields of a newer cfglab.
        """
        try:
            data = read_json(text)
        except InputError as error:
            raise InputError(
                f"{shown(text)} is not the JSON of a guidance: it is an object with a schedule and transforms, as "
                f"to_json() writes it ({error})."
            ) from None
        if not isinstance(data, dict) or "schedule" not in data:
            raise InputError(
                f"{shown(text)} is not the JSON of a guidance: it is an object with a schedule and transforms, as "
                "to_json() writes it."
            )
        try:
            return cls(**data)
        except InputError as error:
            raise InputError(f"the JSON of a guidance: {error}{NEWER}") from None

    def push_to_hub(
        self, repository: str, name: str = "guidance", *, private: bool | None = None, message: str | None = None
    ) -> str:
        """Write this guidance to a repository of the Hugging Face hub, under a name.

        A repository holds any number of them, as `guidance/NAME.json`; `from_hub` reads one back. The repository is
        made if it does not exist.

        Args:
            repository: The hub id, owner/name.
            name: The name of the guidance: letters, digits, '_', '.' and '-'.
            private: Whether a new repository is private; None is the owner's setting.
            message: The commit message; None is one with the guidance's text.

        Returns:
            The address of the commit.

        Raises:
            InputError: A name is not valid, the guidance cannot be written as JSON, or the hub refuses.
            MachineError: The hub cannot be reached.
        """
        from cfglab.guidance.hub import push

        message = message or f"Guidance {name}: {str(self)[:200]}"
        return push(self.to_json(), repository, name, private=private, message=message)

    @classmethod
    def from_hub(cls, repository: str, name: str = "guidance", *, revision: str | None = None) -> "Guidance":
        """A guidance that `push_to_hub` wrote. Nothing in it is executed.

        Args:
            repository: The hub id, owner/name.
            name: The name of the guidance.
            revision: A branch, tag or commit; None is the main branch.

        Returns:
            A guidance equal to the one that was pushed.

        Raises:
            InputError: There is no such guidance, or its file is not the JSON of one.
            MachineError: The hub cannot be reached, and the file is not in its cache.
        """
        from cfglab.guidance.hub import fetch

        return cls.from_json(fetch(repository, name, revision))

    def transferred(
        self, from_levels: Any, to_levels: Any, *, s: float = 1.0, integration: Integration = "euler"
    ) -> "Guidance":
        """This guidance for other noise levels: another number of steps, another sampler, another shift of sigma.

        The schedule keeps its curve over sigma and its effective mean scale, the weight of each step being that of the
        sampler's own integration on Gaussians. Transforms stay as they are.

        Args:
            from_levels: The levels on which the guidance is known: `levels(model, steps)`, steps with sigma, or n + 1
                sigmas.
            to_levels: The levels on which it shall run, likewise.
            s: The standard deviation of the data, above 0, in the units of the latents.
            integration: "euler" for Euler and DDIM, "ancestral" for DDPM and ancestral samplers, "exact" for samplers
                of higher order.

        Returns:
            The guidance, for as many steps as `to_levels` has. A constant scale stays itself.

        Raises:
            InputError: Levels have no sigma or do not fit the schedule.
            NotMatchable: No factor of 0 or more gives the effective mean scale.

        Examples:
            >>> from cfglab import Guidance, levels
            >>> guidance = Guidance("linear(max=8, min=2)").transferred(levels("flow", 8), levels("flow", 4))
            >>> [round(w, 2) for w in guidance.schedule.values(4)]
            [7.78, 6.29, 4.83, 3.42]
        """
        moved = transferred(self.schedule, from_levels, to_levels, s=s, integration=integration)
        return Guidance(moved, self.transforms)

    def start(self, prediction: Space = "epsilon", model: Space | None = None) -> Guide:
        """One run of this guidance.

        Args:
            prediction: What the model predicts; "model" if that is not known.
            model: What the network itself predicts, for a host that turns it into another `prediction` before it
                combines, such as x0; None if they are the same.

        Returns:
            The live run; it holds all memory between the steps.

        Raises:
            InputError: There is no such parameterization.

        Examples:
            >>> from cfglab import Guidance, steps
            >>> guide = Guidance(7.5).start("v")
            >>> [guide.plan(step).evaluations for step in steps(2)]
            [2, 2]
        """
        return Guide(self, prediction, model)


def parse_guidance(text: str) -> Guidance:
    """The guidance that a text describes; `str(guidance)` is its canonical form.

    Args:
        text: A schedule as `parse` reads it, then transforms, each after a bar.

    Returns:
        The guidance.

    Raises:
        InputError: The text is too long, has too many transforms, or a part is not valid.

    Examples:
        >>> print(parse_guidance("7.5 | prediction_norm(strength=0.50)"))
        7.5 | prediction_norm(strength=0.5)
    """
    return Guidance(*parse_parts(text))


def as_guidance(value: Any) -> Any:
    """A Guidance from any value that stands for one.

    Args:
        value: A Guidance, text, or a value that `as_schedule` accepts. An object with its own `start(prediction)` is
            returned as it is.

    Returns:
        The guidance.

    Raises:
        InputError: The value stands for no guidance.

    Examples:
        >>> as_guidance("7.5 | pag()")
        Guidance(Constant(7.5), (PAG(),))
    """
    if isinstance(value, Guidance) or (callable(getattr(value, "start", None)) and not isinstance(value, type)):
        return value
    return Guidance(value)


def _as_tuple(transforms: Any) -> tuple[Any, ...]:
    if isinstance(transforms, Transform | dict):
        return (transforms,)
    if isinstance(transforms, str | bytes) or not isinstance(transforms, Iterable):
        raise InputError(
            f"transforms {shown(transforms)}: a list of transforms is needed, each a Transform or its JSON object; "
            "write transforms=[], or text after a bar: '7.5 | prediction_norm()'."
        )
    return _check_count(tuple(itertools.islice(transforms, limits.TRANSFORMS + 1)))


def _check_count(transforms: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(transforms) > limits.TRANSFORMS:
        raise InputError(f"more than {limits.TRANSFORMS} transforms: a guidance has at most so many; leave some out.")
    return transforms
