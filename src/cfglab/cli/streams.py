"""The three standard streams as they may be: closed, without a reader, on a full disk, in another encoding."""

import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from cfglab.errors import InputError, MachineError


def prepare() -> None:
    """Make the streams usable: a closed one leads nowhere, and what an encoding lacks is shown as ?.

    A closed stream's number would otherwise be given to the next file, and what a library prints would go there.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free, which is this one
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115, PTH123
            setattr(sys, name, nowhere)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def check_texts(arguments: Sequence[str]) -> None:
    """Raise InputError for an argument that is no text: bytes other than UTF-8 would reach prompts and pages."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = argument.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise InputError(
                f"argument '{shown}': is not UTF-8 text; write it in UTF-8 (a file of such a name: rename it)."
            ) from None


def reader_left() -> bool:
    """Whether nobody reads the standard output any more. Python keeps no word of a write that has failed before."""
    import select

    if not written():
        return True
    if not hasattr(select, "poll"):  # Windows, where only the standard output is a pipe that breaks
        return True
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return False


def written() -> bool:
    """Write what is left to the standard output; False where its reader has left.

    Raises MachineError where it cannot be written, as on a full disk.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except ValueError:  # it was closed
        return True
    except OSError as error:
        _lead_nowhere(sys.stdout, 1)
        if error.errno in (errno.EPIPE, errno.EINVAL, errno.ESHUTDOWN):  # EINVAL is Windows' word for it
            return False
        raise MachineError(
            f"the standard output cannot be written ({error.strerror or error}); free some space, or write elsewhere."
        ) from error
    return True


def finish() -> None:
    """Before Python ends: what cannot be written any more goes nowhere, or Python would try it and complain."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            _lead_nowhere(stream, number)


def _lead_nowhere(stream: TextIO, number: int) -> None:
    try:
        if stream.fileno() == number:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    except (OSError, ValueError):
        pass
