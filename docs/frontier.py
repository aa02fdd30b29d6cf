"""docs/images/frontier.png: every method of a comparison by its alignment and its distance to real scenes.

    python docs/frontier.py runs/methods/report

Left all of them, right the corner where they crowd. The grey line is plain guidance at its scales; bars are 95 %
intervals over prompts. Names stand at the methods that no other one beats in both numbers, and at the ends.
"""

import argparse
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))

from cfglab.experiments.analysis.paired import means
from cfglab.experiments.analysis.scores import Scores
from cfglab.experiments.storage.files import write_whole
from cfglab.experiments.storage.store import Store
from cfglab.guidance import Guidance
from cfglab.metrics.estimate import Estimate
from cfglab.schedules import Constant
from cfglab.step import Step
from docs.methods_page import GROUPS

IMAGE = Path(__file__).parent / "images/frontier.png"
STEP = Step(0, 1)
CORNER = 60  # FID
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#9c6b4e", "#a463f2", "#3ca951")


@dataclass(frozen=True)
class Point:
    """A setting: its FID and its share of right images, in percent, with the ends of their intervals."""

    name: str
    group: str
    w: float | None
    """The scale, of plain guidance."""
    fid: tuple[float, float, float]
    right: tuple[float, float, float]

    @property
    def title(self) -> str:
        return self.group if self.w is None else f"w = {self.w:g}"

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


def draw(methods: list[Point]) -> bytes:
    """The plot, a PNG."""
    figure = Figure(figsize=(13, 6), dpi=130, layout="constrained")
    whole, corner = figure.subplots(1, 2)
    for axes in (whole, corner):
        _dots(axes, methods)
        axes.set_xlabel("FID against real scenes (features of the classifier): lower is better")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    whole.set_ylabel("prompts drawn right (%)")
    whole.legend(frameon=False, fontsize=8, loc="lower left")
    ends = {min(methods, key=lambda p: p.right[0]).name, max(methods, key=lambda p: p.fid[0]).name}
    for point in methods:
        if point.name in ends or (point.w is not None and point.fid[0] > CORNER):
            _name(whole, point, point.title, (6, -10))
    corner.set(xlim=(10, CORNER), ylim=(74, 97))
    best = [point for point in methods if not any(other.beats(point) for other in methods)]
    for place, point in enumerate(sorted(best, key=lambda p: p.right[0])):
        _name(corner, point, point.title, (8, -14 if place % 2 == 0 else 8))
    for point in methods:
        if point.w is not None and point not in best and point.fid[0] < CORNER:
            _name(corner, point, point.title, (6, -10))
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


def _dots(axes: Any, methods: list[Point]) -> None:
    """The line of plain guidance, and each family in its colour."""
    line = sorted((p for p in methods if p.w is not None), key=lambda p: p.w or 0.0)
    axes.plot(
        [p.fid[0] for p in line], [p.right[0] for p in line], "o-", color="#999", zorder=1, label="plain guidance"
    )
    for place, (title, colour) in enumerate(zip(GROUPS, COLOURS, strict=True)):
        mine = [point for point in methods if family(point.group) == place and point.w is None]
        for point in mine:
            x, y = point.fid[0], point.right[0]
            axes.plot([x, x], point.right[1:], color=colour, alpha=0.25, lw=1)
            axes.plot(point.fid[1:], [y, y], color=colour, alpha=0.25, lw=1)
        if mine:
            axes.scatter(
                [p.fid[0] for p in mine], [p.right[0] for p in mine], color=colour, s=34, label=title, zorder=3
            )


def _name(axes: Any, point: Point, text: str, offset: tuple[int, int]) -> None:
    where, colour = (point.fid[0], point.right[0]), "#777" if point.w is not None else "black"
    axes.annotate(text, where, xytext=offset, textcoords="offset points", fontsize=8, color=colour)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    given = parser.parse_args()
    write_whole(IMAGE, draw(points(given.run)))
    print(IMAGE)


if __name__ == "__main__":
    main()
