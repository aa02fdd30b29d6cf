"""Card: what a page about methods says of one, in a form that programs read. Loads no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Implementation:
    """Another program that has the method, and how its version differs; "" where it does not."""

    name: str
    differs: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """The facts about a published method. Its defaults, space and kind are those of the class that carries it."""

    title: str
    says: str
    """One line: what it does."""
    formula: str
    paper: str | None = None
    """The arXiv id, None where there is no paper."""
    source: str = ""
    """Where in the paper, or which code: an equation, a section, a file."""
    rows: str = "2"
    """Denoiser rows per guided step; plain CFG has 2."""
    defaults: str = ""
    """Where the defaults come from."""
    hosts: tuple[Implementation, ...] = ()
