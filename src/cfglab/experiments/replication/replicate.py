"""Run a plan on a model: choose, report, test the hypotheses."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from scipy.special import stdtr, stdtrit

from cfglab.errors import InputError
from cfglab.experiments.analysis.compare import compare
from cfglab.experiments.analysis.comparison import ComparisonRow
from cfglab.experiments.analysis.paired import Difference, holm
from cfglab.experiments.execution.run import Run, run
from cfglab.experiments.replication.plan import Hypothesis, Plan
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import is_mixture
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.files import write_whole
from cfglab.experiments.storage.store import DATABASE, Store
from cfglab.experiments.tuning.objective import refuse_unsettled
from cfglab.experiments.tuning.successive_halving import means, method, survivors, without_failures
from cfglab.file_input import read_bytes
from cfglab.limits import SEARCH_BYTES
from cfglab.metrics.registry import METRICS, SAMPLES
from cfglab.scenes.vocabulary import read_caption
from cfglab.schedules.fields import nearest, shown

RESULT = "findings.json"
CHOOSE, REPORT = "choose", "report"
Verdict = Literal["supported", "contradicted", "not shown", "not run"]
RunExperiment = Callable[[Experiment, Path], Run]


class Finding(BaseModel):
    """A hypothesis with what the images say.

    Attributes:
        hypothesis: the hypothesis.
        mean: the mean of its setting.
        difference: the setting minus its baseline, paired by prompt and seed; None if it was not run.
        p: two-sided; for "equal" the larger p of the two one-sided t tests against the margin.
        p_holm: p after Holm's correction over all hypotheses of the plan, in which a missing p counts as 1; None where
            p is missing.
        verdict: "supported" or "contradicted" if p_holm is below 0.05, else "not shown"; an equality is "contradicted"
            where its 95 % interval, which is not corrected, lies outside of the margin. "not run" where the setting is
            not possible with the chosen scale, such as a mean that a shape cannot have, or was not chosen at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hypothesis: Hypothesis
    mean: float | None
    difference: Difference | None
    p: float | None
    p_holm: float | None
    verdict: Verdict


class Replication(BaseModel):
    """A plan that was run on a model.

    Attributes:
        plan: the name of the plan.
        title: its title.
        model: the model.
        weights: the hash of the weights.
        metric: the metric.
        experiment: the experiment that reports.
        chosen: group -> the guidance that was chosen, as text.
        baseline_mean: the mean of the best constant scale.
        findings: one for each hypothesis, in the order of the plan.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: str
    title: str
    model: str
    weights: str | None
    metric: str
    experiment: Experiment
    chosen: dict[str, str]
    baseline_mean: float | None
    findings: tuple[Finding, ...]


def replicate(
    plan: Plan,
    folder: Path,
    *,
    metric: str | None = None,
    fields: Mapping[str, Any] | None = None,
    run_experiment: RunExperiment = run,
    measure: Callable[[Path], object] = lambda _: None,
) -> Replication:
    """Run a plan. The same call continues a run that was stopped.

    Args:
        plan: the plan.
        folder: the folder; `choose` and `report` in it are run folders.
        metric: a metric of single images that replaces the plan's.
        fields: fields of an experiment that replace the plan's, such as `model`.
        run_experiment: runs an experiment in a folder.
        measure: called with the folder of each run, to measure a metric that needs a model of its own.

    Returns:
        The Replication; it is also written to `findings.json`.

    Raises:
        InputError: the model cannot run the plan, its images do not have the metric, or the folder holds something
            else, such as findings by another metric.
        MachineError: a folder cannot be written, or the model failed in an image that another attempt may draw.
    """
    metric = metric or plan.metric
    fields = dict(fields or {})
    choosing, reporting = plan.experiments(**fields)
    check_metric(metric, [choosing, reporting])
    check_folder(folder, plan, metric)
    run_experiment(choosing, folder / CHOOSE)
    measure(folder / CHOOSE)
    with Store.open(folder / CHOOSE) as store:
        refuse_unsettled(store)
        by_name = means(without_failures(store.results()), metric)
    better = METRICS[metric].better or "higher"
    chosen = {method(setting): setting for setting in survivors(choosing.settings, by_name, 1, better)}
    reporting = plan.reporting(chosen, **fields)
    run_experiment(reporting, folder / REPORT)
    measure(folder / REPORT)
    with Store.open(folder / REPORT) as store:
        refuse_unsettled(store)
        replication = Replication(
            plan=plan.name,
            title=plan.title,
            model=reporting.model,
            weights=store.meta("weights"),
            metric=metric,
            experiment=reporting,
            chosen=_texts(chosen),
            baseline_mean=means(store.results(), metric).get(reporting.baseline.name),
            findings=findings_of(plan.hypotheses, store, metric),
        )
    write_whole(folder / RESULT, replication.model_dump_json(indent=1).encode())
    return replication


def check_folder(folder: Path, plan: Plan, metric: str) -> None:
    """Check that a plan overwrites nothing: each look at the images by another rule is a further chance of a finding.

    Args:
        folder: the folder of the replication; it does not need to exist.
        plan: the plan.
        metric: the metric.

    Raises:
        InputError: the folder holds a run, files that are not of a replication, or findings by another metric or of
            other hypotheses.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: findings are a folder, but this is a file; choose another --out.")
    if (folder / DATABASE).exists():
        raise InputError(f"{folder}: holds a run, and a plan makes runs in folders of its own; choose another --out.")
    path = folder / RESULT
    if not path.is_file():
        begun = not folder.exists() or (folder / CHOOSE / DATABASE).exists()
        if not begun and any(entry.name not in (CHOOSE, REPORT) and entry.name[0] != "." for entry in folder.iterdir()):
            raise InputError(f"{folder}: holds other files and no plan; choose another --out.")
        return
    try:
        stored = Replication.model_validate_json(read_bytes(path, SEARCH_BYTES))
    except (OSError, ValueError):
        raise InputError(f"{path}: cannot be read, another version wrote it; choose another --out.") from None
    if stored.metric != metric:
        raise InputError(
            f"{folder}: holds findings by {stored.metric}, not {shown(metric)}; give --metric {stored.metric}, or "
            "another --out."
        )
    if tuple(finding.hypothesis for finding in stored.findings) != plan.hypotheses:
        raise InputError(
            f"{folder}: holds findings of other hypotheses, and hypotheses are written before the images; choose "
            "another --out and other seeds."
        )


def findings_of(hypotheses: Sequence[Hypothesis], store: Store, metric: str) -> tuple[Finding, ...]:
    """Test hypotheses on the images of a run.

    Args:
        hypotheses: the hypotheses; all of them are one family for Holm's correction.
        store: the run.
        metric: a metric of single images.

    Returns:
        One Finding for each hypothesis.

    Raises:
        InputError: the run does not have the metric or a setting.
    """
    names = {hypothesis.baseline or store.experiment.baseline.name for hypothesis in hypotheses}
    names &= {setting.name for setting in store.experiment.settings}
    rows = {(baseline, row.setting): row for baseline in sorted(names) for row in compare(store, metric, baseline).rows}
    sign = METRICS[metric].sign
    tested = [
        (hypothesis, rows.get((hypothesis.baseline or store.experiment.baseline.name, hypothesis.setting)))
        for hypothesis in hypotheses
    ]
    p_values = [_p(hypothesis, row) for hypothesis, row in tested]
    corrected = holm([1.0 if p is None else p for p in p_values])  # a missing p stays in the family
    findings = []
    for (hypothesis, row), p, with_all in zip(tested, p_values, corrected, strict=True):
        p_holm = None if p is None else with_all
        findings.append(
            Finding(
                hypothesis=hypothesis,
                mean=row.mean if row else None,
                difference=_difference(row) if row else None,
                p=p,
                p_holm=p_holm,
                verdict=_verdict(hypothesis, row, p_holm, sign) if row else "not run",
            )
        )
    return tuple(findings)


def _p(hypothesis: Hypothesis, row: ComparisonRow | None) -> float | None:
    if row is None:
        return None
    return row.p if hypothesis.margin is None else equivalence_p(row, hypothesis.margin)


def equivalence_p(difference: Difference, margin: float) -> float | None:
    """Return p of the two one-sided t tests: the null hypothesis is a difference outside of ±margin.

    Args:
        difference: the difference with its 95 % interval.
        margin: above 0, in the unit of the metric.

    Returns:
        The larger of the two p values; None without an interval.

    Reference:
        Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987.

    Examples:
        >>> from cfglab.experiments.analysis.paired import paired
        >>> near = paired({("a", s): s % 2 for s in range(64)}, {("a", s): (s + s // 2) % 2 for s in range(64)})
        >>> equivalence_p(near, 0.5) < 0.05 < equivalence_p(near, 0.05)
        True
    """
    if difference.low is None or difference.high is None or difference.difference is None or not difference.degrees:
        return None
    error = (difference.high - difference.low) / 2 / float(stdtrit(difference.degrees, 0.975))
    nearest_bound = margin - abs(difference.difference)
    return float(stdtr(difference.degrees, float(-nearest_bound / error))) if error else None


def _verdict(hypothesis: Hypothesis, row: ComparisonRow, p_holm: float | None, sign: int) -> Verdict:
    if hypothesis.margin is not None:
        outside = row.low is not None and row.high is not None and max(row.low, -row.high) > hypothesis.margin
        if outside:
            return "contradicted"
        return "supported" if p_holm is not None and p_holm < 0.05 else "not shown"
    if p_holm is None or p_holm >= 0.05 or row.difference is None:
        return "not shown"
    higher = sign * row.difference > 0
    expected = {"better": higher, "worse": not higher, "different": True}[hypothesis.expected]
    return "supported" if expected else "contradicted"


def _difference(row: ComparisonRow) -> Difference:
    return Difference(**{name: getattr(row, name) for name in Difference.model_fields})


def _texts(chosen: Mapping[str, Setting]) -> dict[str, str]:
    return {group: str(setting.guidance) for group, setting in chosen.items()}


def check_metric(metric: str, experiments: Sequence[Experiment]) -> None:
    """Check that a plan can be tested with a metric, before an image is drawn.

    Args:
        metric: the name of the metric.
        experiments: the experiments of the plan.

    Raises:
        InputError: the metric is unknown, is not one of single images, or has no better direction; or it is read by
            the classifier of scenes, and no prompt of an experiment is a scene.
    """
    usable = [name for name, known in METRICS.items() if known.of == "image" and known.better]
    if metric not in METRICS:
        raise InputError(f"metric {shown(metric)} is unknown;{nearest(metric, usable) or ' see cfglab list metrics.'}")
    if METRICS[metric].of != "image":
        raise InputError(
            f"metric {metric!r}: a plan compares single images, paired; choose one of {', '.join(usable)}."
        )
    if METRICS[metric].better is None:
        raise InputError(
            f"metric {metric!r} has no better direction, so no setting is the best one; choose one of "
            f"{', '.join(usable)}."
        )
    if (metric in SAMPLES) != is_mixture(experiments[0].model):
        other = "samples of a mixture" if metric in SAMPLES else "images"
        raise InputError(
            f"metric {metric!r} is of {other}, and the model is {experiments[0].model}; choose another metric of "
            "cfglab list metrics."
        )
    for experiment in experiments if metric.startswith("alignment") else ():
        if not any(map(read_caption, experiment.prompts)):
            raise InputError(
                f"metric {metric!r}: a classifier compares images with scenes, and no prompt of {experiment.name} is "
                f"one, as {shown(experiment.prompts[0])}; choose pick_score, or another metric of cfglab list metrics."
            )
