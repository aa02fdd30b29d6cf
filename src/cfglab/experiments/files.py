"""Files that are whole or not there, and one writer to a folder."""

import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cfglab.errors import CfglabError, InputError, MachineError
from cfglab.limits import NAME_CHARACTERS

LOCK = ".lock"


def refuse(path: Path, error: OSError) -> CfglabError:
    """The one-line error for a file or folder that the machine would not write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(f"{path}: the disk is full; free some space and run again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(f"{path}: cannot be written ({os.strerror(error.errno)}); choose another --out.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return InputError(f"{path}: a run is a folder, but there is a file in the way; choose another --out.")
    return MachineError(f"{path}: cannot be written ({error.strerror or error}); choose another --out.")


_UNSAFE = re.compile(r"""[^\w .,=+()\[\]{}'!@#$%&~^;-]""")
_DEVICES = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])(?:\..*)?", re.IGNORECASE
)


def folder_name(name: str, what: str = "name") -> str:
    """A user's name as the name of one folder, here and on other systems. Raises InputError where it cannot be one."""
    rule = ""
    if not name.strip():
        rule = "it is empty"
    elif len(name) > NAME_CHARACTERS or len(os.fsencode(name)) > 2 * NAME_CHARACTERS:
        rule = f"a folder's name has at most {NAME_CHARACTERS} characters"
    elif name.startswith((".", " ", "-", "~")) or name.endswith((".", " ")):
        rule = "a folder's name begins with no dot, blank, hyphen or tilde and ends with no dot or blank"
    elif found := _UNSAFE.search(name):
        rule = f"a folder's name has no {found[0]!r}"
    elif _DEVICES.fullmatch(name.partition(".")[0].strip()):
        rule = "Windows keeps that name for a device"
    if rule:
        shown = repr(name if len(name) <= 60 else f"{name[:60]}…")
        raise InputError(f"{what} {shown}: names the run's folder, and {rule}; give another name, or --out DIR.")
    return name


def check_target(path: Path) -> None:
    """Raise InputError where no file can be written at `path`: something else stands there, or there is no folder."""
    try:
        if not path.name:
            raise InputError(f"{path}: is no file's name; name a file.")
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "a device or a pipe"
            raise InputError(f"{path}: is {what}; name a file.")
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it, or name another.")
    except OSError as error:
        raise refuse(path, error) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there completely or not at all: a temporary file, fsync, rename.

    Raises MachineError where the machine cannot (full disk, no permission), leaving what was there before, and
    InputError where a folder or a device stands there.
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
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Be the one writer of a run folder. A crash releases the lock: the kernel holds it, not the file.

    Raises InputError when another process (or another run of this one) is writing there.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise refuse(folder, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise InputError(
                f"{folder}: process {holder} is writing there; one writer a run: wait for it, or choose another --out."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def sweep(folder: Path) -> None:
    """Remove the temporary files that a crash left in a folder."""
    for torn in folder.glob(".*.tmp"):
        torn.unlink(missing_ok=True)
