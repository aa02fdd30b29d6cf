"""Two settings as sets: the difference of a set metric with the interval that leaving out prompts gives."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from cfglab.errors import InputError
from cfglab.experiments.analysis.comparison import Comparison, ComparisonRow
from cfglab.experiments.analysis.paired import Difference, differences, holm
from cfglab.experiments.analysis.pairs import join_names, rank, refuse_unknown_setting
from cfglab.experiments.storage.set_metrics import REAL, stored_jackknives
from cfglab.experiments.storage.store import Store
from cfglab.metrics.jackknife import Jackknife
from cfglab.metrics.registry import METRICS, Metric

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
    definition = METRICS.get(metric)
    if definition is None or definition.of == "image":
        return None
    table = {name: row[metric] for name, row in store.set_metrics().items() if metric in row}
    if not table:
        raise InputError(_missing(store, metric))
    settings = [setting.name for setting in store.experiment.settings]
    refuse_unknown_setting(baseline, settings)
    if baseline not in table:
        raise InputError(f"baseline '{baseline}' has no {metric}: none of its images was measured; name another")
    sets = stored_jackknives(store, metric, table)
    compared = [name for name in settings if name != baseline and name in table]
    by_name = _differences(definition, sets, baseline, compared)
    tested = {name: difference.p for name, difference in by_name.items() if difference.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    rows = [
        ComparisonRow.of(name, table[name].value, difference, p_holm=corrected.get(name))
        for name, difference in by_name.items()
    ]
    return Comparison(
        metric=metric,
        baseline=baseline,
        better=definition.better,
        baseline_mean=table[baseline],
        rows=tuple(sorted(rows, key=lambda row: rank(row.difference, definition.better))),
        note=_note(
            definition,
            baseline,
            list(by_name.values()),
            len(tested),
            [table[name].n for name in (baseline, *compared)],
        )
        + (SHARED if store.experiment.noise == "crossed" and len(store.experiment.prompts) > 1 else "")
        + (FLOOR if REAL in table and definition.of == "set" else ""),
        floor=table.get(REAL),
    )


def _differences(
    definition: Metric, sets: Mapping[str, Jackknife], baseline: str, compared: list[str]
) -> dict[str, Difference]:
    if definition.of == "prompt":
        return _within_prompts(sets, baseline, compared)
    return {name: _difference(definition.name, sets[name], sets[baseline]) for name in compared}


def _within_prompts(sets: Mapping[str, Jackknife], baseline: str, compared: list[str]) -> dict[str, Difference]:
    """A mean over prompts says what each prompt scored: G times the mean less G - 1 times the mean without it."""
    prompts = sorted({prompt for jackknife in sets.values() for prompt in jackknife.prompts})
    row_of = {prompt: row for row, prompt in enumerate(prompts)}

    def values(jackknife: Jackknife) -> NDArray[np.float64]:
        column = np.full((len(prompts), 1), np.nan)
        groups = len(jackknife.without)
        for prompt, left in zip(jackknife.prompts, jackknife.without, strict=False):
            column[row_of[prompt]] = groups * jackknife.value - (groups - 1) * left
        return column

    base = values(sets[baseline])
    gaps = np.array([values(sets[name]) - base for name in compared]).reshape(len(compared), len(prompts), 1)
    dropped = [int(np.isnan(gap).sum()) for gap in gaps]
    results = differences(gaps, dropped)
    return {
        name: _alone(sets[name], sets[baseline])
        if difference.difference is None
        else difference.model_copy(update={"n": min(sets[name].n, sets[baseline].n)})
        for name, difference in zip(compared, results, strict=True)
    }


def _difference(metric: str, jackknife: Jackknife, baseline: Jackknife) -> Difference:
    if jackknife.prompts != baseline.prompts or not jackknife.without or not baseline.without:
        return _alone(jackknife, baseline)
    gap = jackknife - baseline
    error, groups = gap.standard_error, len(gap.without)
    if error is None or groups < FEWEST or error <= 1e-12 * abs(gap.value):
        return _alone(jackknife, baseline)
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


def _alone(jackknife: Jackknife, baseline: Jackknife) -> Difference:
    """A difference whose spread is not known."""
    unknown = dict.fromkeys(("low", "high", "p", "smallest_detectable"))
    shared = set(jackknife.prompts) & set(baseline.prompts)
    return Difference(
        n_prompts=len(shared), n=min(jackknife.n, baseline.n), difference=jackknife.value - baseline.value, **unknown
    )


def _note(definition: Metric, baseline: str, results: list[Difference], tested: int, sizes: list[int]) -> str:
    direction = f"{definition.better} is better" if definition.better else "no direction is better by itself"
    of_prompts = definition.of == "prompt"
    which = "the mean over prompts, each with its images" if of_prompts else "of all images of a setting together"
    sentences = [
        f"{definition.name} ({definition.unit}; {direction}): {which}, each setting less "
        f"'{baseline}', for the same prompts and seeds"
        f"{', held against the same real images' if definition.of == 'set' else ''}."
    ]
    if min(sizes) < max(sizes):
        sentences += [
            f"A setting has {min(sizes)} to {max(sizes)} images, for some failed or are missing: sets of other sizes "
            "differ by that alone."
        ]
    if of_prompts:
        sentences += ["Intervals (95 %) take prompts as a random sample; p flips the sign of whole prompts."]
    elif any(difference.low is not None for difference in results):
        sentences += [
            "Intervals (95 %) leave out one prompt at a time (delete-one jackknife of the difference); they speak of "
            "other prompts, not of other real images."
        ]
    if tested and definition.of == "set":
        sentences += [
            "p is Student's t of the jackknife's standard error: no exact test, for images of two settings cannot be "
            "exchanged without supposing that everything about them is alike."
        ]
    if definition.name.split("_")[0] in WITHOUT_P:
        sentences += ["No p: near 1 most prompts move nothing, and t would promise more than it keeps."]
    if any(difference.low is None for difference in results):
        sentences += [f"No interval where fewer than {FEWEST} prompts, or not the same ones, stand on both sides."]
    if tested > 1:
        sentences += [
            f"p (Holm) is corrected for the family of these {tested} comparisons, not for other metrics, baselines or "
            "runs.",
            "The best of many settings, chosen and evaluated on the same images, looks better than it is (the winner's "
            "curse): draw it and the baseline with other seeds before you rely on it.",
        ]
    return " ".join(sentences)


def _missing(store: Store, metric: str) -> str:
    definition = METRICS[metric]
    if definition.model:
        return f"metric '{metric}' was not measured in this run; cfglab score {store.folder} {metric} measures it"
    if definition.of == "prompt":
        return f"metric '{metric}' was not measured in this run: it takes scenes, and two images of a prompt or more"
    measured = {name for row in store.set_metrics().values() for name in row}
    return (
        f"metric '{metric}' needs real images to be held against and was not measured in this run: that takes "
        f"prompts of the world of scenes and 128 images a setting. Metrics of sets here: {join_names(measured)}"
    )
