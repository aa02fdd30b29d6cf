"""advise(model): what to set for a model, with sources. Offline; reads no weights."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cfglab.errors import InputError
from cfglab.hosts.levels import Levels
from cfglab.pipelines.advice.catalogue import find_family, sources, variants_of
from cfglab.pipelines.advice.family import Family
from cfglab.pipelines.advice.levels import check_steps, family_levels
from cfglab.pipelines.advice.methods import MethodAdvice, methods_for, not_guided
from cfglab.pipelines.advice.starting_points import StartingPoint, starting_points
from cfglab.pipelines.advice.wording import fact_dict, facts_of, level_dict, levels_text, methods_text
from cfglab.pipelines.loading.samplers import SAMPLERS
from cfglab.schedules.fields import nearest, shown


@dataclass(frozen=True, repr=False)
class Advice:
    """What to set for a model.

    Attributes:
        family: The entry of the catalogue, every fact with its source.
        steps: The number of steps of the levels.
        sampler: The sampler of the levels; None for the family's own scheduler.
        levels: The noise levels; None if they are not known.
        levels_unknown: Why the levels are not known; "" if they are.
        methods: Every method, and whether it applies.
        starting_points: Guidances to start from, as text.
        variants: The names of the other families that the same pipeline class runs.

    Examples:
        >>> from cfglab import advise
        >>> advice = advise("krea-2")
        >>> advice.starting_points[0].text
        '5.5'
    """

    family: Family
    steps: int
    sampler: str | None
    levels: Levels | None
    levels_unknown: str
    methods: tuple[MethodAdvice, ...]
    starting_points: tuple[StartingPoint, ...]
    variants: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<advice on {self.family.name}: {self.family.title}, {self.steps} steps; print it>"

    def __str__(self) -> str:
        return "\n".join(text_of(self))

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """The facts with their sources, the starting points and the levels, for notebooks."""
        from cfglab.notebook import bundle
        from cfglab.pipelines.advice.figure import draw

        points = [(point.text, point.reason) for point in self.starting_points]
        return bundle(
            str(self),
            lambda: draw(self.family, points, self.methods, self.levels or self.levels_unknown),
            include,
            exclude,
        )

    def to_dict(self) -> dict[str, Any]:
        """The advice as JSON values.

        Returns:
            Facts with value, source, quote and date; levels; methods; starting points. A level that is infinite is
            None.
        """
        family = self.family
        facts = {name: fact_dict(fact) for name, fact in family.facts().items()}
        return {
            "family": family.name,
            "title": family.title,
            "pipeline": family.pipeline,
            "models": list(family.models),
            "variants": list(self.variants),
            "default": family.default.model_dump() | {"source": f"the signature, {sources()['diffusers']['title']}"},
            "facts": facts,
            "steps": self.steps,
            "sampler": self.sampler,
            "levels": None if self.levels is None else [level_dict(step) for step in self.levels.steps],
            "levels_unknown": self.levels_unknown,
            "methods": [{"name": item.name, "applies": item.applies, "reason": item.reason} for item in self.methods],
            "starting_points": [{"text": point.text, "reason": point.reason} for point in self.starting_points],
        }


def advise(model: str, steps: int | None = None, *, sampler: str | None = None) -> Advice:
    """What to set for a model: convention, defaults, recommendations with source, levels, methods, starting points.

    Offline: from a catalogue of model cards, papers' code and diffusers' signatures. What is not known is said.

    Args:
        model: The name of a family, a pipeline class of diffusers, or a hub id.
        steps: The number of steps of the noise levels; None for the recommended number, or the signature's.
        sampler: A name in SAMPLERS; None for the family's own scheduler.

    Returns:
        The advice; it prints, and shows itself in a notebook.

    Raises:
        InputError: The catalogue has no such model, there is no such sampler, or the number of steps is out of range.

    Examples:
        >>> from cfglab import advise
        >>> [point.text for point in advise("FluxPipeline").starting_points]
        ['3.5', 'linear(max=3.5, min=1.75)', '2 | apg()']
    """
    family = find_family(model)
    if sampler is not None and sampler not in SAMPLERS:
        hint = nearest(sampler, SAMPLERS) or " name one, or leave it out."
        raise InputError(f"no sampler {shown(sampler)}: there are {', '.join(SAMPLERS)};{hint}")
    count = usual_steps(family) if steps is None else steps
    check_steps(count)
    levels, unknown = None, ""
    try:
        levels = family_levels(family, count, sampler)
    except InputError as error:
        if sampler is not None and family.scheduler.value is not None:
            raise
        unknown = str(error)
    from cfglab.pipelines.advice.probe import probed

    methods = probed(family, methods_for(family), levels)
    variants = tuple(entry.name for entry in variants_of(family))
    points = tuple(starting_points(family, methods))
    return Advice(family, count, sampler, levels, unknown, tuple(methods), points, variants)


def usual_steps(family: Family) -> int:
    """The largest recommended number of steps, else that of the signature, else 50.

    Args:
        family: The family.

    Returns:
        The number of steps.
    """
    value = family.recommended_steps.value
    return int((value[-1] if isinstance(value, list) else value) or family.default.steps or 50)


def text_of(advice: Advice) -> list[str]:
    """The advice as lines of text.

    Args:
        advice: The advice.

    Returns:
        The lines.
    """
    family = advice.family
    lines = [f"{family.title} ({family.name}), {family.pipeline}"]
    if advice.variants:
        lines.append(f"the same class runs: {', '.join(advice.variants)}")
    lines.append("")
    for name, value, origin in facts_of(family):
        lines.append(f"{name:<28}{value}")
        if origin:
            lines.append(f"{'':<28}{origin}")
    lines += ["", "starting points:"]
    width = max((len(point.text) for point in advice.starting_points), default=0)
    lines += [f"  {point.text:<{width}}  {point.reason}" for point in advice.starting_points]
    if not advice.starting_points:
        lines.append(f"  none: {not_guided(family)}")
    lines += ["", *methods_text(advice.methods), ""]
    if advice.levels is None:
        return [*lines, f"noise levels: {advice.levels_unknown}"]
    name = advice.sampler or family.scheduler.value["class"]
    return [*lines, f"noise levels of {name} at {advice.steps} steps:", *levels_text(advice.levels)]
