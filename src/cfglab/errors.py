"""The errors a user meets. Every message repeats the value, states the rule and offers the next step, on one line."""

import errno
import re
from collections.abc import Iterator

from cfglab.terminal import one_line


class CfglabError(Exception):
    """Base of all errors raised on purpose. The command line prints the message and exits with `exit_code`.

    A message may repeat what stands in a file: as text it is one line, with control characters written out.
    """

    exit_code = 2

    def __str__(self) -> str:
        return one_line(super().__str__())


class InputError(CfglabError, ValueError):
    """What was asked for is wrong: a value, a name, a file, a folder."""


class DownloadNeeded(InputError):
    """A file names a hub model that is not in the cache, and nobody has agreed to download it."""


class NotMatchable(InputError):
    """A schedule cannot reach the wanted dose within the limit on its scale."""


class NotFinite(InputError):
    """A prediction became NaN: the network or the guidance overflowed."""


class MachineError(CfglabError):
    """The machine failed: a full disk, a folder that cannot be written, memory."""

    exit_code = 1


_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|insufficient memory|can(?:no|')t allocate|unable to allocate|failed to allocate"
    r"|failed to map segment|bad_alloc|alloc_failed|alloc_cpu|can't start new thread|can't allocate lock",
    re.IGNORECASE,
)
"""How torch, numpy, CUDA, mmap, threads and the loader of shared libraries say that there is no memory."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from, the nearest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def lacks_memory(error: BaseException) -> bool:
    """Whether this error itself says that memory was too small."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return not isinstance(error, CfglabError) and bool(_NO_MEMORY.search(str(error)))


def is_memory_error(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, says that memory was too small."""
    return any(map(lacks_memory, causes(error)))
