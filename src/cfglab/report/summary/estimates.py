"""Means, differences, and the choice evaluated on other images: intervals are kept within the scale of the metric."""

from typing import Literal, TypeVar

from cfglab.errors import InputError
from cfglab.experiments.analysis.compare import best_on_split, compare
from cfglab.experiments.analysis.paired import Difference, means
from cfglab.experiments.analysis.split_choice import SplitChoice
from cfglab.metrics import Metric
from cfglab.metrics.estimate import Estimate
from cfglab.report.summary.columns import Columns

Interval = TypeVar("Interval", Estimate, Difference)


def means_of(columns: Columns, metric: Metric) -> list[Estimate | None]:
    """Return the mean of a metric over the finished images of each setting.

    Args:
        columns: every cell of the run.
        metric: the metric.

    Returns:
        One Estimate per setting; None where the metric was not measured.
    """
    estimates = means(columns.scores[metric.name], crossed=columns.crossed)
    return [estimate and clamped(estimate, metric) for estimate in estimates]


def compared(columns: Columns, metric: Metric, baseline: str) -> tuple[dict[str, Difference], str]:
    """Compare every setting with the baseline in one metric.

    Returns:
        The Difference by setting, and the note of the comparison; empty while the baseline has no image to compare.
    """
    try:
        comparison = compare(columns.of(metric.name), metric.name, baseline)
    except InputError:
        return {}, ""
    rows = [row for row in comparison.rows if row.difference is not None]
    return {row.setting: clamped(row, metric) for row in rows}, comparison.note


def held_back(columns: Columns, main: Metric) -> SplitChoice | None:
    """Return the best setting on one half and its difference on the held-out half.

    Returns:
        The choice; None with fewer than three settings, where nothing is chosen, or with too few images to halve.
    """
    experiment = columns.experiment
    if len(experiment.settings) < 3:
        return None
    split: Literal["prompts", "seeds"] = "prompts" if len(experiment.prompts) > 1 else "seeds"
    try:
        choice = best_on_split(columns.of(main.name), main.name, experiment.baseline.name, split=split)
    except InputError:
        return None
    reported = choice.reported_on
    if reported.difference is None or reported.low is None:
        return None
    return choice.model_copy(update={"reported_on": clamped(reported, main)})


def clamped(number: Interval, metric: Metric) -> Interval:
    """Return the number with its interval inside what the metric can be, at no cost in coverage.

    Args:
        number: an Estimate, or a Difference of two values.
        metric: its metric; only shares have bounds: 0 to 1, and -1 to 1 for their differences.
    """
    if metric.unit != "share" or number.low is None or number.high is None:
        return number
    lowest = -1.0 if isinstance(number, Difference) else 0.0
    low, high = (min(1.0, max(lowest, end)) for end in (number.low, number.high))
    return number.model_copy(update={"low": low, "high": high})
