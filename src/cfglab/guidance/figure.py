"""A guidance in a notebook: its curve, its settings, and a card for each method with its formula."""

from collections.abc import Sequence
from typing import Any

from cfglab.guidance.transform import Transform
from cfglab.notebook import Html, card, html_of
from cfglab.schedules import Schedule
from cfglab.schedules.figure import figures


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
        f'<span class="soft">{html_of(name)}</span> {html_of(_shown(value))}' for name, value in settings.items()
    )
    return Html(f'<div class="method">{head}{"".join(lines)}<p>{pairs}</p></div>')


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
