"""Means, differences, and the choice judged on other images: intervals are kept within the scale of the metric."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cfglab.errors import InputError
from cfglab.experiments.analysis.compare import best_on_split, compare
from cfglab.experiments.analysis.paired import means
from cfglab.metrics import Metric
from cfglab.report.summary.columns import Columns


@dataclass(frozen=True, slots=True)
class Number:
    """A mean with its 95 % interval, both ends None where there is none, and the count of images it rests on."""

    value: float
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(cls, estimate: Any) -> "Number":
        return cls(estimate.value, estimate.low, estimate.high, estimate.n)


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting less the baseline, paired by prompt and seed: mean, 95 % interval, p, p (Holm), what n could see, and
    the shares of its variance that prompts, seeds and the rest have."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    smallest_detectable: float | None
    n: int
    n_prompts: int
    n_seeds: int | None = None
    variance: Mapping[str, float | None] | None = None

    @property
    def clusters(self) -> int:
        """What intervals and p count as independent: prompts, or the images of a single prompt."""
        return self.n_prompts if self.n_prompts > 1 else self.n

    @property
    def found(self) -> bool:
        """Whether a difference was found: p after Holm below 0.05."""
        return self.p_holm is not None and self.p_holm < 0.05


@dataclass(frozen=True, slots=True)
class Choice:
    """The best setting on one half of the prompts (or seeds) and its difference on the held-out half; `shares` is what
    both halves have in common, see `SplitChoice`."""

    setting: str
    split: str
    judged: Difference
    shares: str = "nothing"


def means_of(columns: Columns, metric: Metric) -> list[Number | None]:
    """The mean of a metric over each setting's finished images; None where it was not measured."""
    return [
        Number(it.value, within(it.low, metric, 0), within(it.high, metric, 0), it.n) if it else None
        for it in means(columns.scores[metric.name], crossed=columns.crossed)
    ]


def compared(columns: Columns, metric: Metric, baseline: str) -> tuple[dict[str, Difference], str]:
    """(difference by setting, what the comparison rests on); empty before the baseline has an image to compare."""
    try:
        comparison = compare(columns.of(metric.name), metric.name, baseline)
    except InputError:
        return {}, ""
    differences = {
        row.setting: _difference(row, row.difference, row.p_holm, metric)
        for row in comparison.rows
        if row.difference is not None
    }
    return differences, comparison.note


def held_back(columns: Columns, main: Metric) -> Choice | None:
    """None with fewer than three settings, where nothing is chosen, or with too few images to halve and judge."""
    experiment = columns.experiment
    if len(experiment.settings) < 3:
        return None
    split: Literal["prompts", "seeds"] = "prompts" if len(experiment.prompts) > 1 else "seeds"
    try:
        choice = best_on_split(columns.of(main.name), main.name, experiment.baseline.name, split=split)
    except InputError:
        return None
    judged = choice.reported_on
    if judged.mean is None or judged.low is None:
        return None
    return Choice(choice.setting, split, _difference(judged, judged.mean, judged.p, main), choice.shares)


def _difference(row: Any, mean: float, p_holm: float | None, metric: Metric) -> Difference:
    return Difference(
        mean=mean,
        low=within(row.low, metric, -1),
        high=within(row.high, metric, -1),
        p=row.p,
        p_holm=p_holm,
        smallest_detectable=row.smallest_detectable,
        n=row.n,
        n_prompts=row.n_prompts,
        n_seeds=row.n_seeds,
        variance=row.variance.model_dump() if row.variance else None,
    )


def within(end: float | None, metric: Metric, low: float) -> float | None:
    """An interval's end, kept inside what a share (or a difference of shares) can be: that costs it no coverage."""
    return end if end is None or metric.unit != "share" else min(1.0, max(low, end))
