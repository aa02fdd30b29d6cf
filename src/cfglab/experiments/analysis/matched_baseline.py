"""Fair opponents: a constant scale of the same dose, or only settings that cost as many denoiser rows.

Shapes compared at an equal maximum differ in how much guidance they give; most of what such a comparison shows is the
dose. Pure values; loads no torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cfglab.errors import InputError
from cfglab.experiments.analysis.pairs import Pairs
from cfglab.experiments.analysis.reference_sigmas import standard_sigmas
from cfglab.experiments.analysis.scores import ResultLike, Scores
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.store import Store
from cfglab.experiments.storage.traces import stored_levels
from cfglab.guidance.guide import Guide
from cfglab.guidance.transform import Transform
from cfglab.schedules.shapes import Constant
from cfglab.step import steps

Equal = Literal["dose", "cost"]
ALIKE = 0.01
"""Doses and costs that differ by at most this share are called equal."""


def dose(setting: Setting, levels: Sequence[float]) -> float | None:
    """Return the mean of w over the steps, where guidance that is off counts as 1.

    Args:
        setting: the setting.
        levels: the noise levels (sigma), one more than steps.

    Returns:
        The mean; None where w depends on the image.
    """
    try:
        return setting.guidance.schedule.dose(len(levels) - 1, levels)
    except InputError:
        return None


def rows_needed(setting: Setting, levels: Sequence[float]) -> int | None:
    """Return the denoiser rows of one image that is generated alone, with one call per step.

    Args:
        setting: the setting.
        levels: the noise levels (sigma), one more than steps.

    Returns:
        The number of rows; None where a transform decides while it runs.
    """
    if any(type(transform).supplies is not Transform.supplies for transform in setting.guidance.transforms):
        return None
    guide = Guide(setting.guidance)
    try:
        return sum(guide.plan(step).evaluations for step in steps(len(levels) - 1, levels))
    except InputError:
        return None


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """Pairs with a matched opponent for each setting.

    Attributes:
        pairs: the scores and what each setting is compared with.
        opponents: setting -> the name of its opponent.
        without: setting -> why it has no opponent.
        own_levels: whether doses and costs are at the noise levels of the run itself.
    """

    pairs: Pairs
    opponents: Mapping[str, str]
    without: Mapping[str, str]
    own_levels: bool


def at_equal(pairs: Pairs, source: Store | Scores | Iterable[ResultLike], equal: Equal) -> MatchedPairs:
    """Return the same comparison with another opponent for each setting.

    `dose`: each setting is compared with the constant scales of the run that have the same transforms (usually none):
    the one of its dose, or the straight line between the two nearest, image by image, so that prompt and seed still
    cancel. A setting is left out where a transform decides the scale while the image is generated, because its
    schedule does not state how much guidance it had. `cost`: against the baseline, where both need as many denoiser
    rows.

    Args:
        pairs: the pairs with the baseline.
        source: the store of the run.
        equal: "dose" or "cost".

    Raises:
        InputError: if the run has no constant scale, the cost of the baseline is not known beforehand, or `source` is
            not a store: results do not state their guidance.
    """
    if not isinstance(source, Store):
        raise InputError(f"equal {equal}: results do not say what their guidance is; compare a store")
    count = source.experiment.steps
    own_levels = stored_levels(source, count)
    against = _at_dose if equal == "dose" else _at_cost
    return MatchedPairs(
        *against(pairs, source.experiment, own_levels or standard_sigmas(count)), own_levels=own_levels is not None
    )


def _at_dose(
    pairs: Pairs, experiment: Experiment, levels: Sequence[float]
) -> tuple[Pairs, dict[str, str], dict[str, str]]:
    rulers: dict[tuple[Transform, ...], dict[str, float]] = {}
    for setting in experiment.settings:
        if isinstance(setting.guidance.schedule, Constant) and not _decides(setting):
            rulers.setdefault(setting.guidance.transforms, {})[setting.name] = setting.guidance.schedule.value
    if not rulers:
        raise InputError(
            "equal dose: this run has no constant scale to compare with; add a group such as "
            "{name: constant, guidance: '{w}', axes: {w: [1.5, 2, 3, 5]}}"
        )
    against = np.full(pairs.scores.values.shape, np.nan)
    opponents, without = {}, {}
    for setting in experiment.settings:
        transforms = setting.guidance.transforms
        ruler = rulers.get(transforms, {})
        amount = dose(setting, levels)
        if setting.name in ruler:
            if transforms:
                without[setting.name] = "its transforms change what a scale does"
            continue
        if (deciding := _decides(setting)) or amount is None:
            by = f"{deciding} decides its scale" if deciding else "its dose depends"
            without[setting.name] = f"{by} {'image by image' if deciding else 'on the image'}"
            continue
        if not ruler:
            without[setting.name] = "no constant scale has the same transforms" if transforms else "no constant scale"
            continue
        weights = _between(amount, ruler)
        if not weights:
            low, high = min(ruler.values()), max(ruler.values())
            span = f"the constant scale has {low:g}" if low == high else f"the constant scales span {low:g} to {high:g}"
            without[setting.name] = f"dose {amount:.3g}, {span}"
            continue
        rows = [pairs.scores.settings.index(name) for name in weights]
        parts = zip(rows, weights.values(), strict=True)
        against[pairs.scores.settings.index(setting.name)] = sum(pairs.scores.values[row] * part for row, part in parts)
        opponents[setting.name] = " and ".join(f"w = {ruler[name]:g}" for name in weights)
    return replace(pairs, against=against), opponents, without


def _decides(setting: Setting) -> str:
    """The kind of a transform that reads the scale off the predictions; empty where it follows from the schedule.

    A map of scales reads none: with the same map a schedule and a constant of its mean have the same mean everywhere.
    """
    transforms = [transform for transform in setting.guidance.transforms if transform.reads_uncond]
    return next((transform.kind for transform in transforms if type(transform).scale is not Transform.scale), "")


def _between(amount: float, ruler: Mapping[str, float]) -> dict[str, float]:
    """Setting -> its weight: the constant of this dose, or the two around it; empty outside of all."""
    nearest = min(ruler, key=lambda name: abs(ruler[name] - amount))
    if abs(ruler[nearest] - amount) <= ALIKE * abs(amount):
        return {nearest: 1.0}
    below = [name for name in ruler if ruler[name] < amount]
    above = [name for name in ruler if ruler[name] > amount]
    if not below or not above:
        return {}
    low, high = max(below, key=ruler.__getitem__), min(above, key=ruler.__getitem__)
    share = (amount - ruler[low]) / (ruler[high] - ruler[low])
    return {low: 1.0 - share, high: share}


def _at_cost(
    pairs: Pairs, experiment: Experiment, levels: Sequence[float]
) -> tuple[Pairs, dict[str, str], dict[str, str]]:
    baseline_cost = rows_needed(experiment.setting(pairs.baseline), levels)
    if baseline_cost is None:
        raise InputError(
            f"equal cost: how many rows the baseline '{pairs.baseline}' needs depends on the image; name another "
            "--baseline"
        )
    against = np.array(pairs.against)
    opponents, without = {}, {}
    for setting in experiment.settings:
        if setting.name == pairs.baseline:
            continue
        cost = rows_needed(setting, levels)
        if cost is None or abs(cost - baseline_cost) > ALIKE * baseline_cost:
            without[setting.name] = "its rows depend on the image" if cost is None else f"{cost} rows an image"
            against[pairs.scores.settings.index(setting.name)] = np.nan
        else:
            opponents[setting.name] = f"{pairs.baseline}, {baseline_cost} rows"
    return replace(pairs, against=against), opponents, without


def explain(equal: Equal, matched: MatchedPairs, most: int = 6) -> list[str]:
    """Return the sentences of a comparison's note about its opponents.

    Args:
        equal: "dose" or "cost".
        matched: the matched pairs.
        most: the largest number of settings without an opponent that are listed.
    """
    openings = {
        "dose": "Equal dose: each setting stands against the constant scale of the same mean over the steps, or the "
        "line between the two nearest of this run, with the same transforms; the constants themselves are the ruler "
        "and have no row.",
        "cost": "Equal cost: only settings that need as many denoiser rows an image as the baseline are compared.",
    }
    sentences = [openings[equal]]
    if not matched.own_levels:
        sentences += [
            "Schedules over the noise level are read at Stable Diffusion's, for this run recorded none of its own."
        ]
    reasons: Sequence[str] = [f"'{name}' ({why})" for name, why in matched.without.items()]
    if not reasons:
        return sentences
    more = f" and {len(reasons) - most} more" if len(reasons) > most else ""
    return [*sentences, f"Left out: {', '.join(reasons[:most])}{more}."]
