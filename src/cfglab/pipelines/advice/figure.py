"""An advice in a notebook: a card with the facts and their sources, the starting points, the methods and the levels."""

from collections.abc import Collection, Sequence

from cfglab.hosts.levels import Levels
from cfglab.notebook import Html, TableContent, card, details, html_of, table
from cfglab.pipelines.advice.family import Family
from cfglab.pipelines.advice.methods import MethodAdvice
from cfglab.pipelines.advice.wording import COLUMNS, facts_of, level_row, methods_text


def draw(
    family: Family, points: Sequence[tuple[str, str]], methods: Collection[MethodAdvice], levels: Levels | str
) -> Html:
    """The card of an advice.

    Args:
        family: The family.
        points: Guidances to start from, each with its reason.
        methods: The methods.
        levels: The noise levels, or why they are not known.

    Returns:
        HTML.
    """
    facts = [
        (Html(f'<span class="soft">{html_of(name)}</span>'), _with_source(value, origin))
        for name, value, origin in facts_of(family)
    ]
    starts = [(Html(f"<code>{html_of(text)}</code>"), reason) for text, reason in points]
    lines = Html("".join(f"<p>{html_of(line)}</p>" for line in methods_text(methods)))
    parts = [table(TableContent((), facts)), table(TableContent(("start from", ""), starts)), details("methods", lines)]
    if isinstance(levels, str):
        parts.append(Html(f'<p class="soft">noise levels: {html_of(levels)}</p>'))
    else:
        rows = [["" if value is None else f"{value:.4g}" for value in level_row(step)] for step in levels.steps]
        title = f"noise levels at {len(levels.steps)} steps"
        parts.append(details(title, table(TableContent(COLUMNS, rows, numbers=range(len(COLUMNS))))))
    return card(family.title, *parts, about=(family.name, family.pipeline))


def _with_source(value: str, origin: str) -> Html:
    source = f'<br><span class="soft">{html_of(origin)}</span>' if origin else ""
    return Html(f"{html_of(value)}{source}")
