"""Files are read here: regular files only, up to a size, as bytes, text or JSON.

Every fault is an OSError whose `strerror` is a reason for people, so that a caller has one kind to catch and adds what
the file is for.
"""

import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO

from cfglab.errors import InputError

_KINDS = (
    (stat.S_ISDIR, errno.EISDIR, "it is a folder"),
    (stat.S_ISFIFO, errno.EINVAL, "it is a pipe (FIFO), not a file"),
    (stat.S_ISSOCK, errno.EINVAL, "it is a socket, not a file"),
    (stat.S_ISCHR, errno.EINVAL, "it is a device, not a file"),
    (stat.S_ISBLK, errno.EINVAL, "it is a device, not a file"),
)
_OTHER_ENCODINGS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file for reading. Raises OSError for anything else, which is not opened: a pipe would wait."""
    try:
        _refuse_others(os.stat(path), path)  # noqa: PTH116 (a Path would not say more)
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(path, flags)
    except ValueError as error:  # a NUL character, or half of a surrogate pair
        raise OSError(errno.EINVAL, "it is no file's name", str(path)) from error
    try:
        _refuse_others(os.fstat(handle), path)  # another file may stand there by now
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path | str, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises OSError."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else b""
    if size > limit or len(content) > limit:
        size = max(size, len(content))
        raise OSError(errno.EFBIG, f"it has {size:,} bytes, and at most {limit:,} are read", str(path))
    return content


def read_text(path: Path | str, limit: int) -> str:
    """The content of a UTF-8 text file of at most `limit` bytes, without a byte order mark. Raises OSError."""
    content = read_bytes(path, limit)
    for mark, name in _OTHER_ENCODINGS:
        if content.startswith(mark):
            raise OSError(errno.EILSEQ, f"it is {name}, not UTF-8 text", str(path))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text: byte 0x{content[error.start]:02x} at offset {error.start}"
        raise OSError(errno.EILSEQ, reason, str(path)) from error
    if "\0" in text:
        offset = content.index(b"\0")
        raise OSError(errno.EILSEQ, f"not text: byte 0x00 at offset {offset}", str(path))
    return text.removeprefix("\ufeff")


def read_json(path: Path | str, limit: int) -> Any:
    """The JSON value in a file of at most `limit` bytes. Raises OSError."""
    text = read_text(path, limit)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise OSError(errno.EINVAL, "it is nested too deeply", str(path)) from error
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), str(path)) from error


def lines_of(text: str) -> list[str]:
    r"""The lines of a text, which end with \n, \r\n or \r: not with a form feed or one of Unicode's separators."""
    lines = re.split("\r\n|\r|\n", text)
    return lines[:-1] if lines[-1] == "" else lines


def last_line(text: str) -> str:
    """The last line of a text, such as the one of a traceback that says what was wrong; "" of an empty one."""
    lines = lines_of(text.strip())
    return lines[-1] if lines else ""


def user_path(text: str | Path) -> Path:
    """A path as a person writes it: `~` is the home folder, also where no shell has replaced it, as in --out=~/x.

    Raises OSError for what is no text and no Path, an empty one, what cannot be a path, and the home of a person who
    is not known.
    """
    if not isinstance(text, str | os.PathLike):
        raise OSError(errno.EINVAL, f"it is a {type(text).__name__}, and a path is text", str(text))
    if not str(text):
        raise OSError(errno.ENOENT, "it is empty", "")
    if "\0" in str(text):
        raise OSError(errno.EINVAL, "it holds a NUL character", str(text))
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise OSError(errno.ENOENT, "there is no such home folder", str(text)) from error


def given_path(value: Any) -> Path:
    """A path that is given in Python, as `user_path` reads it.

    Args:
        value: Text or a Path.

    Returns:
        The path, with `~` replaced.

    Raises:
        InputError: It is none.

    Examples:
        >>> given_path("runs/mine").name
        'mine'
    """
    try:
        return user_path(value)
    except OSError as error:
        raise InputError(f"path {repr(value)[:60]}: {error.strerror}; give one such as runs/mine.") from None


def _refuse_others(status: os.stat_result, path: Path | str) -> None:
    for is_kind, number, words in _KINDS:
        if is_kind(status.st_mode):
            raise OSError(number, words, str(path))
