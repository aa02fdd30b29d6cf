"""A comparison as a value, and as a table of text."""

from collections.abc import Collection
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from cfglab.experiments.analysis.paired import Difference, Resampled, Variance
from cfglab.file_input import given_path
from cfglab.metrics.estimate import Estimate
from cfglab.metrics.registry import Better
from cfglab.terminal import inline, visible

COLUMNS = ("setting", "n", "mean", "difference", "95 % interval", "p", "p (Holm)", "prompts/seeds/rest", "detectable")


class ComparisonRow(Difference):
    """The Difference of one setting from the baseline over their common pairs, with the name and mean of the setting.

    Attributes:
        setting: the name of the setting.
        mean: the mean of the setting over the pairs; for a metric of sets, its value. None without a pair.
        against: the name of the opponent that replaces the baseline, if it differs by row.
    """

    setting: str
    mean: float | None
    against: str | None = None
    resampled: Resampled | None = Field(default=None, exclude=True)

    @classmethod
    def of(
        cls,
        setting: str,
        mean: float | None,
        difference: Difference,
        *,
        p_holm: float | None = None,
        against: str | None = None,
    ) -> "ComparisonRow":
        """Return the row of a setting with this mean and Difference.

        Args:
            setting: the name of the setting.
            mean: the mean of the setting over the pairs.
            difference: the setting minus what it is compared with.
            p_holm: p after the correction over the table; None where the row was not tested.
            against: the opponent that replaces the baseline.
        """
        numbers = {name: getattr(difference, name) for name in type(difference).model_fields}
        return cls(**(numbers | {"setting": setting, "mean": mean, "p_holm": p_holm, "against": against}))


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

    def save(self, path: Path | str, *, width: float | None = None) -> Path:
        """Write the comparison to a file, whole or not at all: a table, or a figure with an interval for each setting.

        Args:
            path: a file that ends in .csv, .tex (LaTeX, for the package booktabs), .pdf, .svg or .png.
            width: the width of a figure in inches; None is 5.5.

        Returns:
            The path.

        Raises:
            InputError: for another kind of file, a width that is not between 1 and 40, or a folder that is missing.
            MachineError: if the file cannot be written.

        Examples:
            cfglab.Run("runs/k-decay").compare("alignment").save("table.tex")
        """
        layer_above = "cfglab.report.saving"  # looked up by name on request; nothing here depends on it
        return Path(import_module(layer_above).save_comparison(self, given_path(path), width))

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """The table with a bar for each interval, for notebooks."""
        from cfglab.experiments.analysis.comparison_figure import Row, draw
        from cfglab.notebook import bundle

        rows = [Row(row.setting, row.mean, row, row.against) for row in self.rows]
        named = (("real against real (floor)", self.floor), ("prompts shuffled (chance)", self.chance))
        references = [(name, value) for name, value in named if value]
        baseline = (self.baseline, self.baseline_mean)
        return bundle(
            str(self),
            lambda: draw(self.metric, self.better, baseline, rows, references, self.note),
            include,
            exclude,
        )


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
    shares = (variance.prompts, variance.seeds, variance.rest)
    return "/".join("-" if part is None else f"{100 * part:.0f}" for part in shares) + " %"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3g}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
