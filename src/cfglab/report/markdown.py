"""Text of a user in Markdown: in prose, and as code, also in the cells of tables."""

from html import escape

_MARKS = {"|": "&#124;", "*": "&#42;", "[": "&#91;", "`": "&#96;"}


def text(given: str) -> str:
    """Text on one line that is no HTML and ends no cell.

    Args:
        given: the text.

    Examples:
        >>> text("a | <b>")
        'a &#124; &lt;b&gt;'
    """
    return escape(given, quote=False).replace("|", "&#124;").replace("\n", " ")


def code(given: str) -> str:
    """Text as code. A bar is an entity, which is read in `<code>` and not between backticks.

    Args:
        given: the text.

    Examples:
        >>> code("linear(max=8, min=2)")
        '`linear(max=8, min=2)`'
        >>> code("3 | apg()")
        '<code>3 &#124; apg()</code>'
    """
    if not any(mark in given for mark in "|`\n"):
        return f"`{given}`"
    marked = "".join(_MARKS.get(letter, letter) for letter in escape(given, quote=False))
    return f"<code>{marked}</code>".replace("\n", " ")
