"""Files that are written whole or not at all, one writer for each folder, and one-line errors of the file system."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from time import sleep

from cfglab.errors import CfglabError, InputError, MachineError
from cfglab.limits import NAME_CHARACTERS

LOCK = ".lock"
SESSION = ".session.json"
STOP = ".stop"
AGAIN = 0.05  # seconds after which a lock that is taken is tried again: a reader may only have looked at it
PATIENCE = 10.0  # seconds in which a file system answers whether a lock is free


def refuse(path: Path, error: OSError) -> CfglabError:
    """Return the one-line error for a file or folder that could not be written."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        return MachineError(f"{path}: the disk is full; free some space and run again.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return InputError(f"{path}: a run is a folder, but there is a file in the way; move it, or use another folder.")
    if error.errno == errno.ENOMEM:
        return MachineError(f"{path}: the machine is out of memory; free some and run again.")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return MachineError(f"{path}: too many files are open; close some, or raise ulimit -n, and run again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(f"{path}: cannot be written ({reason}); make its folder writable, or use another folder.")
    return MachineError(f"{path}: cannot be written ({reason}); look after the disk, or use another folder.")


_UNSAFE = re.compile(r"""[^\w .,=+()\[\]{}'!@#$%&~^;-]""")
_DEVICES = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])(?:\..*)?", re.IGNORECASE
)


def folder_name(name: str, field: str = "name") -> str:
    """Return a user's text as the name of one folder, on this system and others.

    Args:
        name: the text.
        field: what the text names, for the error.

    Raises:
        InputError: if it cannot be the name of a folder.
    """
    rule = ""
    if not name.strip():
        rule = "it is empty"
    elif len(name) > NAME_CHARACTERS or len(os.fsencode(name)) > 2 * NAME_CHARACTERS:
        rule = f"a folder's name has at most {NAME_CHARACTERS} characters"
    elif name.startswith((".", " ", "-", "~")) or name.endswith((".", " ")):
        rule = "a folder's name begins with no dot, blank, hyphen or tilde and ends with no dot or blank"
    elif match := _UNSAFE.search(name):
        rule = f"a folder's name has no {match[0]!r}"
    elif _DEVICES.fullmatch(name.partition(".")[0].strip()):
        rule = "Windows keeps that name for a device"
    if rule:
        shown = repr(name if len(name) <= 60 else f"{name[:60]}…")
        raise InputError(f"{field} {shown}: names the run's folder, and {rule}; give another name, or --out DIR.")
    return name


def check_target(path: Path) -> None:
    """Raise InputError if no file can be written at a path: it is a folder or a device, or its folder is missing."""
    try:
        if not path.name:
            raise InputError(f"{path}: is no file's name; name a file.")
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a device or a pipe"
            raise InputError(f"{path}: is {kind}; name a file.")
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it, or name another.")
    except OSError as error:
        raise refuse(path, error) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there completely or not at all: a temporary file, fsync, rename.

    Args:
        path: the file; an earlier one is replaced.
        content: its bytes.

    Raises:
        InputError: if a folder or a device is at the path, or its folder is missing.
        MachineError: if it cannot be written (full disk, no permission); an earlier file stays as it was.
    """
    check_target(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise refuse(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101
        os.replace(temporary, path)
    except OSError as error:
        raise refuse(path, error) from error
    finally:
        with suppress(OSError):  # the next run removes what is left
            Path(temporary).unlink(missing_ok=True)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder. A crash releases it: the kernel holds it, not the file.

    Args:
        folder: the run folder; it is made if it does not exist.

    Raises:
        InputError: if another process, or another run of this process, is writing there.
        MachineError: if the folder cannot be made or its file system gives no locks.
    """
    from filelock import unlock_descriptor

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
    except OSError as error:
        raise refuse(folder, error) from error
    try:
        if not _locked(folder, file):
            sleep(AGAIN)
            if not _locked(folder, file):
                raise InputError(
                    f"{folder}: {_holder(file)} is writing there; one writer a run: wait for it, or choose another "
                    "--out."
                )
        _write_holder(folder, file)
        yield
        with suppress(OSError):  # closing the file unlocks it as well
            unlock_descriptor(file)
    finally:
        os.close(file)


def is_locked(folder: Path) -> bool:
    """Return whether a process is writing in a run folder now, by the lock itself: a crash leaves none.

    To look takes the lock for a moment; a writer that begins just then tries again.

    Args:
        folder: the run folder.
    """
    from filelock import unlock_descriptor

    for mode in (os.O_RDWR, os.O_RDONLY):  # a folder of somebody else
        try:
            file = os.open(folder / LOCK, mode | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
            break
        except PermissionError:
            continue
        except OSError:
            return False
    else:
        return False
    try:
        free = _locked(folder, file)
        if free:
            unlock_descriptor(file)
        return not free
    except (OSError, MachineError):  # no locks here, so nobody has one
        return False
    finally:
        os.close(file)


def _locked(folder: Path, file: int) -> bool:
    """Whether this process has the lock now; False if another one has it.

    The lock is requested in a thread of its own: on a network that is gone the call never returns.
    """
    from filelock import lock_descriptor

    answers: list[bool | OSError] = []

    def ask() -> None:
        try:
            answers.append(lock_descriptor(file, blocking=False))
        except OSError as error:
            answers.append(error)

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if not answers:
        raise MachineError(
            f"{folder}: its file system does not answer when it is asked for a lock; look after the disk or the "
            "network, or choose an --out on another disk."
        )
    answer = answers[0]
    if isinstance(answer, OSError):
        raise MachineError(
            f"{folder}: its file system gives no lock ({answer.strerror or answer}), and a run has one writer; choose "
            "an --out on another disk, a local one."
        ) from answer
    return answer


def _holder(file: int) -> str:
    """The process that has the lock, as it wrote it; Windows' locks make the first byte unreadable."""
    for start in (0, 1):
        with suppress(OSError):
            os.lseek(file, start, os.SEEK_SET)
            text = os.read(file, 32).strip()
            return f"process {text.decode()}" if text.isdigit() else "another process"
    return "another process"


def _write_holder(folder: Path, file: int) -> None:
    try:
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, b" %d" % os.getpid())
    except OSError as error:
        raise refuse(folder / LOCK, error) from error


def remove_temp_files(folder: Path) -> None:
    """Remove the temporary files that a crash left in a folder."""
    with suppress(OSError):  # they do no harm
        for torn in folder.glob(".*.tmp"):
            torn.unlink(missing_ok=True)
