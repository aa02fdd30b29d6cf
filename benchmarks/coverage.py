"""How often the intervals of `cfglab compare` cover the truth, and how often p is below 0.05 without a difference.

    python -m benchmarks.coverage [--trials 4000]

Simulated differences of 0/1 scores (alignment). An image is right where a normal quality is above a threshold, and
prompt, starting noise and the rest of the pair add to that quality. The setting that is compared adds a gain, which
differs between prompts, noises and pairs as well. The truth is the mean over other prompts and other noises. Prints the
tables of docs/statistics.md in two minutes.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from cfglab.experiments.analysis.paired import Difference, differences

FloatArray = NDArray[np.float64]

QUALITY = {"prompt": 0.35, "noise": 0.15, "rest": 0.5}
"""Shares of the variance of the quality, which is 1."""
GAIN = {"prompt": 0.25, "noise": 0.35, "rest": 0.3}
"""Standard deviations of the gain."""
SIZES = ((64, 8), (16, 8), (8, 8), (64, 4), (64, 16))
SHARES = (0.5, 0.9)
EFFECT = 0.04


def simulate(
    trials: int, prompts: int, seeds: int, right: float, effect: float, crossed: bool, random: np.random.Generator
) -> FloatArray:
    """Differences (trials, prompts, seeds) whose true mean is `effect`; the baseline is right in the share `right`."""

    def parts(sizes: dict[str, float]) -> FloatArray:
        noises = 1 if crossed else prompts
        return (
            sizes["prompt"] * random.normal(size=(trials, prompts, 1))
            + sizes["noise"] * random.normal(size=(trials, noises, seeds))
            + sizes["rest"] * random.normal(size=(trials, prompts, seeds))
        )

    quality = parts({name: share**0.5 for name, share in QUALITY.items()})
    gained = quality + parts(GAIN)
    width = np.sqrt(1 + sum(sd**2 for sd in GAIN.values()))
    after, before = gained + width * ndtri(right + effect) > 0, quality + ndtri(right) > 0
    return after.astype(np.float64) - before


def tables(trials: int) -> Iterator[str]:
    """The two tables as Markdown, line by line: both designs, then crossed noises taken for nested ones."""
    heads = [f"{100 * share:.0f} % right{what}" for share in SHARES for what in ("", f", {100 * EFFECT:+.0f} points")]
    heads += [f"p < 0.05, {100 * share:.0f} %" for share in SHARES]
    for title, crossed, taken in (
        ("every pair its own noise", False, False),
        ("crossed noises", True, True),
        ("crossed noises, if only prompts were taken as random", True, False),
    ):
        yield f"| {title} | " + " | ".join(heads) + " |"
        yield "|---" * (1 + len(heads)) + "|"
        for prompts, seeds in SIZES:
            random = np.random.default_rng([prompts, seeds])
            covered, wrong = list[float](), list[float]()
            for right in SHARES:
                for effect in (0.0, EFFECT):
                    values = simulate(trials, prompts, seeds, right, effect, crossed, random)
                    found = differences(values, [0] * trials, crossed=taken, draws=999)
                    covered.append(coverage(found, effect))
                    if not effect:
                        wrong.append(float(np.mean([it.p is not None and it.p < 0.05 for it in found])))
            yield f"| {prompts} × {seeds} | " + " | ".join(f"{100 * it:.1f} %" for it in [*covered, *wrong]) + " |"
        yield ""


def coverage(found: list[Difference], truth: float) -> float:
    """The share of intervals that hold the truth; where no interval is given none is counted."""
    ends = [(it.low, it.high) for it in found if it.low is not None and it.high is not None]
    return float(np.mean([low <= truth <= high for low, high in ends]))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000)
    for line in tables(parser.parse_args().trials):
        print(line, flush=True)


if __name__ == "__main__":
    main()
