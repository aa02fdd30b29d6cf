"""docs/pictures/frontier.png: every method of a comparison by its alignment and its distance to real scenes.

    python docs/frontier.py runs/methods/report --plain runs/methods-plain

`--plain` is a run of plain guidance at several scales on the same prompts and seeds: the grey line, with the baseline.
Bars are 95 % intervals over prompts. Names stand at the methods that no other one beats in both numbers, and at the
ends.
"""

import argparse
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))

from cfglab.experiments.files import write_whole
from cfglab.experiments.scores import Scores
from cfglab.experiments.statistics import means
from cfglab.experiments.store import Store
from cfglab.guidance import Guidance
from cfglab.metrics.estimate import Estimate
from cfglab.schedules import Constant
from cfglab.step import Step
from docs.methods_page import GROUPS

PICTURE = Path(__file__).parent / "pictures/frontier.png"
STEP = Step(0, 1)
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#9c6b4e", "#a463f2", "#3ca951")


@dataclass(frozen=True)
class Point:
    """A setting: its FID and its share of right pictures, in percent, with the ends of their intervals."""

    name: str
    group: str
    w: float | None
    """The scale, of plain guidance."""
    fid: tuple[float, float, float]
    right: tuple[float, float, float]

    def beats(self, other: "Point") -> bool:
        gains = (other.fid[0] - self.fid[0], self.right[0] - other.right[0])
        return min(gains) >= 0 and max(gains) > 0


def points(folder: Path) -> list[Point]:
    """The settings of a run; the baseline stands among them."""
    with Store.open(folder) as store:
        sets, settings = store.set_metrics(), store.experiment.settings
        shares = means(Scores.of(store, "alignment").values)
    return [
        Point(
            setting.name, setting.group, _scale(setting.guidance), _ends(sets[setting.name]["fid"]), _ends(share, 100)
        )
        for setting, share in zip(settings, shares, strict=True)
        if share is not None
    ]


def _scale(guidance: Guidance) -> float | None:
    plain = isinstance(guidance.schedule, Constant) and not guidance.transforms
    return guidance.schedule(STEP) if plain else None


def _ends(number: Estimate, unit: float = 1) -> tuple[float, float, float]:
    """Value, low, high; the value three times where there is no interval."""
    low, high = (number.value if end is None else end for end in (number.low, number.high))
    return unit * number.value, unit * low, unit * high


def family(name: str) -> int:
    """Which of the groups of docs/methods.md a method is in; schedules for what is composed of them."""
    found = [place for place, names in enumerate(GROUPS.values()) if name.split()[0] in names]
    return found[0] if found else 0


def draw(methods: list[Point], plain: list[Point]) -> bytes:
    """The plot, a PNG."""
    figure = Figure(figsize=(9, 6), dpi=150, layout="constrained")
    axes = figure.subplots()
    line = sorted((p for p in (*methods, *plain) if p.w is not None), key=lambda p: p.w or 0.0)
    axes.plot(
        [p.fid[0] for p in line], [p.right[0] for p in line], "o-", color="#999", zorder=1, label="plain guidance"
    )
    for point in line:
        _name(axes, point, f"w = {point.w:g}", "#777", (6, -10))
    for place, (title, colour) in enumerate(zip(GROUPS, COLOURS, strict=True)):
        mine = [point for point in methods if family(point.group) == place and point.group != "baseline"]
        for point in mine:
            x, y = point.fid[0], point.right[0]
            axes.plot([x, x], point.right[1:], color=colour, alpha=0.25, lw=1)
            axes.plot(point.fid[1:], [y, y], color=colour, alpha=0.25, lw=1)
        if mine:
            axes.scatter(
                [p.fid[0] for p in mine], [p.right[0] for p in mine], color=colour, s=34, label=title, zorder=3
            )
    ends = {min(methods, key=lambda p: p.right[0]).name, max(methods, key=lambda p: p.fid[0]).name}
    for point in methods:
        if point.w is None and (point.name in ends or not any(other.beats(point) for other in methods)):
            _name(axes, point, point.group, "black", (6, 5))
    axes.set_xlabel("FID against real scenes (64 features of the reader): lower is better")
    axes.set_ylabel("prompts drawn right (%)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


def _name(axes: Any, point: Point, text: str, colour: str, offset: tuple[int, int]) -> None:
    where = (point.fid[0], point.right[0])
    axes.annotate(text, where, xytext=offset, textcoords="offset points", fontsize=8, color=colour)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--plain", type=Path, required=True)
    given = parser.parse_args()
    write_whole(PICTURE, draw(points(given.run), points(given.plain)))
    print(PICTURE)


if __name__ == "__main__":
    main()
