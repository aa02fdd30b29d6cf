"""The errors a user meets. Every message repeats the value, states the rule and offers the next step, on one line."""

import errno

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


_NO_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "unable to allocate",
    "failed to allocate",
)
"""How torch, numpy, CUDA, mmap and the loader of shared libraries say it."""


def is_memory_error(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, says that memory was too small."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if not isinstance(error, InputError) and any(words in str(error).lower() for words in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False
