"""A run in a notebook: the two sentences of its report, the table of its settings, and the link to the whole page."""

import os
from pathlib import Path
from urllib.parse import quote

from cfglab.experiments.storage.store import Store
from cfglab.metrics import Metric
from cfglab.notebook import Html, TableContent, card, html_of, interval_bar, sparkline, table
from cfglab.report.formatting import gap, gap_span, p_value, shown
from cfglab.report.summary.tables import SettingRow, Tables, build
from cfglab.report.summary.verdict import verdict

MOST = 40
"""Settings that are shown."""


def draw(folder: Path) -> Html:
    """The card of a run folder; it writes nothing.

    Args:
        folder: the run folder.

    Returns:
        The card as HTML.

    Raises:
        InputError: the folder holds no run.
    """
    with Store.open(folder) as store:
        tables = build(store)
    words = verdict(tables)
    done, failed = sum(row.done for row in tables.rows), sum(row.failed for row in tables.rows)
    missing = sum(row.missing for row in tables.rows)
    about = [
        f"{done:,} images",
        *([f"{failed:,} failed"] if failed else []),
        *([f"{missing:,} missing"] if missing else []),
    ]
    parts = [
        Html(f"<p>{html_of(words.shows)}</p>"),
        _settings(tables),
        Html(f'<p class="soft">{html_of(words.hides)}</p>'),
        _link(folder),
    ]
    return card(tables.experiment.title or tables.experiment.name, *parts, about=about)


def _settings(tables: Tables) -> Html:
    numbers = [value for row in tables.rows for value in row.values if value is not None]
    span = (min(numbers, default=0.0), max(numbers, default=1.0))
    main = tables.main
    baseline, rows = tables.baseline, [row for row in tables.rows if not row.baseline]
    if main is not None:
        rows.sort(key=lambda row: -main.sign * row.means[main.name].value if main.name in row.means else float("inf"))
    head = ["setting", "w", "mean w", "images"]
    if main is not None:
        head += [main.title, "difference", "", "95 % interval", "p (Holm)"]
    ends = [end for row in rows for end in _ends(row, main)]
    reach = (min([0.0, *ends]), max([0.0, *ends]))
    cells = [_row(row, main, span, reach) for row in [baseline, *rows]]
    strong = [index for index, row in enumerate([baseline, *rows]) if main and _significant(row, main)]
    return table(TableContent(head, cells, (2, 3, 4, 5, 7, 8), strong, MOST))


def _row(row: SettingRow, main: Metric | None, span: tuple[float, float], reach: tuple[float, float]) -> list[object]:
    picture = (
        sparkline([row.values], title=f"{row.setting.guidance}", width=64, height=26, span=span) if row.values else "–"
    )
    label = (
        Html(f"{html_of(row.setting.name)} <span class='soft'>baseline</span>") if row.baseline else row.setting.name
    )
    cells = [label, picture, shown(row.dose, "dose"), row.done]
    if main is None:
        return cells
    mean, difference = row.means.get(main.name), row.differences.get(main.name)
    cells.append(shown(mean.value if mean else None, main.unit))
    if difference is None:
        return [*cells, "", "", "", ""]
    value, low, high = difference.difference, difference.low, difference.high
    interval = gap_span(low, high, main.unit)
    colour = "var(--soft)"
    if difference.significant and value is not None:
        colour = "var(--c2)" if value * main.sign > 0 else "var(--c1)"
    title = f"difference {gap(value, main.unit)} {interval}"
    bar = interval_bar(value, low, high, span=reach, title=title, colour=colour, width=110)
    return [*cells, gap(value, main.unit), bar, interval or "–", p_value(difference.p_holm)]


def _ends(row: SettingRow, main: Metric | None) -> list[float]:
    difference = row.differences.get(main.name) if main else None
    ends = (difference.low, difference.difference, difference.high) if difference else ()
    return [end for end in ends if end is not None]


def _significant(row: SettingRow, main: Metric) -> bool:
    difference = row.differences.get(main.name)
    return difference is not None and difference.significant


def _link(folder: Path) -> Html:
    page = folder / "report.html"
    shown_page = f"<code>{html_of(page)}</code>"
    if not page.is_file():
        return Html(f'<p class="soft">The images and all metrics: <code>.report()</code> writes {shown_page}</p>')
    address = quote(Path(os.path.relpath(page)).as_posix())
    address = address if address.startswith("..") else f"./{address}"
    return Html(
        f'<p><a href="{html_of(address)}" target="_blank" rel="noopener">The whole report</a>: {shown_page}</p>'
    )
