"""The card around everything that an object shows in a notebook, and the bundle of MIME types that Jupyter asks for."""

from collections.abc import Callable, Collection, Iterable
from html import escape

from cfglab.svg import theme
from cfglab.terminal import inline

Bundle = dict[str, str]
"""MIME type -> the object in it, `text/plain` first."""

_RULES = """
.cfglab.cfglab{background:var(--paper);color:var(--ink);border:1px solid var(--rule);border-radius:8px;
padding:12px 16px;margin:2px 0;width:fit-content;max-width:860px;box-sizing:border-box;font-size:13px;
line-height:1.45;overflow-x:auto}
.cfglab.cfglab .head{display:flex;flex-wrap:wrap;gap:2px 10px;align-items:baseline;margin:0 0 6px}
.cfglab.cfglab .head b{font-size:14px;overflow-wrap:anywhere}
.cfglab.cfglab .soft,.cfglab.cfglab th,.cfglab.cfglab summary{color:var(--soft)}
.cfglab.cfglab p{margin:6px 0;font-size:13px}
.cfglab.cfglab code{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'Liberation Mono',monospace;color:inherit;
background:none;padding:0;border:0;overflow-wrap:anywhere}
.cfglab.cfglab a{color:var(--accent)}
.cfglab.cfglab .method{border-left:3px solid var(--rule);padding:0 0 0 12px;margin:10px 0 0}
.cfglab.cfglab .formula{font-size:13px;color:var(--accent);display:block;margin:2px 0}
.cfglab.cfglab .side{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:flex-start}
.cfglab.cfglab .line{display:flex;align-items:center;gap:8px}
.cfglab.cfglab .side>*{flex:1 1 300px;min-width:0;max-width:430px}
.cfglab.cfglab table{border-collapse:collapse;margin:4px 0;font-size:12.5px;border:0;width:auto;display:table;
table-layout:auto;color:inherit;background:none;min-width:0}
.cfglab.cfglab table tr:nth-child(n){background:none;border:0;text-align:left}
.cfglab.cfglab table tr:nth-child(n)>*{border:0;border-bottom:1px solid var(--rule);padding:3px 10px 3px 0;
text-align:left;vertical-align:middle;background:none;font-weight:normal;max-width:none;font-variant-numeric:tabular-nums;min-width:0}
.cfglab.cfglab table tr:nth-child(n)>.num{text-align:right;white-space:nowrap}
.cfglab.cfglab table tr.strong:nth-child(n)>*{font-weight:600}
.cfglab.cfglab tbody tr:last-child>*{border-bottom:0}
.cfglab.cfglab td>svg{display:block;max-width:none}
.cfglab.cfglab svg.cfglab-plot{display:block;width:400px;height:auto;max-width:100%;background:none}
.cfglab.cfglab summary{cursor:pointer;margin-top:4px}
"""


class Html(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


def html_of(text: object) -> Html:
    """Return a text as HTML: escaped, with control characters written out; Html is returned as it is.

    Args:
        text: any value; its `str` is shown.
    """
    return text if isinstance(text, Html) else Html(escape(inline(str(text))))


def card(title: object, *parts: Html, about: Iterable[object] = ()) -> Html:
    """Return a card with a title, facts beside it, and its parts, with the colours for light and dark.

    Args:
        title: the title; text is escaped.
        parts: the contents, from above to below.
        about: short facts beside the title; text is escaped.
    """
    beside = "".join(f'<span class="soft">{html_of(fact)}</span>' for fact in about)
    style = f"<style>{theme('.cfglab')}{_RULES}</style>"
    return Html(
        f'<div class="cfglab">{style}<div class="head"><b>{html_of(title)}</b>{beside}</div>{"".join(parts)}</div>'
    )


def details(summary: object, content: Html) -> Html:
    """Return content that a click opens.

    Args:
        summary: the line that is always shown; text is escaped.
        content: the content.
    """
    return Html(f"<details><summary>{html_of(summary)}</summary>{content}</details>")


def text_of_error(error: Exception) -> str:
    """Return an error as one line, for the place of what could not be shown.

    Args:
        error: the error.
    """
    return " ".join(str(error).split()) or type(error).__name__


def bundle(
    text: str,
    draw: Callable[[], Html],
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
) -> Bundle:
    """Return what `_repr_mimebundle_` returns. It never raises: where drawing fails, the text remains.

    Args:
        text: the object as plain text.
        draw: returns the object as HTML; called where HTML is asked for.
        include: the MIME types to include; None is all.
        exclude: the MIME types to leave out.

    Returns:
        MIME type -> content: text/plain, then text/html. No third type: marimo shows one tab for each.
    """
    makers: dict[str, Callable[[], str]] = {"text/plain": lambda: text, "text/html": lambda: str(draw())}
    contents: Bundle = {}
    for mime, make in makers.items():
        if (include is None or mime in include) and mime not in (exclude or ()):
            try:
                contents[mime] = make()
            except Exception:  # a cell that shows an object must not fail: its text is there
                continue
    return contents
