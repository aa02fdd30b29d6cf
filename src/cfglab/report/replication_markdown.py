"""A plan that was run, as a page in Markdown: what was expected, what the images say, and how it was run."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from cfglab.experiments.analysis.paired import Difference
from cfglab.experiments.replication.replicate import Finding, Replication, Verdict
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import is_mixture
from cfglab.experiments.spec.prompts import write_seeds
from cfglab.experiments.storage.files import write_whole
from cfglab.metrics.registry import METRICS
from cfglab.report.formatting import gap, gap_span, p_value, shown
from cfglab.report.markdown import code, text
from cfglab.schedules.fields import counted

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
    """Return the page.

    Args:
        done: the replication.

    Returns:
        Markdown that ends with a line feed.
    """
    unit, experiment = METRICS[done.metric].unit if done.metric in METRICS else "", done.experiment
    differences = [finding.difference for finding in done.findings if finding.difference]
    detectable = sorted(d.smallest_detectable for d in differences if d.smallest_detectable is not None)
    sampler = experiment.sampler if is_mixture(done.model) else f"{experiment.sampler}, {experiment.dtype}"
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
        f"names another one. {_pairs(differences, experiment)} {_correction(done.findings)} The p value of an equality "
        "is that of two one-sided tests against its margin; it is contradicted where its 95 % interval, which is not "
        "corrected, lies outside of the margin.",
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
        f"{counted(experiment.steps, 'step')} with {sampler}, seeds "
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


def _pairs(differences: Sequence[Difference], experiment: Experiment) -> str:
    """How many pairs there are, and what their intervals hold for: as the note of `compare` says it."""
    pairs, dropped = (max((getattr(d, name) for d in differences), default=0) for name in ("n", "dropped"))
    sampled = {d.resampled for d in differences}
    sentences = [
        f"Differences are paired by prompt and seed, at most {counted(pairs, 'pair')} of "
        f"{counted(len(experiment.prompts), 'prompt')}."
    ]
    if sampled & {"prompts and seeds", "prompts"}:
        one_noise = experiment.noise == "crossed" and len(experiment.seeds) == 1
        noises = "prompts" if one_noise else "prompts and other noises"
        sentences[0] = f"{sentences[0][:-1]}; intervals hold for other {noises} of this model."
        if one_noise:
            sentences.append(
                "For this one starting noise only: all prompts share the noise of the single seed, and nothing is said "
                "about other noises."
            )
    if "seeds" in sampled:
        sentences.append(
            "For this prompt only: seeds are taken as a random sample, and nothing is said about other prompts."
        )
    if None in sampled:
        sentences.append("With one pair there is no interval and no p: one image says nothing about the next.")
    if dropped:
        sentences.append(f"A line lacks up to {counted(dropped, 'pair')}, because one side failed.")
    return " ".join(sentences)


def _correction(findings: Sequence[Finding]) -> str:
    """The family of Holm's correction, and how many of it have no p."""
    missing = sum(finding.p is None for finding in findings)
    note = f", of which {missing} without a p {'counts' if missing == 1 else 'count'} as p = 1" if missing else ""
    if len(findings) == 1:
        return "One hypothesis needs no correction."
    return f"Holm's correction is over all {len(findings)} hypotheses{note}."


def _counted(findings: tuple[Finding, ...]) -> str:
    counts = Counter(finding.verdict for finding in findings)
    parts = [f"{counts[name]} {name}" for name in get_args(Verdict) if counts[name]]
    return f"Of {len(findings)} {'hypothesis' if len(findings) == 1 else 'hypotheses'}: {', '.join(parts)}."
