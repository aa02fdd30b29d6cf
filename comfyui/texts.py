"""The texts that nodes take, and the one line that says what is wrong with one."""

from collections.abc import Callable
from typing import Any

from cfglab import Guidance, InputError, as_schedule


def guidances_of(lines: str) -> list[Guidance]:
    """The guidances of a list.

    Args:
        lines: One guidance a line; empty lines count for nothing.

    Returns:
        The guidances, one at least.

    Raises:
        InputError: There is none, or a line is none.
    """
    guidances = [Guidance(line.strip()) for line in lines.splitlines() if line.strip()]
    if not guidances:
        raise InputError("an empty list of guidances: one a line is needed; write 7.5 in the first line.")
    return guidances


READERS: dict[str, Callable[[str], Any]] = {
    "CfglabGuidance": Guidance,
    "CfglabGuidanceList": guidances_of,
    "CfglabSchedule": as_schedule,
}
"""How a node reads its text, by the id of the node: before a run, and while the text is typed."""


def fault_of(node: str, text: str) -> str:
    """What is wrong with the text of a node.

    Args:
        node: The id of the node.
        text: The text.

    Returns:
        One line; empty where nothing is wrong, or where the node takes no such text.
    """
    try:
        READERS.get(node, str)(text)
    except InputError as error:
        return str(error)
    return ""
