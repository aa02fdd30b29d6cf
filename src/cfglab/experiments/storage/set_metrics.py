"""What a store keeps of a set metric beside its estimate: the value without each prompt, as JSON."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cfglab.metrics.estimate import Estimate
from cfglab.metrics.jackknife import Jackknife

if TYPE_CHECKING:
    from cfglab.experiments.storage.store import Store

REAL = "real"
"""The name under which a store keeps the set metrics of real images against real images."""


def jackknife_text(jackknife: Jackknife, prompt_positions: Mapping[str, int]) -> str:
    """Return the text that a store keeps of a jackknife.

    Args:
        jackknife: a set metric with its values without each prompt.
        prompt_positions: prompt -> its position in the experiment.

    Returns:
        A JSON array: the positions of the prompts, and the value without each of them.
    """
    return json.dumps([[prompt_positions[prompt] for prompt in jackknife.prompts], jackknife.without])


def stored_jackknives(store: "Store", metric: str, estimates: Mapping[str, Estimate]) -> dict[str, Jackknife]:
    """Return a set metric of each setting as a jackknife.

    Args:
        store: a run.
        metric: a set metric.
        estimates: setting -> the stored estimate of the metric.

    Returns:
        Setting -> jackknife, without values for each prompt where an older version scored the run.

    Raises:
        InputError: if the results cannot be read.
    """
    texts: dict[str, str] = {}
    if store.has_table("set_parts"):
        texts = {
            row["setting"]: row["parts"]
            for row in store.select("SELECT setting, parts FROM set_parts WHERE metric = ?", metric)
        }
    jackknives = {}
    for setting, estimate in estimates.items():
        positions, without = json.loads(texts.get(setting, "[[], []]"))
        prompts = tuple(store.experiment.prompts[position] for position in positions)
        jackknives[setting] = Jackknife(estimate.value, tuple(without), prompts, estimate.n)
    return jackknives
