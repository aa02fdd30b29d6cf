"""Fair opponents: a constant scale of the same dose, or only settings that cost as many denoiser rows.

Shapes compared at an equal maximum differ in how much guidance they give; most of what such a comparison shows is the
dose. Pure values; loads no torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from cfglab.errors import InputError
from cfglab.experiments.noise import standard_sigmas
from cfglab.experiments.pairs import Pairs
from cfglab.experiments.scores import ResultLike, Scores
from cfglab.experiments.spec import Experiment, Setting
from cfglab.experiments.store import Store
from cfglab.guidance.guide import Guide
from cfglab.guidance.now import runs
from cfglab.guidance.transforms import Transform
from cfglab.schedules.shapes import Constant
from cfglab.step import steps

Equal = Literal["dose", "cost"]
ALIKE = 0.01
"""Doses and costs that differ by at most this share are called equal."""


def dose(setting: Setting, count: int) -> float | None:
    """The mean of w over `count` steps, guidance that is off counting as 1; None where w depends on the picture."""
    try:
        return setting.guidance.schedule.dose(count, standard_sigmas(count))
    except InputError:
        return None


def rows_needed(setting: Setting, count: int) -> int | None:
    """Denoiser rows of one picture drawn alone; None where a transform decides while it runs."""
    if any(type(it).supplies is not Transform.supplies for it in setting.guidance.transforms):
        return None
    guide = Guide(setting.guidance)
    try:
        levels = steps(count, standard_sigmas(count))
        return sum(sum(guide.needs(it)) + sum(map(runs, guide.variations(it))) for it in levels)
    except InputError:
        return None


def at_equal(
    pairs: Pairs, source: Store | Scores | Iterable[ResultLike], equal: Equal
) -> tuple[Pairs, dict[str, str], dict[str, str]]:
    """(pairs against fair opponents, setting -> its opponent, setting -> why it has none).

    `dose`: each setting stands against the run's constant scales without transforms: the one of its dose, or the
    straight line between the two nearest, picture by picture, so that prompt and seed still drop out. `cost`: against
    the baseline, where both need as many denoiser rows.

    Raises:
        InputError: no constant scale in the run; a baseline whose cost is not known beforehand; results without a
            store, which do not say what their guidance is.
    """
    if not isinstance(source, Store):
        raise InputError(f"equal {equal}: results do not say what their guidance is; compare a store")
    return (_at_dose if equal == "dose" else _at_cost)(pairs, source.experiment)


def _at_dose(pairs: Pairs, experiment: Experiment) -> tuple[Pairs, dict[str, str], dict[str, str]]:
    ruler = {
        setting.name: setting.guidance.schedule.value
        for setting in experiment.settings
        if isinstance(setting.guidance.schedule, Constant) and not setting.guidance.transforms
    }
    if not ruler:
        raise InputError(
            "equal dose: this run has no constant scale to compare with; add a group such as "
            "{name: constant, guidance: '{w}', axes: {w: [1.5, 2, 3, 5]}}"
        )
    against = np.full(pairs.scores.values.shape, np.nan)
    opponents, without = {}, {}
    for setting in experiment.settings:
        amount = dose(setting, experiment.steps)
        if setting.name in ruler:
            continue
        if amount is None:
            without[setting.name] = "its dose depends on the picture"
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


def _at_cost(pairs: Pairs, experiment: Experiment) -> tuple[Pairs, dict[str, str], dict[str, str]]:
    wanted = rows_needed(experiment.setting(pairs.baseline), experiment.steps)
    if wanted is None:
        raise InputError(
            f"equal cost: how many rows the baseline '{pairs.baseline}' needs depends on the picture; name another "
            "--baseline"
        )
    against = np.array(pairs.against)
    opponents, without = {}, {}
    for setting in experiment.settings:
        if setting.name == pairs.baseline:
            continue
        cost = rows_needed(setting, experiment.steps)
        if cost is None or abs(cost - wanted) > ALIKE * wanted:
            without[setting.name] = "its rows depend on the picture" if cost is None else f"{cost} rows a picture"
            against[pairs.scores.settings.index(setting.name)] = np.nan
        else:
            opponents[setting.name] = f"{pairs.baseline}, {wanted} rows"
    return replace(pairs, against=against), opponents, without


def explain(equal: Equal, without: Mapping[str, str], most: int = 6) -> list[str]:
    """The sentences of a comparison's note."""
    said = {
        "dose": "Equal dose: each setting stands against the constant scale of the same mean over the steps, or the "
        "line between the two nearest of this run; the constants themselves are the ruler and have no row.",
        "cost": "Equal cost: only settings that need as many denoiser rows a picture as the baseline are compared.",
    }
    listed: Sequence[str] = [f"'{name}' ({why})" for name, why in without.items()]
    if not listed:
        return [said[equal]]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return [said[equal], f"Left out: {', '.join(listed[:most])}{more}."]
