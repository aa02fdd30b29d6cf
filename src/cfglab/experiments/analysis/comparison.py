"""A comparison as a value, and as a table of text."""

from pydantic import BaseModel, ConfigDict

from cfglab.experiments.analysis.paired import Variance
from cfglab.experiments.analysis.pairs import Better
from cfglab.metrics.estimate import Estimate
from cfglab.terminal import inline, visible

COLUMNS = ("setting", "n", "mean", "difference", "95 % interval", "p", "p (Holm)", "prompts/seeds/rest", "detectable")


class ComparisonRow(BaseModel):
    """One setting compared with the baseline over their common pairs; None if there is no pair or no spread.

    The fields that are not listed are those of `cfglab.experiments.analysis.paired.Difference`.

    Attributes:
        setting: the name of the setting.
        dropped: the number of (prompt, seed) that one of the two does not have.
        mean: the mean of the setting over the pairs; for a metric of sets, its value.
        difference: `mean` minus the mean of the baseline over the same pairs.
        p_holm: p, corrected over all rows by Holm's method.
        variance: the shares of prompts, seeds and the rest in the variance of the difference.
        against: the name of the opponent that replaces the baseline, if it differs by row.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: str
    n: int
    n_prompts: int
    dropped: int
    mean: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    smallest_detectable: float | None
    n_seeds: int | None = None
    moving: int | None = None
    moving_prompts: int | None = None
    degrees: float | None = None
    effective_prompts: float | None = None
    effective_seeds: float | None = None
    independent: float | None = None
    variance: Variance | None = None
    against: str | None = None


class Comparison(BaseModel):
    """All settings compared with one baseline in one metric.

    Attributes:
        metric: the name of the metric.
        baseline: the name of the baseline.
        better: the direction of the metric, or None.
        baseline_mean: the mean of the baseline.
        rows: one row per setting, best first.
        note: the limits of the numbers, in words.
        floor: the value of real images against real images (metrics of sets).
        chance: the value of these images with other prompts of the run (alignment, if requested).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    baseline: str
    better: Better | None
    baseline_mean: Estimate | None
    rows: tuple[ComparisonRow, ...]
    note: str
    floor: Estimate | None = None
    chance: Estimate | None = None

    def __str__(self) -> str:
        lines = [[inline(cell) for cell in line] for line in table(self)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([*(line.rstrip() for line in text), "", visible(self.note)])


def table(comparison: Comparison) -> list[list[str]]:
    """The comparison as rows of text: the column names, the baseline, every setting, best first, floor and chance."""
    several = any(row.against for row in comparison.rows)
    lines = [[*COLUMNS, *(["against"] if several else [])]]
    lines.append(_alone(f"{comparison.baseline} (baseline)", comparison.baseline_mean, len(lines[0])))
    lines += [[*_cells(row), *([row.against or "-"] if several else [])] for row in comparison.rows]
    if comparison.floor:
        lines.append(_alone("real against real (floor)", comparison.floor, len(lines[0])))
    if comparison.chance:
        lines.append(_alone("prompts shuffled (chance)", comparison.chance, len(lines[0])))
    return lines


def _alone(name: str, value: Estimate | None, columns: int) -> list[str]:
    return [name, str(value.n if value else 0), _plain(value.value if value else None), *[""] * (columns - 3)]


def _cells(row: ComparisonRow) -> list[str]:
    return [
        row.setting,
        str(row.n),
        _plain(row.mean),
        _signed(row.difference),
        "-" if row.low is None else f"[{_signed(row.low)}, {_signed(row.high)}]",
        _p(row.p),
        _p(row.p_holm),
        _shares(row.variance),
        _plain(row.smallest_detectable),
    ]


def _shares(variance: Variance | None) -> str:
    """`31/52/17 %`, with `-` for seeds that cannot be told from the rest."""
    if variance is None:
        return "-"
    parts = (variance.prompts, variance.seeds, variance.rest)
    return "/".join("-" if part is None else f"{100 * part:.0f}" for part in parts) + " %"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3g}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
