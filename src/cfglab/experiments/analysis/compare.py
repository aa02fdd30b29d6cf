"""Every setting of a run against its baseline, paired by prompt and seed, with the correction that many looks need."""

from collections.abc import Iterable, Mapping

from cfglab.errors import InputError
from cfglab.experiments.analysis.compare_sets import compare_sets
from cfglab.experiments.analysis.comparison import Comparison, ComparisonRow, table
from cfglab.experiments.analysis.matched_baseline import Equal, at_equal, explain
from cfglab.experiments.analysis.paired import Difference, holm, smallest_p
from cfglab.experiments.analysis.pairs import Pairs, rank
from cfglab.experiments.analysis.scores import ResultLike, Scores
from cfglab.experiments.analysis.split_choice import SplitChoice, best_on_split
from cfglab.experiments.scoring.alignment_scores import chance
from cfglab.experiments.storage.store import Store
from cfglab.metrics.estimate import Estimate
from cfglab.metrics.registry import METRICS

__all__ = ["Comparison", "ComparisonRow", "SplitChoice", "best_on_split", "compare", "table"]


def compare(
    source: Store | Scores | Iterable[ResultLike],
    metric: str,
    baseline: str,
    *,
    equal: Equal | None = None,
    shuffled: bool = False,
) -> Comparison:
    """Compare each setting with the baseline: setting minus baseline.

    A metric of single images is compared over pairs with the same prompt and seed; a metric of sets of images over
    sets of the same prompts.

    Args:
        source: the store of a run, the Scores of the metric, or results with one entry for each (setting, prompt,
            seed). Failed results are dropped together with their partners, and counted.
        metric: a metric of the results, such as `alignment`; from a store also a metric of sets, such as `kid`.
        baseline: the name of a setting of the results.
        equal: compare at equal `dose` or `cost` (see `cfglab.experiments.analysis.matched_baseline`); needs a store.
        shuffled: add the alignment of the images with other prompts of the run; needs a store.

    Returns:
        The Comparison, with one row per setting; its p values are corrected by Holm's method.

    Raises:
        InputError: if the results do not hold the metric, the metric is not one of single images, the baseline is not
            a setting of the results, a (setting, prompt, seed) has two results, or `equal` is not possible.

    Examples:
        with Store.open("runs/k-decay") as store:
            print(compare(store, "alignment", "constant"))
    """
    chance_level = _chance(source, metric) if shuffled else None
    if isinstance(source, Store) and equal is None and (sets := compare_sets(source, metric, baseline)):
        return sets
    pairs = Pairs.of(source, metric, baseline)
    names, fairness = pairs.settings, list[str]()
    opponents: Mapping[str, str] = {}
    if equal is not None:
        matched = at_equal(pairs, source, equal)
        pairs, opponents = matched.pairs, matched.opponents
        names, fairness = list(opponents), explain(equal, matched)
    differences = pairs.differences(names)
    p_values = {name: difference.p for name, difference in differences.items() if difference.p is not None}
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    rows = [
        ComparisonRow.of(
            name,
            pairs.mean_over_pairs(name),
            difference,
            p_holm=corrected.get(name),
            against=opponents.get(name),
        )
        for name, difference in differences.items()
    ]
    return Comparison(
        metric=metric,
        baseline=baseline,
        better=pairs.better,
        baseline_mean=pairs.baseline_mean(),
        rows=tuple(sorted(rows, key=lambda row: rank(row.difference, pairs.better))),
        note=_note(pairs, differences, len(p_values), fairness),
        chance=chance_level,
    )


def _chance(source: Store | Scores | Iterable[ResultLike], metric: str) -> Estimate:
    if metric != "alignment" or not isinstance(source, Store):
        raise InputError(
            f"shuffled prompts: metric '{metric}' does not depend on the prompt; compare alignment of a run"
        )
    chance_level = chance(source)
    if chance_level is None:
        raise InputError(
            f"shuffled prompts: {source.folder} keeps nothing of what the classifier saw; run the experiment again, "
            "which scores it anew"
        )
    return chance_level


def _note(pairs: Pairs, by_name: Mapping[str, Difference], tested: int, fairness: list[str]) -> str:
    differences = list(by_name.values())
    if not differences and fairness:
        return " ".join([*fairness, "No setting is left to compare."])
    if not differences:
        return f"'{pairs.baseline}' is the only setting: there is nothing to compare it with."
    direction = f"{pairs.better} is better" if pairs.better else "no direction is better by itself"
    unit = f"{METRICS[pairs.metric].unit}; " if pairs.metric in METRICS else ""
    sentences = [
        f"{pairs.metric} ({unit}{direction}): each setting less '{pairs.baseline}', paired by prompt and seed; "
        f"a setting has {_span([d.n for d in differences], 'pair')} of "
        f"{_span([d.n_prompts for d in differences], 'prompt')}.",
        *fairness,
        _dropped(differences),
        *_resampling(by_name, tested, pairs.scores.crossed),
    ]
    if tested:
        sentences += [
            "Detectable: the true difference that as many pairs would find in 80 of 100 experiments at p < 0.05, "
            "before the correction; smaller ones may be there unseen."
        ]
    if any(d.n > 1 and d.low is None for d in differences):
        sentences += ["A row whose differences are all alike shows no interval: its spread is unknown, not zero."]
    if tested > 1:
        sentences += [
            f"p (Holm) is corrected for the family of these {tested} comparisons, not for other metrics, baselines "
            "or runs.",
            "The best of many settings, chosen and evaluated on the same images, looks better than it is (the winner's "
            "curse): choose on one half of the prompts and report the other half (cfglab compare --choose prompts).",
        ]
    return " ".join(sentence for sentence in sentences if sentence)


def _dropped(differences: list[Difference]) -> str:
    most = max(d.dropped for d in differences)
    if most == 0:
        return ""
    return f"Up to {most} pairs a setting were dropped, because one side failed or is missing."


def _resampling(differences: Mapping[str, Difference], tested: int, crossed: bool) -> list[str]:
    sentences = list[str]()
    for unit, say in (("prompts and seeds", _two_way), ("prompts", _one_way), ("seeds", _one_prompt)):
        if some := [d for d in differences.values() if d.resampled == unit]:
            sentences.append(say(some))
    if not sentences:
        return ["With one pair there is no interval and no p: one image says nothing about the next."]
    if crossed and any(d.n_prompts > 1 and d.n_seeds == 1 for d in differences.values()):
        sentences.append(
            "For this one starting noise only: all prompts share the noise of the single seed, and nothing is said "
            "about other noises."
        )
    several = [d for d in differences.values() if d.n_prompts > 1]
    unit = "prompts" if several else "seeds"
    fewest = min(d.n_prompts if several else d.n for d in several or differences.values() if d.resampled)
    if smallest_p(fewest) * tested > 0.05:
        sentences.append(
            f"With {fewest} {unit} p cannot fall below {smallest_p(fewest):.2g}, too large for {tested} "
            f"{'test' if tested == 1 else 'tests'} at 0.05 after the correction: more {unit} are needed to call any "
            "difference real."
        )
    if any(d.variance for d in differences.values()):
        sentences.append(
            "Prompts/seeds/rest: shares of the variance of the difference; more of the largest narrows the interval."
        )
    return [*sentences, *_parting(differences)]


def _two_way(of: list[Difference]) -> str:
    tested = [d for d in of if d.degrees is not None]  # equal differences have no spread: no t test
    if not tested:
        return "No interval: no setting's difference varies between its pairs."
    degrees = _span([round(d.degrees) for d in tested if d.degrees is not None], "degree")
    return (
        "Intervals (95 %) take prompts and starting noises as random samples, for all prompts share the noises of the "
        f"seeds: effectively {_effective(tested)}; two-way variance components, Student's t with {degrees} of freedom. "
        f"The pairs say as much as {_range([d.independent for d in tested])} independent ones. p is the larger of that "
        "t test's and of sign flips of whole prompts."
    )


def _one_way(of: list[Difference]) -> str:
    return (
        f"Intervals (95 %) take prompts, not images, as a random sample (Student's t): effectively {_effective(of)}; "
        "p flips the sign of whole prompts."
    )


def _one_prompt(of: list[Difference]) -> str:  # noqa: ARG001
    return "For this prompt only: seeds are taken as a random sample, and nothing is said about other prompts."


def _effective(of: list[Difference]) -> str:
    noises = _range([d.effective_seeds for d in of])
    return f"{_range([d.effective_prompts for d in of])} prompts and {noises} {'noise' if noises == '1' else 'noises'}"


def _range(values: list[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    low, high = (f"{value:.3g}" for value in (min(numbers, default=0.0), max(numbers, default=0.0)))
    return low if low == high else f"{low} to {high}"


def _parting(differences: Mapping[str, Difference], most: int = 3) -> list[str]:
    """Where so few prompts move that the normal approximation of the interval and the exact p disagree."""
    parting = {
        name: d
        for name, d in differences.items()
        if d.parts and smallest_p(d.n_prompts if d.n_prompts > 1 else d.n) < 0.05  # else that is what the note says
    }
    sentences = [
        f"'{name}': {d.moving} of its {d.n} pairs differ, in {_span([d.moving_prompts or 0], 'prompt')}; interval and "
        f"p ({d.p:.2g}) disagree about 0."
        for name, d in list(parting.items())[:most]
    ]
    if sentences:
        more = f" So do {len(parting) - most} more." if len(parting) > most else ""
        sentences[-1] += f"{more} The interval supposes a bell shape, p does not: trust p where few prompts move."
    return sentences


def _span(counts: list[int], noun: str) -> str:
    low, high = min(counts), max(counts)
    return f"{low} {noun}{'' if high == 1 else 's'}" if low == high else f"{low} to {high} {noun}s"
