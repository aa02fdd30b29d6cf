"""How many candidates a choice among starting noises may have. Loads no torch."""

from typing import Any

from cfglab.errors import InputError

MOST = 64
"""The most candidates of one prompt."""
EARLY = 5
"""Steps that candidates run, by default."""


def check_candidates(best_of: Any, early: Any) -> None:
    """Raise InputError if there cannot be so many candidates, or they cannot be compared by so many steps.

    Args:
        best_of: the number of candidates, 1 to 64.
        early: the number of steps that they run, 1 or more.

    Raises:
        InputError: if one of them is out of range.
    """
    check_number("best_of", best_of, 1, MOST)
    check_number("early", early, 1, None)


def check_number(name: str, value: Any, low: int, high: int | None) -> None:
    """Raise InputError if a value is no whole number from `low` to `high`; None is no limit."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        limit = f"{low} or more" if high is None else f"from {low} to {high}"
        raise InputError(f"{name}={value!r}: it is a whole number {limit}; write {name}={low}.")
