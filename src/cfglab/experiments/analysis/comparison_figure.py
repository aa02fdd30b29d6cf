"""A comparison in a notebook: its table, with each interval as a bar on one common scale."""

from collections.abc import Sequence
from typing import NamedTuple

from cfglab.experiments.analysis.paired import Difference
from cfglab.metrics.estimate import Estimate
from cfglab.metrics.registry import Better, sign
from cfglab.notebook import Html, TableContent, card, html_of, interval_bar, table

MOST = 60
"""Settings that are shown."""


class Row(NamedTuple):
    """One setting: name, mean, difference from the baseline, and the opponent if that is not the baseline."""

    name: str
    mean: float | None
    difference: Difference
    against: str | None = None


def draw(
    metric: str,
    better: Better | None,
    baseline: tuple[str, Estimate | None],
    rows: Sequence[Row],
    references: Sequence[tuple[str, Estimate]],
    note: str,
) -> Html:
    """The card of a comparison.

    Args:
        metric: the name of the metric.
        better: the direction of the metric.
        baseline: the name and the mean of the baseline.
        rows: the settings, best first.
        references: named values without a difference: the floor, chance.
        note: the limits of the numbers, in words.

    Returns:
        The card as HTML.
    """
    name, mean = baseline
    ends = [
        end
        for row in rows
        for end in (row.difference.low, row.difference.high, row.difference.difference)
        if end is not None
    ]
    reach = (min([0.0, *ends]), max([0.0, *ends]))
    several = any(row.against for row in rows)
    head = ["setting", "n", "mean", "difference", "", "95 % interval", "p (Holm)", *(["against"] if several else [])]
    empty = [""] * (len(head) - 3)
    cells: list[Sequence[object]] = [
        [Html(f"{html_of(name)} <span class='soft'>baseline</span>"), *_plain(mean), *empty],
        *(
            [*_cells(row, reach, sign(better) if better else 0), *([row.against or "–"] if several else [])]
            for row in rows
        ),
        *([Html(f"<span class='soft'>{html_of(label)}</span>"), *_plain(value), *empty] for label, value in references),
    ]
    strong = [index + 1 for index, row in enumerate(rows) if row.difference.significant]
    about = [f"against {name}", *([f"{better} is better"] if better else []), "bold: p below 0.05 after Holm"]
    body = table(TableContent(head, cells, (1, 2, 3, 5, 6), strong, MOST))
    return card(metric, body, Html(f'<p class="soft">{html_of(" ".join(note.split()))}</p>'), about=about)


def _cells(row: Row, reach: tuple[float, float], direction: int) -> list[object]:
    difference = row.difference
    interval = "–" if difference.low is None else f"{_signed(difference.low)} to {_signed(difference.high)}"
    colour = "var(--soft)"
    if difference.significant and difference.difference is not None:
        good = difference.difference * (direction or 1) > 0
        colour = "var(--c0)" if not direction else "var(--c2)" if good else "var(--c1)"
    bar = interval_bar(
        difference.difference,
        difference.low,
        difference.high,
        span=reach,
        title=f"difference {_signed(difference.difference)}, 95 % interval {interval}",
        colour=colour,
    )
    return [
        row.name,
        difference.n,
        _number(row.mean),
        _signed(difference.difference),
        bar,
        interval,
        _p(difference.p_holm),
    ]


def _plain(value: Estimate | None) -> tuple[object, str]:
    return (value.n, _number(value.value)) if value else (0, "–")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}".replace("-", "−")


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3g}".replace("-", "−")


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
