"""Ways of doing one thing, timed in turns: a busy machine slows all of them alike, and each repeat gives one ratio."""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import torch

Seconds = dict[str, list[float]]
"""Of each way, its time in every repeat."""


def in_turns(ways: Mapping[str, Callable[[], object]], repeats: int, *, warm: bool = True) -> Seconds:
    """Call every way once a repeat, in an order that rotates; `warm` calls each once before, untimed."""
    names = list(ways)
    for name in names if warm else ():
        ways[name]()
    seconds: Seconds = {name: [] for name in names}
    for turn in range(repeats):
        print(f"repeat {turn + 1} of {repeats}", file=sys.stderr, flush=True)
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Seconds, way: str, over: str) -> str:
    """The median of the ratios of single repeats, and the range that holds half of them where there are four."""
    ratios = [mine / other for mine, other in zip(seconds[way], seconds[over], strict=True)]
    if len(ratios) < 4:
        return f"**{statistics.median(ratios):.3g}** ({min(ratios):.3g} to {max(ratios):.3g})"
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"**{middle:.3g}** ({low:.3g} to {high:.3g})"


def median(seconds: Sequence[float]) -> str:
    """The median time: `1.234 s`, or in microseconds where it is short."""
    middle = statistics.median(seconds)
    return f"{middle:.3g} s" if middle >= 0.01 else f"{1e6 * middle:.0f} µs"


def circumstances(repeats: int) -> str:
    """What a reader has to know of a table: repeats, threads, and how busy the machine was before."""
    load = os.getloadavg()[0]
    return (
        f"n = {repeats} repeats, {torch.get_num_threads()} threads of {os.cpu_count()} cores, load {load:.1f} before."
    )


def arguments(about: str | None, **defaults: int) -> argparse.Namespace:
    """Whole numbers from the command line, `--repeats 7` for `repeats=7`; `about` is the help."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    return parser.parse_args()


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
