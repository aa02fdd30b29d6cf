"""A comparison for other programs and for papers: CSV with every digit, and a LaTeX table with intervals and n."""

import csv
import io
import re

from cfglab.experiments.analysis.comparison import Comparison, ComparisonRow
from cfglab.metrics.estimate import Estimate
from cfglab.terminal import inline

CSV_COLUMNS = (
    *("metric", "setting", "against", "n", "n_prompts", "n_seeds", "mean", "difference", "low", "high"),
    *("p", "p_holm", "smallest_detectable"),
)
_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
}
_SPECIALS = re.compile(r"[&%$#_{}\\~^<>|\"]")


def as_csv(comparison: Comparison) -> str:
    """Return a comparison as CSV, a line for each setting, the baseline first; an empty field is a value that is not.

    Args:
        comparison: the comparison.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    mean = comparison.baseline_mean
    first = {"n": mean.n, "mean": mean.value} if mean else {}
    writer.writerow({"metric": comparison.metric, "setting": comparison.baseline, **first})
    for row in comparison.rows:
        numbers = {name: getattr(row, name, None) for name in CSV_COLUMNS}
        writer.writerow(numbers | {"metric": comparison.metric, "against": row.against or comparison.baseline})
    return text.getvalue()


def as_latex(comparison: Comparison) -> str:
    r"""Return a comparison as a LaTeX table for the package booktabs; its limits stand above it as comments.

    Settings whose p after Holm's correction is below 0.05 are bold.

    Args:
        comparison: the comparison.
    """
    several = any(row.against for row in comparison.rows)
    head = ["setting", "$n$", "mean", "difference", r"95\,\% interval", "$p$", "$p$ (Holm)"]
    columns = "lrrrrrr" + ("l" if several else "")
    lines = [_line([*head, *(["against"] if several else [])]), r"\midrule"]
    lines.append(_alone(f"{escaped(comparison.baseline)} (baseline)", comparison.baseline_mean, len(columns)))
    lines += [_line([*_cells(row), *([escaped(row.against or "--")] if several else [])]) for row in comparison.rows]
    references = (("real against real", comparison.floor), ("prompts shuffled", comparison.chance))
    if any(value for _, value in references):
        lines.append(r"\midrule")
        lines += [_alone(name, value, len(columns)) for name, value in references if value]
    about = [f"% {line}" for line in comparison.note.splitlines() if line.strip()]
    return "\n".join(
        [
            f"% {inline(comparison.metric)} compared with {inline(comparison.baseline)}; "
            r"it needs \usepackage{booktabs}",
            *(inline(line) for line in about),
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Return a text for LaTeX: every character stands for itself.

    Args:
        text: any text; control characters are written out.

    Examples:
        >>> print(escaped("k_decay 50 % & {x}"))
        k\\_decay 50 \\% \\& \\{x\\}
    """
    return _SPECIALS.sub(lambda match: _SPECIAL[match[0]], inline(text))


def _line(cells: list[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _alone(name: str, value: Estimate | None, columns: int) -> str:
    number = [str(value.n), _plain(value.value)] if value else ["0", "--"]
    return _line([name, *number, *[""] * (columns - 3)])


def _cells(row: ComparisonRow) -> list[str]:
    name = escaped(row.setting)
    interval = "--" if row.low is None or row.high is None else f"$[{row.low:+.3g}, {row.high:+.3g}]$"
    return [
        rf"\textbf{{{name}}}" if row.significant else name,
        str(row.n),
        _plain(row.mean),
        "--" if row.difference is None else f"${row.difference:+.3g}$",
        interval,
        _p(row.p),
        _p(row.p_holm),
    ]


def _plain(value: float | None) -> str:
    return "--" if value is None else f"${value:.4g}$" if value < 0 else f"{value:.4g}"


def _p(value: float | None) -> str:
    return "--" if value is None else r"$<0.001$" if value < 0.001 else f"{value:.3f}"
