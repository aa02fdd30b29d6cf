"""Every setting of a run against its baseline, paired by prompt and seed, with the correction that many looks need."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from cfglab.experiments.choose import SplitChoice, best_on_split
from cfglab.experiments.pairs import Better, Pairs, rank
from cfglab.experiments.scores import ResultLike
from cfglab.experiments.statistics import Difference, holm, smallest_p
from cfglab.experiments.store import Store
from cfglab.metrics.estimate import Estimate
from cfglab.metrics.registry import METRICS

__all__ = ["Comparison", "ComparisonRow", "SplitChoice", "best_on_split", "compare", "table"]

COLUMNS = ("setting", "n", "mean", "difference", "95 % interval", "p", "p (Holm)", "detectable")


class ComparisonRow(BaseModel):
    """One setting against the baseline over the pairs that both drew; None where there is no pair, or no spread.

    `mean` is the setting's mean over these pairs, `difference` is `mean` less the baseline's over the same pairs;
    `dropped` counts the (prompt, seed) that one side could not give. `p_holm` is p corrected over all rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: str
    n: int
    n_prompts: int
    dropped: int
    mean: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    smallest_detectable: float | None


class Comparison(BaseModel):
    """All settings against one baseline in one metric: rows best first, and in `note` what they do and do not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    baseline: str
    better: Better | None
    baseline_mean: Estimate | None
    rows: tuple[ComparisonRow, ...]
    note: str

    def __str__(self) -> str:
        lines = table(self)
        widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
        text = [
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([*(line.rstrip() for line in text), "", self.note])


def compare(source: Store | Iterable[ResultLike], metric: str, baseline: str) -> Comparison:
    """Each setting less the baseline in one metric of pictures, over pairs with the same prompt and seed.

    Args:
        source: a run's store, of which one metric is read, or its results, one for each (setting, prompt, seed);
            failed ones are dropped with their partners, and counted.
        metric: a name that the results hold, e.g. `alignment`.
        baseline: a setting of the results.

    Raises:
        InputError: a metric that the results do not hold or that is no metric of single pictures, a baseline that is
            no setting of theirs, two results for one (setting, prompt, seed).
    """
    pairs = Pairs.of(source, metric, baseline)
    differences = pairs.differences()
    p_values = {name: difference.p for name, difference in differences.items() if difference.p is not None}
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    rows = [
        ComparisonRow(
            setting=name,
            mean=pairs.mean_over_pairs(name),
            difference=difference.mean,
            p_holm=corrected.get(name),
            **difference.model_dump(exclude={"mean", "resampled"}),
        )
        for name, difference in differences.items()
    ]
    return Comparison(
        metric=metric,
        baseline=baseline,
        better=pairs.better,
        baseline_mean=pairs.baseline_mean(),
        rows=tuple(sorted(rows, key=lambda row: rank(row.difference, pairs.better))),
        note=_note(pairs, list(differences.values()), len(p_values)),
    )


def table(comparison: Comparison) -> list[list[str]]:
    """The comparison as rows of text: the column names, the baseline, then every setting, best first."""
    base = comparison.baseline_mean
    name = f"{comparison.baseline} (baseline)"
    first = [name, str(base.n if base else 0), _plain(base.value if base else None), *[""] * (len(COLUMNS) - 3)]
    rest = [
        [
            row.setting,
            str(row.n),
            _plain(row.mean),
            _signed(row.difference),
            "-" if row.low is None else f"[{_signed(row.low)}, {_signed(row.high)}]",
            _p(row.p),
            _p(row.p_holm),
            _plain(row.smallest_detectable),
        ]
        for row in comparison.rows
    ]
    return [list(COLUMNS), first, *rest]


def _note(pairs: Pairs, differences: list[Difference], tested: int) -> str:
    if not differences:
        return f"'{pairs.baseline}' is the only setting: there is nothing to compare it with."
    direction = f"{pairs.better} is better" if pairs.better else "no direction is better by itself"
    unit = f"{METRICS[pairs.metric].unit}; " if pairs.metric in METRICS else ""
    sentences = [
        f"{pairs.metric} ({unit}{direction}): each setting less '{pairs.baseline}', paired by prompt and seed; "
        f"a setting has {_span([d.n for d in differences], 'pair')} of "
        f"{_span([d.n_prompts for d in differences], 'prompt')}.",
        _dropped(differences),
        *_resampling(differences, tested),
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
            "The best of many settings, chosen and judged on the same pictures, looks better than it is (the winner's "
            "curse): choose on one half of the prompts or seeds and report the other half (best_on_split).",
        ]
    return " ".join(sentence for sentence in sentences if sentence)


def _dropped(differences: list[Difference]) -> str:
    most = max(d.dropped for d in differences)
    if most == 0:
        return ""
    return f"Up to {most} pairs a setting were dropped, because one side failed or is missing."


def _resampling(differences: list[Difference], tested: int) -> list[str]:
    units = {d.resampled for d in differences if d.resampled}
    if not units:
        return ["With one pair there is no interval and no p: one picture says nothing about the next."]
    found = []
    if "prompts" in units:
        found.append("Intervals (95 %) resample prompts, not pictures; p flips the sign of whole prompts.")
        fewest, unit = min(d.n_prompts for d in differences if d.resampled == "prompts"), "prompts"
    if "seeds" in units:
        found.append("For this prompt only: seeds are resampled, and nothing is said about other prompts.")
        fewest, unit = min(d.n for d in differences if d.resampled == "seeds"), "seeds"
    if smallest_p(fewest) * tested > 0.05:
        found.append(
            f"With {fewest} {unit} p cannot fall below {smallest_p(fewest):.2g}, too large for {tested} "
            f"{'test' if tested == 1 else 'tests'} at 0.05 after the correction: more {unit} are needed to call any "
            "difference real."
        )
    return found


def _span(counts: list[int], noun: str) -> str:
    low, high = min(counts), max(counts)
    return f"{low} {noun}{'' if high == 1 else 's'}" if low == high else f"{low} to {high} {noun}s"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3g}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
