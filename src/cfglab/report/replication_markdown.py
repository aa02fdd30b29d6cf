"""A plan that was run, as a page in Markdown: what was expected, what the images say, and how it was run."""

from collections import Counter
from pathlib import Path
from typing import get_args

from cfglab.experiments.replication.replicate import Finding, Replication, Verdict
from cfglab.experiments.spec.prompts import write_seeds
from cfglab.experiments.storage.files import write_whole
from cfglab.metrics.registry import METRICS
from cfglab.report.formatting import gap, gap_span, p_value, shown
from cfglab.report.markdown import code, text

PAGE = "findings.md"
COLUMNS = (
    "",
    "hypothesis, written before the images",
    "setting",
    "mean",
    "difference (95 % interval)",
    "p",
    "p (Holm)",
    "result",
)


def write(done: Replication, folder: Path) -> Path:
    """Write `findings.md` into the folder of a replication.

    Args:
        done: the replication.
        folder: the folder.

    Returns:
        The path of the page.

    Raises:
        MachineError: the file cannot be written.
    """
    path = folder / PAGE
    write_whole(path, markdown(done).encode())
    return path


def markdown(done: Replication) -> str:
    """The page.

    Args:
        done: the replication.

    Returns:
        Markdown that ends with a line feed.
    """
    unit, experiment = METRICS[done.metric].unit if done.metric in METRICS else "", done.experiment
    pairs = max((finding.difference.n for finding in done.findings if finding.difference), default=0)
    detectable = sorted(
        finding.difference.smallest_detectable
        for finding in done.findings
        if finding.difference and finding.difference.smallest_detectable is not None
    )
    lines = [
        f"# {text(done.title or done.plan)}",
        "",
        f"The plan {code(done.plan)} on the model {code(done.model)}. {_counted(done.findings)}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *(_line(finding, unit) for finding in done.findings),
        "",
        f"Metric: {text(done.metric)}. The baseline is the best constant scale, "
        f"{code(str(experiment.baseline.guidance))}, with a mean of {shown(done.baseline_mean, unit)}, unless a line "
        "names another one. Differences are paired "
        f"by prompt and seed, at most {pairs:,} pairs of {len(experiment.prompts):,} prompts; intervals hold for other "
        f"prompts and other noises of this model. Holm's correction is over all {len(done.findings)} hypotheses. The "
        "p value of an equality is that of two one-sided tests against its margin.",
        "",
    ]
    if detectable:
        middle = gap(detectable[len(detectable) // 2], unit).lstrip("+")
        lines += [
            f"With these counts a true difference of {middle} (the median over the lines) is found in 80 "
            "of 100 such experiments, before the correction; smaller ones can exist unseen.",
            "",
        ]
    lines += [
        "## What was chosen",
        "On prompts and seeds of their own, of each group the setting with the best mean:",
        "",
        "| group | chosen |",
        "|---|---|",
        *(f"| {text(group)} | {code(guidance)} |" for group, guidance in done.chosen.items()),
        "",
        "## How it was run",
        f"{experiment.steps} steps with {experiment.sampler}, {experiment.dtype}, seeds "
        f"{write_seeds(experiment.seeds)}, {experiment.noise} noises; weights {(done.weights or 'unknown')[:12]}. The "
        "folders `choose` and `report` beside this page are run folders, which `cfglab report` and `cfglab compare` "
        "read.",
        "",
        "## What this does not say",
        "One model, one metric. A result that holds on one model only is a result about that model; run the same plan "
        "on another one before you rely on it.",
        "",
    ]
    return "\n".join(lines)


def _line(finding: Finding, unit: str) -> str:
    hypothesis, difference = finding.hypothesis, finding.difference
    setting = hypothesis.setting + (f", against {hypothesis.baseline}" if hypothesis.baseline else "")
    numbers = ["–", "–"]
    if difference is not None:
        interval = gap_span(difference.low, difference.high, unit)
        numbers = [shown(finding.mean, unit), gap(difference.difference, unit) + (f" ({interval})" if interval else "")]
    cells = [
        text(hypothesis.id),
        text(hypothesis.statement),
        text(setting),
        *numbers,
        p_value(finding.p),
        p_value(finding.p_holm),
        f"**{finding.verdict}**" if finding.verdict in ("supported", "contradicted") else finding.verdict,
    ]
    return f"| {' | '.join(cells)} |"


def _counted(findings: tuple[Finding, ...]) -> str:
    counts = Counter(finding.verdict for finding in findings)
    parts = [f"{counts[name]} {name}" for name in get_args(Verdict) if counts[name]]
    return f"Of {len(findings)} hypotheses: {', '.join(parts)}."
