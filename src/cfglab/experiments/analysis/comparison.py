"""A comparison as a value, and as a table of text."""

from pydantic import BaseModel, ConfigDict

from cfglab.experiments.analysis.paired import Variance
from cfglab.experiments.analysis.pairs import Better
from cfglab.metrics.estimate import Estimate
from cfglab.terminal import inline, visible

COLUMNS = ("setting", "n", "mean", "difference", "95 % interval", "p", "p (Holm)", "prompts/seeds/rest", "detectable")


class ComparisonRow(BaseModel):
    """One setting against the baseline over the pairs that both drew; None where there is no pair, or no spread.

    `mean` is the setting's mean over these pairs (of a set metric: its value), `difference` is `mean` less the
    baseline's over the same pairs; `dropped` counts the (prompt, seed) that one side could not give. `p_holm` is p
    corrected over all rows. `variance` has the shares of the difference's variance that prompts, seeds and the rest
    have; the other fields are those of `cfglab.experiments.analysis.paired.Difference`. `against` names what stands in
    the baseline's place where that differs by row.
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
    """All settings against one baseline in one metric: rows best first, and in `note` what they do and do not say.

    `floor` is what real images score against real ones (set metrics), `chance` what these images score when each
    is judged by another prompt of the run (alignment, where asked for).
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
