"""Two settings as sets: the difference of a set metric with the interval that leaving out prompts gives."""

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from cfglab.errors import InputError
from cfglab.experiments.analysis.comparison import Comparison, ComparisonRow
from cfglab.experiments.analysis.paired import Difference, differences, holm
from cfglab.experiments.analysis.pairs import join_names, rank, refuse_unknown_setting
from cfglab.experiments.storage.store import Store
from cfglab.metrics.estimate import Estimate
from cfglab.metrics.jackknife import Jackknife
from cfglab.metrics.registry import METRICS, Metric

REAL = "real"
FEWEST = 8
"""Prompts from which on an interval is given, as for the metrics themselves."""
FLOOR = " The floor is what real images score, held against others: a setting below it is not better than real."
SHARED = " All prompts share the starting noises of the seeds: nothing here speaks of other noises."
WITHOUT_P = ("precision",)
"""Metrics near the end of their scale: of precision 0.99 most prompts say nothing, and t promises too much."""


def compare_sets(store: Store, metric: str, baseline: str) -> Comparison | None:
    """Each setting less the baseline in a metric of sets, best first, beside the floor of real against real images.

    The difference is of two sets of images with the same prompts and seeds, against the same real images. For
    metrics within a prompt (Vendi, distance) prompts are the sample and are flipped, as for images. For all others
    the interval is the delete-one-prompt jackknife of the difference, and p is Student's t of the same standard error,
    with G - 1 degrees of freedom for G prompts; precision gets no p.

    Returns None for a name that is no metric of sets.

    Raises:
        InputError: a set metric that this run does not have, a baseline that is no setting.
    """
    known = METRICS.get(metric)
    if known is None or known.of == "image":
        return None
    table = {name: row[metric] for name, row in store.set_metrics().items() if metric in row}
    if not table:
        raise InputError(_missing(store, metric))
    settings = [setting.name for setting in store.experiment.settings]
    refuse_unknown_setting(baseline, settings)
    if baseline not in table:
        raise InputError(f"baseline '{baseline}' has no {metric}: none of its images was measured; name another")
    sets = _jackknives(store, metric, table)
    others = [name for name in settings if name != baseline and name in table]
    by_name = _differences(known, sets, baseline, others)
    tested = {name: it.p for name, it in by_name.items() if it.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    rows = [
        ComparisonRow.of(name, table[name].value, difference, p_holm=corrected.get(name))
        for name, difference in by_name.items()
    ]
    return Comparison(
        metric=metric,
        baseline=baseline,
        better=known.better,
        baseline_mean=table[baseline],
        rows=tuple(sorted(rows, key=lambda row: rank(row.difference, known.better))),
        note=_note(known, baseline, list(by_name.values()), len(tested), [table[it].n for it in (baseline, *others)])
        + (SHARED if store.experiment.noise == "crossed" and len(store.experiment.prompts) > 1 else "")
        + (FLOOR if REAL in table and known.of == "set" else ""),
        floor=table.get(REAL),
    )


def parts_of(found: Jackknife, prompts: Mapping[str, int]) -> str:
    """A jackknife as the text that a store keeps: places of its prompts in the experiment, and what each leaves."""
    return json.dumps([[prompts[prompt] for prompt in found.prompts], found.without])


def _jackknives(store: Store, metric: str, table: Mapping[str, Estimate]) -> dict[str, Jackknife]:
    """By setting; without parts where an older version scored the run."""
    there = store.select("SELECT 1 FROM sqlite_master WHERE name = 'set_parts'")
    query = "SELECT setting, parts FROM set_parts WHERE metric = ?"
    parts = dict(store.select(query, metric)) if there else {}
    found = {}
    for name, estimate in table.items():
        places, without = json.loads(parts.get(name, "[[], []]"))
        prompts = tuple(store.experiment.prompts[place] for place in places)
        found[name] = Jackknife(estimate.value, tuple(without), prompts, estimate.n)
    return found


def _differences(
    known: Metric, sets: Mapping[str, Jackknife], baseline: str, others: list[str]
) -> dict[str, Difference]:
    if known.of == "prompt":
        return _within_prompts(sets, baseline, others)
    return {name: _difference(known.name, sets[name], sets[baseline]) for name in others}


def _within_prompts(sets: Mapping[str, Jackknife], baseline: str, others: list[str]) -> dict[str, Difference]:
    """A mean over prompts says what each prompt scored: G times the mean less G - 1 times the mean without it."""
    prompts = sorted({prompt for found in sets.values() for prompt in found.prompts})
    place = {prompt: row for row, prompt in enumerate(prompts)}

    def values(found: Jackknife) -> NDArray[np.float64]:
        column = np.full((len(prompts), 1), np.nan)
        groups = len(found.without)
        for prompt, left in zip(found.prompts, found.without, strict=False):
            column[place[prompt]] = groups * found.value - (groups - 1) * left
        return column

    base = values(sets[baseline])
    gaps = np.array([values(sets[name]) - base for name in others]).reshape(len(others), len(prompts), 1)
    dropped = [int(np.isnan(gap).sum()) for gap in gaps]
    found = differences(gaps, dropped)
    return {
        name: _alone(sets[name], sets[baseline])
        if it.difference is None
        else it.model_copy(update={"n": min(sets[name].n, sets[baseline].n)})
        for name, it in zip(others, found, strict=True)
    }


def _difference(metric: str, mine: Jackknife, base: Jackknife) -> Difference:
    if mine.prompts != base.prompts or not mine.without or not base.without:
        return _alone(mine, base)
    gap = mine - base
    error, groups = gap.standard_error, len(gap.without)
    if error is None or groups < FEWEST or error <= 1e-12 * abs(gap.value):
        return _alone(mine, base)
    p = 2.0 * float(stdtr(groups - 1, -abs(gap.value) / error))
    return Difference(
        n_prompts=groups,
        n=gap.n,
        resampled="prompts",
        difference=gap.value,
        low=gap.low,
        high=gap.high,
        p=None if metric.split("_")[0] in WITHOUT_P else p,
        smallest_detectable=float(stdtrit(groups - 1, 0.975) + stdtrit(groups - 1, 0.8)) * error,
    )


def _alone(mine: Jackknife, base: Jackknife) -> Difference:
    """A difference whose spread is not known."""
    unknown = dict.fromkeys(("low", "high", "p", "smallest_detectable"))
    shared = set(mine.prompts) & set(base.prompts)
    return Difference(n_prompts=len(shared), n=min(mine.n, base.n), difference=mine.value - base.value, **unknown)


def _note(known: Metric, baseline: str, found: list[Difference], tested: int, sizes: list[int]) -> str:
    direction = f"{known.better} is better" if known.better else "no direction is better by itself"
    sentences = [
        f"{known.name} ({known.unit}; {direction}): of all images of a setting together, each setting less "
        f"'{baseline}', for the same prompts and seeds"
        f"{', held against the same real images' if known.of == 'set' else ''}."
    ]
    if min(sizes) < max(sizes):
        sentences += [
            f"A setting has {min(sizes)} to {max(sizes)} images, for some failed or are missing: sets of other sizes "
            "differ by that alone."
        ]
    if known.of == "prompt":
        sentences += ["Intervals (95 %) take prompts as a random sample; p flips the sign of whole prompts."]
    elif any(it.low is not None for it in found):
        sentences += [
            "Intervals (95 %) leave out one prompt at a time (delete-one jackknife of the difference); they speak of "
            "other prompts, not of other real images."
        ]
    if tested and known.of == "set":
        sentences += [
            "p is Student's t of the jackknife's standard error: no exact test, for images of two settings cannot be "
            "exchanged without supposing that everything about them is alike."
        ]
    if known.name.split("_")[0] in WITHOUT_P:
        sentences += ["No p: near 1 most prompts move nothing, and t would promise more than it keeps."]
    if any(it.low is None for it in found):
        sentences += [f"No interval where fewer than {FEWEST} prompts, or not the same ones, stand on both sides."]
    if tested > 1:
        sentences += [
            f"p (Holm) is corrected for the family of these {tested} comparisons, not for other metrics, baselines or "
            "runs.",
            "The best of many settings, chosen and judged on the same images, looks better than it is (the winner's "
            "curse): draw it and the baseline with other seeds before you rely on it.",
        ]
    return " ".join(sentences)


def _missing(store: Store, metric: str) -> str:
    known = METRICS[metric]
    if known.judge:
        return f"metric '{metric}' was not measured in this run; cfglab score {store.folder} {metric} measures it"
    if known.of == "prompt":
        return f"metric '{metric}' was not measured in this run: it takes scenes, and two images of a prompt or more"
    measured = {name for row in store.set_metrics().values() for name in row}
    return (
        f"metric '{metric}' needs real images to be held against and was not measured in this run: that takes "
        f"prompts of the world of scenes and 128 images a setting. Metrics of sets here: {join_names(measured)}"
    )
