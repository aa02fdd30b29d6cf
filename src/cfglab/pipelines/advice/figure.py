"""An advice in a notebook: a card with the facts and their sources, the starting points, the methods and the levels."""

from typing import TYPE_CHECKING

from cfglab.notebook import Html, Table, card, details, html_of, table

if TYPE_CHECKING:
    from cfglab.pipelines.advice.advice import Advice


def draw(advice: "Advice") -> Html:
    """The card of an advice.

    Args:
        advice: The advice.

    Returns:
        HTML.
    """
    from cfglab.pipelines.advice.advice import COLUMNS, facts_of, level_row, methods_text

    family = advice.family
    facts = [
        (Html(f'<span class="soft">{html_of(name)}</span>'), _with_source(value, origin))
        for name, value, origin in facts_of(family)
    ]
    points = [(Html(f"<code>{html_of(point.text)}</code>"), point.reason) for point in advice.starting_points]
    methods = Html("".join(f"<p>{html_of(line)}</p>" for line in methods_text(advice.methods)))
    parts = [table(Table((), facts)), table(Table(("start from", ""), points)), details("methods", methods)]
    if advice.levels is None:
        parts.append(Html(f'<p class="soft">noise levels: {html_of(advice.levels_unknown)}</p>'))
    else:
        rows = [["" if value is None else f"{value:.4g}" for value in level_row(step)] for step in advice.levels.steps]
        title = f"noise levels at {advice.steps} steps"
        parts.append(details(title, table(Table(COLUMNS, rows, numbers=range(len(COLUMNS))))))
    return card(family.title, *parts, about=(family.name, family.pipeline))


def _with_source(value: str, origin: str) -> Html:
    source = f'<br><span class="soft">{html_of(origin)}</span>' if origin else ""
    return Html(f"{html_of(value)}{source}")
