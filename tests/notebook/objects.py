"""Every object that draws itself, made without a model, with names and texts that try to leave their place."""

from pathlib import Path
from typing import Any

from cfglab import Guidance, Run, curves, parse
from cfglab.denoising.trace import StepRecord, Trace
from cfglab.experiments.analysis.comparison import Comparison, ComparisonRow
from cfglab.experiments.analysis.paired import Difference
from cfglab.experiments.spec.experiment import Experiment
from cfglab.metrics.estimate import Estimate
from cfglab.step import steps
from tests.report.runs import make, noise

EVIL = """<script>alert(1)</script></svg><img src=x onerror=alert(2)>"'"""
YAML = """
name: NAME
title: "T <script>alert(1)</script>"
question: "Q <script>alert(1)</script>"
prompts: ["a cat <script>alert(1)</script>"]
seeds: 0..3
steps: 20
baseline: {name: "constant <script>alert(1)</script>", guidance: 3}
groups:
  - {name: "cosine <script>alert(1)</script>", guidance: "cosine(max={w}, k={k})", axes: {w: [3, 7.5], k: [0.3, 1, 3]}}
"""


class Numbers:
    """In place of a tensor: the one method that a record calls of a scale or of norms."""

    def __init__(self, values: Any) -> None:
        self.values = values

    @property
    def T(self) -> "Numbers":
        return Numbers([list(column) for column in zip(*self.values, strict=True)])

    def tolist(self) -> Any:
        return self.values


def trace(images: int = 2, count: int = 4) -> Trace:
    """w falls from 7 to 4; uncond and cond have length 5 and stand apart by 6 at the first step: a cosine of 0.28."""
    records = []
    for step in steps(count, [10.0, 5.0, 2.0, 1.0, 0.0]):
        group = tuple(range(images))
        lengths = Numbers([[5.0] * images, [5.0] * images, [6.0 - step.index] * images])
        records.append(StepRecord(0, step, ((group, 7.0 - step.index),), 2 * images, 0, ((group, lengths),)))
    return Trace(records)


def difference(value: float, low: float, high: float, p: float) -> Difference:
    return Difference(n_prompts=8, n=32, difference=value, low=low, high=high, p=p, p_holm=p, smallest_detectable=0.1)


def comparison() -> Comparison:
    rows = [
        ComparisonRow.of("better", 0.75, difference(0.25, 0.125, 0.375, 0.001), p_holm=0.001),
        ComparisonRow.of(EVIL, 0.25, difference(-0.25, -0.5, 0.0, 0.2), p_holm=0.2),
    ]
    mean = Estimate(value=0.5, low=0.4, high=0.6, n=32)
    return Comparison(
        metric="alignment", baseline=EVIL, better="higher", baseline_mean=mean, rows=tuple(rows), note=f"Note {EVIL}"
    )


def experiment() -> Experiment:
    return Experiment.from_yaml(YAML)


def run(folder: Path) -> Run:
    return Run(make(folder / "run <script>alert(1)<", experiment(), side=16, picture=noise))


def objects(folder: Path) -> dict[str, Any]:
    """Name -> object; the run lies in a folder with an evil name."""
    return {
        "schedule": parse("cosine(max=7.5, min=1, k=0.3)"),
        "schedule that reads sigma": parse("constant(7.5).inside(sigma=(0.5, 6))"),
        "curves": curves([7.5, "linear(max=8, min=4)", [3, 4, 5]]),
        "guidance": Guidance("cosine(max=7.5, min=1) | rescale(strength=0.5) | pag()"),
        "trace": trace(),
        "comparison": comparison(),
        "experiment": experiment(),
        "run": run(folder),
    }
