"""What a run shows, as values: settings with curves, doses, means, intervals, differences. No pixels, no torch."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfglab.errors import InputError
from cfglab.experiments.analysis.paired import Difference
from cfglab.experiments.analysis.reference_sigmas import standard_sigmas
from cfglab.experiments.analysis.split_choice import SplitChoice
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.store import Store
from cfglab.experiments.storage.traces import stored_levels
from cfglab.metrics import METRICS, Metric
from cfglab.metrics.estimate import Estimate
from cfglab.report.summary.axis import Axis, axis_of
from cfglab.report.summary.columns import Columns
from cfglab.report.summary.estimates import compared, held_back, means_of
from cfglab.step import steps

REAL = "real"
"""The name under which a store keeps set metrics of real images against real ones."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting.

    Attributes:
        setting: the setting.
        baseline: whether it is the baseline.
        values: w at each step, None where guidance is off; empty where w depends on the images.
        dose: the mean of w over the steps.
        effective: the mean of w, weighted by how much each noise level moves the result.
        done, failed, missing: counts of images.
        means: metric -> its mean over images.
        differences: metric -> the difference from the baseline.
        sets: metric of sets -> its value.
    """

    setting: Setting
    baseline: bool
    values: tuple[float | None, ...]
    dose: float | None
    effective: float | None
    done: int
    failed: int
    missing: int
    means: Mapping[str, Estimate]
    differences: Mapping[str, Difference]
    sets: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Group:
    """The settings of one group, in the experiment's order, and the axis they sweep where there is one."""

    name: str
    rows: tuple[SettingRow, ...]
    axis: Axis | None


@dataclass(frozen=True, slots=True)
class Tables:
    """All that a report says in numbers.

    `floors` are real images against real ones, `notes` say what the comparison of each metric rests on, `held_back`
    is the best setting chosen on one half of the prompts (of the seeds, with one prompt) and evaluated on the other.
    `own_levels`: effective doses are at the noise levels of the run's own sampler, not at those of Stable Diffusion.
    """

    experiment: Experiment
    rows: tuple[SettingRow, ...]
    metrics: tuple[Metric, ...]
    sets: tuple[Metric, ...]
    floors: Mapping[str, Estimate]
    main: Metric | None
    notes: Mapping[str, str]
    held_back: SplitChoice | None
    columns: Columns
    own_levels: bool

    @property
    def baseline(self) -> SettingRow:
        return next(row for row in self.rows if row.baseline)

    @property
    def best(self) -> SettingRow | None:
        """The setting, baseline aside, with the best mean of the main metric; the first of equals."""
        main = self.main
        compared = [row for row in self.rows if not row.baseline and main and main.name in row.means]
        if not main or not compared:
            return None
        return max(compared, key=lambda row: main.sign * row.means[main.name].value)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of the experiment, the baseline's own left out."""
        by_group: dict[str, list[SettingRow]] = defaultdict(list)
        for row in self.rows:
            if not row.baseline:
                by_group[row.setting.group].append(row)
        return tuple(
            Group(name, tuple(rows), axis_of([row.setting for row in rows])) for name, rows in by_group.items()
        )

    @property
    def looks(self) -> int:
        """How many differences in the main metric were tested: what Holm's correction is over."""
        main = self.main
        differences = [row.differences.get(main.name) for row in self.rows] if main else []
        return sum(difference is not None and difference.p_holm is not None for difference in differences)

    @property
    def samples(self) -> str:
        """What the intervals take as random samples, in a sentence."""
        prompts, seeds = len(self.experiment.prompts), len(self.experiment.seeds)
        if prompts == 1:
            return "With one prompt the intervals take seeds as a random sample and speak of this prompt only."
        if self.experiment.noise == "nested":
            return "Intervals take prompts as a random sample; every prompt has starting noises of its own."
        if seeds == 1:
            return (
                "Intervals take prompts as a random sample and speak of the one starting noise that all prompts share."
            )
        return (
            f"Intervals take the {prompts} prompts and the {seeds} starting noises, which all prompts share, as random "
            "samples."
        )

    @property
    def images_per_setting(self) -> int:
        """The largest count of images that a setting has."""
        return max((row.done for row in self.rows), default=0)


def build(store: Store) -> Tables:
    """Read a run and compute every number of its report. Raises InputError where the folder cannot be read."""
    columns = Columns.read(store)
    experiment = columns.experiment
    metrics = _metrics(columns.scores)
    set_metrics = store.set_metrics()
    baseline = experiment.baseline.name
    comparisons = {metric.name: compared(columns, metric, baseline) for metric in metrics}
    means = {metric.name: means_of(columns, metric) for metric in metrics}
    main = main_metric(metrics)
    images_per_setting = len(experiment.prompts) * len(experiment.seeds)
    done, failed = (counts.sum(axis=(1, 2)).tolist() for counts in (columns.done, columns.failed))
    levels = stored_levels(store, experiment.steps)
    rows = []
    for index, setting in enumerate(experiment.settings):
        values, dose, effective = curve(setting, experiment.steps, levels)
        rows.append(
            SettingRow(
                setting=setting,
                baseline=setting.name == baseline,
                values=values,
                dose=dose,
                effective=effective,
                done=done[index],
                failed=failed[index],
                missing=images_per_setting - done[index] - failed[index],
                means={name: mean for name, column in means.items() if (mean := column[index])},
                differences={
                    name: differences[setting.name]
                    for name, (differences, _) in comparisons.items()
                    if setting.name in differences
                },
                sets={**set_metrics.get(setting.name, {})},
            )
        )
    return Tables(
        experiment=experiment,
        rows=tuple(rows),
        metrics=metrics,
        sets=_metrics(name for table in set_metrics.values() for name in table),
        floors=set_metrics.get(REAL, {}),
        main=main,
        notes={name: note for name, (_, note) in comparisons.items()},
        held_back=held_back(columns, main) if main else None,
        columns=columns,
        own_levels=levels is not None,
    )


def curve(
    setting: Setting, count: int, levels: Sequence[float] | None = None
) -> tuple[tuple[float | None, ...], float | None, float | None]:
    """Return (w at each step with None where guidance is off, dose, effective dose at s = 1).

    Args:
        setting: the setting.
        count: the number of steps.
        levels: the noise levels (sigma, one more than steps); None is those of Stable Diffusion 1.x under LMS.

    Returns:
        Empty values and None where w depends on the image.
    """
    schedule, sigmas = setting.guidance.schedule, levels or standard_sigmas(count)
    try:
        values = tuple(schedule(step) if schedule.is_on(step) else None for step in steps(count, sigmas))
        return values, schedule.dose(count, sigmas), schedule.effective_dose(sigmas)
    except InputError:
        return (), None, None


def comparable(row: SettingRow, reference: SettingRow) -> bool:
    """Return whether two doses have the same meaning: both settings need the same transforms.

    Args:
        row: a setting.
        reference: the setting that it is compared with.
    """
    return row.setting.guidance.transforms == reference.setting.guidance.transforms


def main_metric(metrics: Sequence[Metric]) -> Metric | None:
    """The metric that the report ranks by: alignment where it was measured, else the first with a direction."""
    ranked = [metric for metric in metrics if metric.better and metric.of == "image"]
    return next((metric for metric in ranked if metric.name == "alignment"), ranked[0] if ranked else None)


def _metrics(names: Any) -> tuple[Metric, ...]:
    """The words of the metrics that were measured: in the registry's order, then those it does not know, by name."""
    measured = set(names)
    unknown = [
        Metric(name=name, unit="", better=None, title=name.replace("_", " ").capitalize(), says="")
        for name in sorted(measured - METRICS.keys())
    ]
    return (*(metric for name, metric in METRICS.items() if name in measured), *unknown)
