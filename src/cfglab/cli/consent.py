"""Questions on the terminal: before a download, and before a very large experiment."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from cfglab.errors import DownloadNeeded, InputError

if TYPE_CHECKING:
    from cfglab.experiments.spec.cost import Cost

T = TypeVar("T")


def with_download_consent(call: Callable[[bool], T], allowed: bool) -> T:
    """Call a function that may need to download a model of the hub; ask first if the download was not allowed.

    Args:
        call: the function; its argument says whether it may download.
        allowed: whether the download was allowed by an option.

    Returns:
        What `call` returns.

    Raises:
        InputError: if the download was declined, or nobody can be asked.
    """
    try:
        return call(allowed)
    except DownloadNeeded as error:
        if not sys.stdin.isatty():
            raise
        if not _confirm(f"{error} Download it?"):
            raise InputError("not downloaded; give a model that is here.") from None
    return call(True)


def confirm_cost(yes: bool, cost: "Cost") -> None:
    """Ask before a very large experiment.

    Args:
        yes: whether the experiment starts without a question.
        cost: the cost of the experiment.

    Raises:
        InputError: if the answer is no, or nobody can be asked.
    """
    if yes or not cost.large:
        return
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        raise InputError(f"{cost}; start that with --yes, or give fewer prompts, seeds or settings.")
    if not _confirm(f"{cost}. Start?"):
        raise InputError("not started; give fewer prompts, seeds or settings.")


def _confirm(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C, or the end of the input
        return False
