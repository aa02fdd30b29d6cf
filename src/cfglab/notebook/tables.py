"""Tables of a card: rows of cells, and facts as pairs."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cfglab.notebook.card import Html, html_of

NUMBER, STRONG = ' class="num"', ' class="strong"'


@dataclass(frozen=True, slots=True)
class TableContent:
    """A table with a head; text in cells is escaped.

    Attributes:
        head: the names of the columns; empty for a table without a head.
        rows: the cells, one for each column.
        numbers: the indices of columns that are aligned to the right.
        strong: the indices of rows in bold.
        most: the largest number of rows that is shown; a line says how many more there are.
    """

    head: Sequence[object]
    rows: Sequence[Sequence[object]]
    numbers: Collection[int] = ()
    strong: Collection[int] = ()
    most: int = 60


def table(content: TableContent) -> Html:
    """Return a table as HTML.

    Args:
        content: the table.
    """
    head = f"<thead><tr>{_cells(content.head, 'th', content.numbers)}</tr></thead>" if content.head else ""
    body = "".join(
        f"<tr{STRONG if index in content.strong else ''}>{_cells(row, 'td', content.numbers)}</tr>"
        for index, row in enumerate(content.rows[: content.most])
    )
    left = len(content.rows) - content.most
    more = f'<p class="soft">and {left:,} more {"row" if left == 1 else "rows"}</p>' if left > 0 else ""
    return Html(f"<table>{head}<tbody>{body}</tbody></table>{more}")


def facts(pairs: Mapping[str, object]) -> Html:
    """Return names and values as a table without a head.

    Args:
        pairs: name -> value; text is escaped.
    """
    rows = [(Html(f'<span class="soft">{html_of(name)}</span>'), value) for name, value in pairs.items()]
    return table(TableContent((), rows))


def _cells(cells: Iterable[object], tag: str, numbers: Collection[int]) -> str:
    return "".join(
        f"<{tag}{NUMBER if index in numbers else ''}>{html_of(cell)}</{tag}>" for index, cell in enumerate(cells)
    )
