"""The hypotheses C1 to C4 of docs/findings/plan.md, from one run on each denoiser.

    python -m training flow --branch w40 --wrong 0.4 --steps 1000                   # and so on, for 0, 10 and 20
    python -m training.export flow-w40 models/w40
    cfglab run benchmarks/wrong_captions.yaml --model models/w40 --dtype bfloat16 --out runs/wrong-40
    python -m benchmarks.wrong_captions 0=runs/wrong-0 10=runs/wrong-10 20=runs/wrong-20 40=runs/wrong-40

It prints the means, the three differences on every share, and the hypotheses; `--figure FILE` draws the means, and the
two differences between shapes.

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
SHAPES = {"constant": "#33302b", "falling": "#c4471c", "rising": "#2f6f9f"}
"""Shape of a schedule -> its colour in the figure."""
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


def contrasts(runs: Mapping[float, Scores]) -> dict[str, list[FloatArray]]:
    """What is compared -> its points on each share, in the order of the shares, each (prompts, seeds)."""
    shares = sorted(runs)
    if len({(scores.prompts, scores.seeds) for scores in runs.values()}) != 1:
        raise InputError("the runs differ in prompts or seeds: every share needs the same images; run the same file.")
    shapes = {shape: [mean_over_scales(runs[share], shape) for share in shares] for shape in SHAPES}
    return {
        "gain of guidance": [gain(runs[share]) for share in shares],
        **{
            f"{better} minus {worse}": [a - b for a, b in zip(shapes[better], shapes[worse], strict=True)]
            for better, worse in (("falling", "constant"), ("constant", "rising"))
        },
    }


def hypotheses(runs: Mapping[float, Scores]) -> list[Test]:
    """C1 to C4, from the scores of one run for each share of wrong captions, in points."""
    shares, growing = sorted(runs), contrasts(runs)
    tests = []
    for name, (says, values) in zip(("C1", "C2", "C3"), growing.items(), strict=True):
        (difference,) = differences(slope(shares, values)[None], [0])
        tests.append(Test(name, f"slope of {says}", difference, difference.p))
    if shares[0] == 0:
        for says, values in list(growing.items())[1:]:
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


def interval(values: FloatArray) -> tuple[float, float, float]:
    """The mean of some differences, (prompts, seeds), and its 95 % interval over prompts; NaN where it has none."""
    (found,) = differences(values[None], [0])
    mean, low, high = (np.nan if end is None else end for end in (found.difference, found.low, found.high))
    return mean, low, high


def by_share(runs: Mapping[float, Scores]) -> list[str]:
    """Lines of Markdown: the three differences on every share, with their 95 % intervals."""
    growing = contrasts(runs)
    lines = ["| wrong captions | " + " | ".join(growing) + " |", "|---" * (len(growing) + 1) + "|"]
    for number, share in enumerate(sorted(runs)):
        found = [interval(values[number]) for values in growing.values()]
        cells = [f"{mean:+.1f} ({low:+.1f} to {high:+.1f})" for mean, low, high in found]
        lines.append(f"| {share:g} % | {' | '.join(cells)} |")
    return lines


def figure(runs: Mapping[float, Scores], path: Path) -> None:
    """Draw the mean alignment of each shape over the shares, and the two differences between shapes."""
    import matplotlib.pyplot as plt

    shares, growing = sorted(runs), contrasts(runs)
    page, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.8))
    for shape, colour in SHAPES.items():
        means = [float(np.nanmean(mean_over_scales(runs[share], shape))) for share in shares]
        left.plot(shares, means, "o-", color=colour, label=f"{shape}, mean scale 2 to 4")
    none = [float(np.nanmean(points(runs[share], "none"))) for share in shares]
    left.plot(shares, none, "v-", color="#8a857b", label="none, w = 1")
    for name, colour in (("falling minus constant", SHAPES["falling"]), ("constant minus rising", SHAPES["rising"])):
        middle, low, high = np.transpose([interval(values) for values in growing[name]])
        right.errorbar(shares, middle, (middle - low, high - middle), fmt="o-", color=colour, capsize=3, label=name)
    right.axhline(0, color="#8a857b", linewidth=0.8)
    left.set(
        xlabel="wrong captions, %", ylabel="images that show what was asked, %", ylim=(0, 1.35 * left.get_ylim()[1])
    )
    right.set(xlabel="wrong captions, %", ylabel="difference, points")
    left.legend(frameon=False, fontsize="small", loc="upper right")
    right.legend(frameon=False, fontsize="small")
    page.tight_layout()
    page.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(page)


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
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw a figure too, .svg or .png")
    given = parser.parse_args()
    runs = dict(read(argument) for argument in given.runs)
    print("\n".join([*means(runs), "", *by_share(runs), "", *table(hypotheses(runs))]))
    if given.figure:
        figure(runs, given.figure)


if __name__ == "__main__":
    main()
