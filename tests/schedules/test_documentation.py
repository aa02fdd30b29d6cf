"""The page about schedules says what the code does."""

import doctest
from pathlib import Path

import cfglab.schedules.parser

PAGE = Path(__file__).parents[2] / "docs" / "schedules.md"


def test_the_page_runs():
    """Its numbers and its messages, word for word."""
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 15
    assert failed == 0


def test_docstrings_run():
    assert doctest.testmod(cfglab.schedules.parser).failed == 0
