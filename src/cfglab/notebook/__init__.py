"""HTML and small figures for notebooks, without scripts, matplotlib or templates: what objects draw themselves with."""

from cfglab.notebook.card import Bundle, Html, bundle, card, details, html_of, text_of_error
from cfglab.notebook.marks import interval_bar, sparkline
from cfglab.notebook.tables import TableContent, facts, table

__all__ = [
    "Bundle",
    "Html",
    "TableContent",
    "bundle",
    "card",
    "details",
    "facts",
    "html_of",
    "interval_bar",
    "sparkline",
    "table",
    "text_of_error",
]
