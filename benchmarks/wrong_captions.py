"""The hypotheses C1 to C4 of docs/findings/plan.md, from one run on each denoiser.

    python -m training flow --branch w40 --wrong 0.4 --steps 1000                   # and so on, for 0, 10 and 20
    python -m training.export flow-w40 models/w40
    cfglab run benchmarks/wrong_captions.yaml --model models/w40 --dtype bfloat16 --out runs/wrong-40
    python -m benchmarks.wrong_captions 0=runs/wrong-0 10=runs/wrong-10 20=runs/wrong-20 40=runs/wrong-40

A slope is that of a least-squares line through the differences of one (prompt, seed) over the shares of wrong captions;
its interval and its p take prompts as random. The best constant of a share is chosen on the even seeds, and its gain is
measured on the odd ones. Values are points of alignment; a slope is points for each point of wrong captions.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cfglab.errors import InputError
from cfglab.experiments.analysis.paired import Difference, FloatArray, differences, holm
from cfglab.experiments.analysis.scores import Scores
from cfglab.experiments.replication.replicate import equivalence_p
from cfglab.experiments.storage.store import Store

SCALES = (2, 3, 4)
MARGIN = 3.0  # points


class Test(NamedTuple):
    """One hypothesis: its difference with interval, and the p that Holm's method corrects."""

    name: str
    says: str
    difference: Difference
    p: float | None


def points(scores: Scores, setting: str) -> FloatArray:
    """The alignment of one setting in points, (prompts, seeds)."""
    if setting not in scores.settings:
        raise InputError(f"setting {setting!r}: the run has {', '.join(scores.settings)}; run wrong_captions.yaml.")
    return 100 * scores.values[scores.settings.index(setting)]


def mean_over_scales(scores: Scores, shape: str) -> FloatArray:
    """The alignment of a shape of schedule, the mean over the three mean scales, (prompts, seeds)."""
    return np.mean([points(scores, f"{shape} w={w}") for w in SCALES], axis=0)


def gain(scores: Scores) -> FloatArray:
    """The best constant minus no guidance, (prompts, odd seeds); the constant is chosen on the even seeds."""
    even = np.array([seed % 2 == 0 for seed in scores.seeds])
    best = max(SCALES, key=lambda w: float(np.nanmean(points(scores, f"constant w={w}")[:, even])))
    return (points(scores, f"constant w={best}") - points(scores, "none"))[:, ~even]


def slope(shares: list[float], values: list[FloatArray]) -> FloatArray:
    """The slope of a least-squares line over the shares, for each (prompt, seed)."""
    centred = np.array(shares) - np.mean(shares)
    return np.tensordot(centred, np.stack(values), 1) / float(centred @ centred)


def hypotheses(runs: Mapping[float, Scores]) -> list[Test]:
    """C1 to C4, from the scores of one run for each share of wrong captions, in points."""
    shares = sorted(runs)
    if len({(scores.prompts, scores.seeds) for scores in runs.values()}) != 1:
        raise InputError("the runs differ in prompts or seeds: every share needs the same images; run the same file.")
    shapes = {
        shape: [mean_over_scales(runs[share], shape) for share in shares] for shape in ("constant", "falling", "rising")
    }
    contrasts = {
        f"{better} minus {worse}": [a - b for a, b in zip(shapes[better], shapes[worse], strict=True)]
        for better, worse in (("falling", "constant"), ("constant", "rising"))
    }
    growing = {"gain of guidance": [gain(runs[share]) for share in shares], **contrasts}
    tests = []
    for name, (says, values) in zip(("C1", "C2", "C3"), growing.items(), strict=True):
        (difference,) = differences(slope(shares, values)[None], [0])
        tests.append(Test(name, f"slope of {says}", difference, difference.p))
    if shares[0] == 0:
        for says, values in contrasts.items():
            (difference,) = differences(values[0][None], [0])
            tests.append(Test("C4", f"{says} at 0 %", difference, equivalence_p(difference, MARGIN)))
    return tests


def table(tests: list[Test]) -> list[str]:
    """Lines of Markdown. C4 counts once, with the larger of its two p."""
    largest = {
        test.name: max((t.p for t in tests if t.name == test.name and t.p is not None), default=1.0) for test in tests
    }
    corrected = dict(zip(largest, holm(list(largest.values())), strict=True))
    lines = ["| | | value | 95 % interval | p (Holm) | pairs |", "|---|---|---|---|---|---|"]
    for name, says, found, _ in tests:
        between = "-" if found.low is None or found.high is None else f"{found.low:+.2f} to {found.high:+.2f}"
        value = "-" if found.difference is None else f"{found.difference:+.2f}"
        lines.append(f"| {name} | {says} | {value} | {between} | {corrected[name]:.4f} | {found.n} |")
    return lines


def means(runs: Mapping[float, Scores]) -> list[str]:
    """Lines of Markdown: the alignment of every setting on every model."""
    settings = next(iter(runs.values())).settings
    lines = ["| wrong captions | " + " | ".join(settings) + " |", "|---" * (len(settings) + 1) + "|"]
    for share in sorted(runs):
        values = " | ".join(f"{np.nanmean(points(runs[share], name)):.1f}" for name in settings)
        lines.append(f"| {share:g} % | {values} |")
    return lines


def read(argument: str) -> tuple[float, Scores]:
    share, separator, folder = argument.partition("=")
    if not separator or not share.isdigit():
        raise InputError(
            f"{argument!r}: write the share of wrong captions in percent and the run, such as 20=runs/wrong-20."
        )
    with Store.open(Path(folder)) as store:
        return float(share), Scores.of(store, "alignment")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="PERCENT=RUN")
    runs = dict(read(argument) for argument in parser.parse_args().runs)
    print("\n".join([*means(runs), "", *table(hypotheses(runs))]))


if __name__ == "__main__":
    main()
