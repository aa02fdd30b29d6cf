"""The standard streams, which may be closed, without a reader, on a full disk, or in an encoding other than UTF-8."""

import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from cfglab.errors import InputError, MachineError


def prepare() -> None:
    """Make the streams usable: a closed stream goes to the null device; characters missing in its encoding become ?.

    Otherwise the next file that is opened would get the number of the closed stream, and receive printed text.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free, which is this one
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            null = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115, PTH123
            setattr(sys, name, null)
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


def reader_closed() -> bool:
    """Whether the reader of the standard output has closed it; a failed write before is not recorded by Python."""
    import select

    if not flush():
        return True
    if not hasattr(select, "poll"):  # Windows, where only the standard output is a pipe that breaks
        return True
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return False


def flush() -> bool:
    """Write the buffered text to the standard output.

    Returns:
        False if its reader has closed it.

    Raises:
        MachineError: if it cannot be written, for example because the disk is full.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except ValueError:  # it was closed
        return True
    except OSError as error:
        _discard(sys.stdout, 1)
        if error.errno in (errno.EPIPE, errno.EINVAL, errno.ESHUTDOWN):  # EINVAL on Windows
            return False
        raise MachineError(
            f"the standard output cannot be written ({error.strerror or error}); free some space, or write elsewhere."
        ) from error
    return True


def finish() -> None:
    """Discard text that cannot be written; otherwise Python would try again at its end, and print a warning."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            _discard(stream, number)


def _discard(stream: TextIO, number: int) -> None:
    try:
        if stream.fileno() == number:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    except (OSError, ValueError):
        pass
