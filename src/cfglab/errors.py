"""The errors a user meets. Every message repeats the value, states the rule and offers the next step, on one line."""

import errno
import re
from collections.abc import Iterator

from cfglab.terminal import one_line


class CfglabError(Exception):
    """Base class of all errors that cfglab raises on purpose.

    The command line prints the message and exits with `exit_code`. The message is always one line: control characters,
    for example from a file that it quotes, are escaped.

    Attributes:
        exit_code: The exit code of the command line, 2; 1 for a MachineError.
    """

    exit_code = 2

    def __str__(self) -> str:
        return one_line(super().__str__())


class InputError(CfglabError, ValueError):
    """An input is wrong: a value, a name, a file, or a folder. It is a ValueError too.

    Examples:
        >>> from cfglab import InputError, parse
        >>> try:
        ...     parse("cosin(max=7.5)")
        ... except InputError as error:
        ...     print(str(error).endswith("did you mean cosine?"))
        True
    """


class DownloadNeeded(InputError):
    """A file names a model of the Hugging Face hub that is not in the cache, and no download was allowed."""


class NotMatchable(InputError):
    """A schedule cannot reach the requested dose within the limit on its scale (see `Schedule.matched_to`)."""


class NotFinite(InputError):
    """A prediction became NaN: the network or the guidance overflowed."""


class NoNoiseLevel(InputError):
    """A schedule or a method reads the noise level or the sample of a step, which this step does not have."""


class MachineError(CfglabError):
    """The machine failed: the disk is full, a folder is not writable, or memory is exhausted."""

    exit_code = 1


_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|insufficient memory|can(?:no|')t allocate|unable to allocate|failed to allocate"
    r"|failed to map segment|bad_alloc|alloc_failed|alloc_cpu|can't start new thread|can't allocate lock",
    re.IGNORECASE,
)
"""How torch, numpy, CUDA, mmap, threads and the loader of shared libraries say that there is no memory."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes.

    Args:
        error: An exception, or None.

    Returns:
        An iterator over the exceptions, from the error itself along `__cause__` and `__context__`; each is given once.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def lacks_memory(error: BaseException) -> bool:
    """Whether this error itself reports that there was not enough memory.

    Args:
        error: The exception; its causes are not considered.

    Returns:
        True for MemoryError, torch's OutOfMemoryError, ENOMEM, and known messages of other libraries.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return not isinstance(error, CfglabError) and bool(_NO_MEMORY.search(str(error)))


def is_memory_error(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, reports that there was not enough memory.

    Args:
        error: An exception, or None.

    Returns:
        True if `lacks_memory` holds for any of `causes(error)`.
    """
    return any(map(lacks_memory, causes(error)))
