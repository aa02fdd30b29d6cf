"""Three guidances to start from for a family: each is text that parses, and each applies to it. Loads no torch."""

from dataclasses import dataclass
from typing import Any

from cfglab.guidance import parse_guidance
from cfglab.pipelines.advice.family import Family
from cfglab.pipelines.advice.methods import MethodAdvice, has_unet, not_guided, second_scale

COUNT = 3
UNKNOWN = ("DDPMWuerstchenScheduler",)
"""Schedulers that name neither the prediction nor the noise levels: there methods act on the prediction as it is."""


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """One guidance to start from.

    Attributes:
        text: The guidance, as `parse_guidance` reads it.
        reason: What it is.
    """

    text: str
    reason: str


def starting_scale(family: Family) -> float:
    """w to start from: the middle of the recommended scale, else the signature's default, else 5; 1 without guidance.

    Args:
        family: The family.

    Returns:
        w; for a scale that is an input of the network, that number.
    """
    scale = family.recommended_scale.value
    if isinstance(scale, list):
        scale = sum(scale) / 2
    if scale is None:
        scale = family.default.scale
    return 5.0 if scale is None else family.w(float(scale))


def starting_points(family: Family, methods: list[MethodAdvice]) -> list[StartingPoint]:
    """Three guidances to start from; none for a pipeline that cfglab does not guide.

    Args:
        family: The family.
        methods: What `methods_for` says of it.

    Returns:
        The first three candidates whose transforms all apply.
    """
    if not_guided(family):
        return []
    w = f"{starting_scale(family):g}"
    origin = "the recommended scale" if family.recommended_scale.value is not None else "the signature's default"
    if family.convention.value == "embedded" and not second_scale(family):
        low = f"{starting_scale(family) / 2:g}"
        candidates = [
            (w, f"{origin}, given to the network at every step"),
            (f"linear(max={w}, min={low})", "a scale that falls"),
            (f"linear(max={w}, min={low}).inverted()", "a scale that rises"),
        ]
    elif family.convention.value == "none":
        candidates = [
            ("1", "as the model was made: one row a step"),
            *([("1 | pag()", "perturbed attention needs no unconditional row")] if has_unet(family) else []),
            ("1 | momentum()", "a running mean of the predictions"),
            ("1 | s2()", "away from a prediction with random blocks left out"),
        ]
    elif family.convention.value == "embedded":
        candidates = [
            (w, f"{origin}, given to the network at every step (without {second_scale(family)})"),
            (f"linear(max={w}, min={starting_scale(family) / 2:g})", "the same, falling"),
            ("2 | apg()", f"guidance of two predictions, with {second_scale(family)} above 1 and a negative prompt"),
        ]
    else:
        candidates = [
            (w, f"{origin}, as w"),
            (f"constant({w}).inside(progress=(0.0, 0.7))", "off in the last steps: fewer rows; compare with the first"),
        ]
        if family.prediction.value == "flow":
            candidates.append((f"{w} | cfg_zero_star()", "CFG-Zero*, made for flow models (2503.18886)"))
        else:
            scheduler: Any = family.scheduler.value or {}
            space = ", space=model" if scheduler.get("class") in UNKNOWN else ""
            candidates.append((f"{w} | rescale(strength=0.7{space})", "less overexposure at high scales (2305.08891)"))
    applying = {method.name for method in methods if method.applies}
    points = [
        StartingPoint(text, reason)
        for text, reason in candidates
        if {transform.kind for transform in parse_guidance(text).transforms} <= applying
    ]
    return points[:COUNT]
