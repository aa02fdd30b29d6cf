"""advise(model): what to set for a model, with sources. Offline; reads no weights."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cfglab.errors import InputError
from cfglab.hosts.levels import Levels
from cfglab.pipelines.advice.catalogue import find_family, sources, variants_of
from cfglab.pipelines.advice.family import CONVENTIONS, Fact, Family, source_of
from cfglab.pipelines.advice.levels import check_steps, family_levels
from cfglab.pipelines.advice.methods import MethodAdvice, methods_for, not_guided, profile_of_family, second_scale
from cfglab.pipelines.advice.starting_points import StartingPoint, starting_points
from cfglab.pipelines.loading.samplers import SAMPLERS
from cfglab.schedules.fields import nearest, shown
from cfglab.step import Step

NAMES = {
    "convention": "scale",
    "recommended_scale": "recommended scale",
    "recommended_steps": "recommended steps",
    "attention": "attention of text and image",
}
BASES = {"stated": "stated", "example": "in an example", "default": "their program's default", "": ""}
COLUMNS = ("step", "timestep", "sigma", "t", "log SNR")


@dataclass(frozen=True)
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

    def __str__(self) -> str:
        return "\n".join(text_of(self))

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """The facts with their sources, the starting points and the levels, for notebooks."""
        from cfglab.notebook import bundle
        from cfglab.pipelines.advice.figure import draw

        return bundle(str(self), lambda: draw(self), include, exclude)

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
    """The largest recommended number of steps, else that of the signature.

    Args:
        family: The family.

    Returns:
        The number of steps.
    """
    value = family.recommended_steps.value
    return int((value[-1] if isinstance(value, list) else value) or family.default.steps)


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


def facts_of(family: Family) -> list[tuple[str, str, str]]:
    """The facts of a family for people: name, value, source.

    Args:
        family: The family.

    Returns:
        One entry per fact, the signature's defaults among them.
    """
    default = family.default
    signature = "no scale" if default.scale is None else f"{default.argument}={default.scale:g}"
    rows = [
        ("default", f"{signature}, {default.steps} steps", f"the signature, {sources()['diffusers']['title']}"),
        *((NAMES.get(name, name), fact_text(family, name, fact), origin_of(fact)) for name, fact in _facts(family)),
    ]
    profile = profile_of_family(family)
    replaced = [f"{name}: use {instead}" for name, _, instead in profile.refused] if profile else []
    return rows + [("refused by guide()", text, "") for text in replaced]


def _facts(family: Family) -> list[tuple[str, Fact]]:
    return [(name, fact) for name, fact in family.facts().items() if name != "latents"]


def fact_text(family: Family, name: str, fact: Fact) -> str:
    """The value of a fact for people.

    Args:
        family: Its family.
        name: Its name.
        fact: The fact.

    Returns:
        One line.
    """
    value = fact.value
    if value is None:
        return f"unknown: {fact.reason}"
    if name == "convention":
        extra = f"; {second_scale(family)} is w" if second_scale(family) else ""
        return f"{family.default.argument or 'guidance_scale'} {CONVENTIONS[value]}{extra}"
    if name == "scheduler":
        settings = ", ".join(f"{key}={setting}" for key, setting in value.get("settings", {}).items())
        mu = f"mu={value['mu']} at the usual size" if "mu" in value else ""
        return f"{value['class']}({', '.join(filter(None, (settings, mu)))})"
    if name == "distilled" and value == "no":
        return "no: two predictions are combined"
    text = f"{value[0]:g} to {value[1]:g}" if isinstance(value, list) else str(value)
    if name == "recommended_scale" and family.convention.value == "w - 1":
        ends = value if isinstance(value, list) else [value]
        text += f" (w = {' to '.join(f'{family.w(end):g}' for end in ends)})"
    return f"{text}{f', {BASES[fact.basis]}' if fact.basis else ''}"


def origin_of(fact: Fact) -> str:
    """Where a fact was read, its quote and the day.

    Args:
        fact: The fact.

    Returns:
        One line; "" for what is not known.
    """
    source = source_of(fact, dict(sources()))
    return "" if source is None else f'{fact.source}: "{fact.quote}", read {sources()[source]["read"]}'


def methods_text(methods: Collection[MethodAdvice]) -> list[str]:
    """The methods in three groups: those that apply, those that do not, those of which it is not known.

    Args:
        methods: The methods.

    Returns:
        Lines of text; methods with the same reason share a line.
    """
    lines = []
    for title, applies in (
        ("methods that apply", True),
        ("methods that mean nothing here", False),
        ("not known", None),
    ):
        reasons: dict[str, list[str]] = {}
        for method in methods:
            if method.applies is applies:
                reasons.setdefault(method.reason, []).append(method.name)
        if reasons:
            lines.append(f"{title}:")
            lines += [f"  {', '.join(names)}{f': {reason}' if reason else ''}" for reason, names in reasons.items()]
    return lines


def levels_text(levels: Levels) -> list[str]:
    """The noise levels as a table: step, timestep, sigma, t, log SNR.

    Args:
        levels: The levels.

    Returns:
        The lines.
    """
    rows = [COLUMNS, *([_cell(value) for value in level_row(step)] for step in levels.steps)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def level_row(step: Step) -> tuple[int, float | None, float, float, float]:
    """A step in the units of the table.

    Args:
        step: The step, with sigma.

    Returns:
        Step, timestep, sigma (noise over signal), t = sigma / (1 + sigma), log SNR = -2 log sigma.
    """
    sigma = step.sigma or 0.0
    t = 1.0 if math.isinf(sigma) else sigma / (1 + sigma)
    snr = -math.inf if math.isinf(sigma) else math.inf if sigma == 0 else -2 * math.log(sigma)
    return step.index, step.timestep, sigma, t, snr


def level_dict(step: Step) -> dict[str, float | int | None]:
    """A step as JSON values, an infinite one as None.

    Args:
        step: The step.

    Returns:
        Its level by the name of the column.
    """
    names = ("step", "timestep", "sigma", "t", "log_snr")
    values = zip(names, level_row(step), strict=True)
    return {name: None if value is None or math.isinf(value) else value for name, value in values}


def fact_dict(fact: Fact) -> dict[str, Any]:
    """A fact as JSON values, with the title and the date of its source.

    Args:
        fact: The fact.

    Returns:
        Value, source, quote, basis, reason, title, read.
    """
    source = source_of(fact, dict(sources()))
    return fact.model_dump() | (dict(sources()[source]) if source else {"title": "", "read": None})


def _cell(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.4g}"
