"""A guidance in a notebook: its curve, its settings, and a card for each method with its formula."""

from collections.abc import Sequence
from typing import Any

from cfglab.guidance.methods.scale_maps import ScaleMap
from cfglab.guidance.scale_map import rows_of
from cfglab.guidance.transform import Transform
from cfglab.notebook import Html, card, html_of
from cfglab.schedules import Schedule
from cfglab.schedules.figure import figures

CELLS, WIDTH = 32, 48
"""Of the small image of a map: values along a side, and its width in pixels."""


def draw(schedule: Schedule, transforms: Sequence[Transform], text: str) -> Html:
    """The card of a guidance.

    Args:
        schedule: The schedule.
        transforms: The transforms, in order.
        text: The guidance as text, the title.

    Returns:
        The card as HTML.
    """
    perturbed = any(type(transform).variation is not Transform.variation for transform in transforms)
    about = [
        f"{len(transforms)} {'method' if len(transforms) == 1 else 'methods'}" if transforms else "plain guidance",
        *(["needs a perturbed pass"] if perturbed else []),
    ]
    formula = Html('<code class="formula">prediction = uncond + w (cond − uncond)</code>')
    methods = Html("".join(map(_method, transforms)))
    sides = Html(f'<div class="side"><div>{figures([schedule])}</div><div>{methods}</div></div>')
    return card(Html(f"<code>{html_of(text)}</code>"), formula, sides, about=about)


def _method(transform: Transform) -> Html:
    card_of = transform.card
    title = card_of.title if card_of else type(transform).__name__
    head = f"<b>{html_of(title)}</b> <code class='soft'>{html_of(transform.kind)}</code>"
    lines = []
    if card_of:
        paper = card_of.paper
        if paper:
            link = f"https://arxiv.org/abs/{paper}"
            head += f' <a href="{html_of(link)}" rel="noopener" target="_blank">arXiv:{html_of(paper)}</a>'
        source = f' <span class="soft">{html_of(card_of.source)}</span>' if card_of.source else ""
        lines = [f'<code class="formula">{html_of(card_of.formula)}</code>', f"<p>{html_of(card_of.says)}</p>"]
        head += source
    settings: dict[str, Any] = {
        name: getattr(transform, name) for name in type(transform).model_fields if name != "kind"
    }
    if card_of:
        settings["rows per step"] = card_of.rows
    pairs = ", ".join(
        f'<span class="soft">{html_of(name)}</span> '
        f"{_picture(value) if name == 'map' and isinstance(transform, ScaleMap) else html_of(_shown(value))}"
        for name, value in settings.items()
    )
    return Html(f'<div class="method">{head}{"".join(lines)}<p>{pairs}</p></div>')


def _picture(text: str) -> Html:
    """A map of scales as a small image: the lowest value faint, the highest full, at most CELLS along a side."""
    values = rows_of(text)
    values = tuple(row[:: -(-len(row) // CELLS)] for row in values[:: -(-len(values) // CELLS)])
    low, high = min(map(min, values)), max(map(max, values))
    cells = "".join(
        f'<rect x="{x}" y="{y}" width="1" height="1" opacity="{0.1 + 0.9 * (value - low) / ((high - low) or 1):.2f}"/>'
        for y, row in enumerate(values)
        for x, value in enumerate(row)
    )
    size = f'width="{WIDTH}" height="{max(WIDTH * len(values) // len(values[0]), 6)}"'
    title = html_of(f"{len(values)} x {len(values[0])}, {low:g} to {high:g}")
    return Html(
        f'<svg {size} viewBox="0 0 {len(values[0])} {len(values)}" preserveAspectRatio="none" role="img" '
        f'fill="currentColor" shape-rendering="crispEdges"><title>{title}</title>{cells}</svg>'
    )


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
