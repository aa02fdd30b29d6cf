"""The words of an advice: facts with their sources, methods and noise levels, for people and as JSON values."""

import math
from collections.abc import Collection
from typing import Any

from cfglab.hosts.levels import Levels, aligned, level_cell, log_snr, measured
from cfglab.pipelines.advice.catalogue import sources
from cfglab.pipelines.advice.family import CONVENTIONS, Fact, Family, source_of
from cfglab.pipelines.advice.methods import MethodAdvice, profile_of_family, second_scale
from cfglab.step import Step

NAMES = {
    "convention": "scale",
    "recommended_scale": "recommended scale",
    "recommended_steps": "recommended steps",
    "attention": "attention of text and image",
}
BASES = {"stated": "stated", "example": "in an example", "default": "their program's default", "": ""}
COLUMNS = ("step", "timestep", "sigma", "t", "log SNR")


def facts_of(family: Family) -> list[tuple[str, str, str]]:
    """The facts of a family for people: name, value, source.

    Args:
        family: The family.

    Returns:
        One entry per fact, the signature's defaults among them.
    """
    default = family.default
    signature = "no scale" if default.scale is None else f"{default.argument}={default.scale:g}"
    steps = "steps that the weights decide" if default.steps is None else f"{default.steps} steps"
    rows = [
        ("default", f"{signature}, {steps}", f"the signature, {sources()['diffusers']['title']}"),
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
    rows = [COLUMNS, *([level_cell(value) for value in level_row(step)] for step in levels.steps)]
    return [f"  {line}" for line in aligned(rows)]


def level_row(step: Step) -> tuple[int, float | None, float, float, float]:
    """A step in the units of the table.

    Args:
        step: The step, with sigma.

    Returns:
        Step, timestep, sigma (noise over signal), t = sigma / (1 + sigma), log SNR = -2 log sigma.
    """
    return step.index, step.timestep, step.sigma or 0.0, measured(step, "t") or 0.0, log_snr(step)


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
