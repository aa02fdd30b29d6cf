"""Text from files, shown in a terminal: control characters are written out and never sent.

A prompt, a setting's name, a version in an image's record or a model's configuration may hold escape sequences that
clear the screen, set the window's title, or turn the direction of text around. `VisibleStream` stands between the
command line and the terminal, and `console` makes the consoles of rich, whose own colours and cursor moves go through.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

_SUSPECT = re.compile(r"[^ -~\n\t]")
_SUSPECT_IN_LINE = re.compile(r"[^ -~]")
_BLANKS = re.compile(r"[ \t\r\n]+")
_CONTROL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"
"""Zero-width joiners spell words of Persian and Indic scripts, and emoji: shown as they are after such a character."""
_UPWARDS = re.compile(r"(?:\x1b\[A)+")
"""How progress bars of other libraries go back to a line further up: written alone."""


def visible(text: str) -> str:
    r"""The text with its control characters written out, as \x1b; line feeds and tabs stay.

    Control characters are those of Unicode's categories Cc (C0, DEL, C1), Cf (direction marks, zero-width characters),
    Cs (lone surrogates), Zl and Zp (line and paragraph separators).
    """
    return _SUSPECT.sub(_written_out, text)


def inline(text: str) -> str:
    r"""As `visible`, with line feeds and tabs written out too, for a cell of a table: never more than one line."""
    return _SUSPECT_IN_LINE.sub(_written_out, text)


def one_line(text: str) -> str:
    """A message as one line: line ends and tabs are a blank, other control characters are written out."""

    def joined(blanks: re.Match[str]) -> str:
        return " " if blanks[0].strip(" ") else blanks[0]

    return inline(_BLANKS.sub(joined, text.strip(" \t\r\n")))


def _written_out(found: re.Match[str]) -> str:
    character = found[0]
    if unicodedata.category(character) not in _CONTROL:
        return character
    if character in _JOINERS and found.start() and not found.string[found.start() - 1].isascii():
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class VisibleStream:
    """A text stream that writes control characters out, see `visible`. Everything else is the stream's own.

    On a terminal the progress bars of other libraries keep working: their carriage return at the start of a write, and
    moves upwards written alone, go through.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unfiltered = stream

    def write(self, text: str) -> int:
        """Write the text, visibly."""
        kept = ""
        if text.startswith(("\r", "\x1b[A")) and self.unfiltered.isatty():
            kept = text if _UPWARDS.fullmatch(text) else "\r" * text.startswith("\r")
        self.unfiltered.write(kept + visible(text.removeprefix(kept)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write every line, visibly."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name in ("buffer", "unfiltered"):  # bytes would go around the filter
            raise AttributeError(name)
        return getattr(self.unfiltered, name)


@contextmanager
def visible_streams() -> Iterator[None]:
    """Standard output and error write control characters out within."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", VisibleStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def console(*, stderr: bool = False, **options: Any) -> "Console":
    """A console of rich on the unfiltered stream: its own codes go through, the text that it shows is visible text."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class VisibleConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(visible(segment.text), segment.style)

    stream: Any = sys.stderr if stderr else sys.stdout
    while isinstance(stream, VisibleStream):
        stream = stream.unfiltered
    return VisibleConsole(file=stream, **options)
