"""`results.sqlite` of a run folder: making it, opening it for reading or writing, and its errors in one line."""

import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from cfglab.errors import CfglabError, InputError, MachineError
from cfglab.experiments.spec.batching import PLAN
from cfglab.experiments.storage.files import LOCK, SESSION, STOP, refuse

DATABASE = "results.sqlite"
FORMAT = 1  # of the tables; 0 in files of before it was written
INFOTEXT = "infotext"
"""The key that says that the images of this run carry infotext; runs from before that go on without it."""
_NEW = f".{DATABASE}.tmp"
_LOGS = tuple(f"{DATABASE}-{kind}" for kind in ("wal", "shm", "journal"))
ANEW = "restore it, or delete it and run again, which draws every image anew, or choose another --out"
_HEX = re.compile("0x[0-9a-f]{16}")
SIGNED = 2**63  # where SQLite's integers end
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (
    position INTEGER PRIMARY KEY, cell TEXT NOT NULL, setting TEXT NOT NULL,
    prompt TEXT NOT NULL, seed INTEGER NOT NULL, status TEXT NOT NULL, image TEXT, error TEXT,
    settled INTEGER NOT NULL, sha256 TEXT, rows_run REAL NOT NULL, rows_saved REAL NOT NULL);
CREATE TABLE IF NOT EXISTS metrics (
    cell TEXT NOT NULL, metric TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (cell, metric)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS set_metrics (
    setting TEXT NOT NULL, metric TEXT NOT NULL, value REAL NOT NULL, low REAL, high REAL, n INTEGER NOT NULL,
    PRIMARY KEY (setting, metric)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS set_parts (
    setting TEXT NOT NULL, metric TEXT NOT NULL, parts TEXT NOT NULL, PRIMARY KEY (setting, metric)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS traces (cell TEXT PRIMARY KEY, trace BLOB NOT NULL);
"""


def seed_stored(seed: int) -> int | str:
    """Return a seed as the database keeps it: an integer, or from 2**63 on hexadecimal text of a fixed width.

    Both compare as numbers do, and SQLite sorts texts after integers, so the order is that of the seeds.

    Examples:
        >>> seed_stored(7), seed_stored(2**63)
        (7, '0x8000000000000000')
    """
    return seed if seed < SIGNED else f"0x{seed:016x}"


def seed_read(stored: object) -> object:
    """Return the seed that `seed_stored` wrote; any other value as it is, for validation to refuse."""
    return int(stored, 16) if isinstance(stored, str) and _HEX.fullmatch(stored) else stored


def begin(folder: Path, experiment: str) -> None:
    """Make the results of a new run; the file has the experiment from the start.

    A crash or a full disk leaves no file that is in the way of the next attempt. The log of results that were deleted
    is removed, because SQLite would apply it to the new file.

    Args:
        folder: the run folder.
        experiment: the experiment as JSON.

    Raises:
        MachineError: if the folder cannot be written.
    """
    try:
        _remove_torn(folder)
        for name in _LOGS:
            (folder / name).unlink(missing_ok=True)
        with closing(sqlite3.connect(folder / _NEW, isolation_level=None)) as database:
            database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT};")
            database.execute("INSERT INTO meta VALUES ('experiment', ?)", (experiment,))
            database.execute("INSERT INTO meta VALUES (?, '1')", (INFOTEXT,))
            database.execute("INSERT INTO meta VALUES ('plan', ?)", (PLAN,))
            database.execute("COMMIT")
        os.replace(folder / _NEW, folder / DATABASE)
    except OSError as error:
        raise refuse(folder / DATABASE, error) from error
    finally:
        _remove_torn(folder)


def _remove_torn(folder: Path) -> None:
    for torn in folder.glob(f"{_NEW}*"):
        torn.unlink(missing_ok=True)


def connect_writer(path: Path) -> sqlite3.Connection:
    """Return a connection that writes.

    Raises:
        InputError: if a newer cfglab made the file, which is not changed then.
    """
    database = sqlite3.connect(path, isolation_level=None)
    try:
        refuse_newer(path, database)
        database.execute("PRAGMA journal_mode=WAL")
        database.executescript(_SCHEMA)  # tables that older files do not have
    except BaseException:
        database.close()
        raise
    return database


def connect_reader(path: Path) -> sqlite3.Connection:
    """Return a read-only connection; where the index of the WAL cannot be made, to the file as it is."""
    address = _address(path)
    database = sqlite3.connect(f"{address}?mode=ro", uri=True, isolation_level=None)
    try:
        database.execute("SELECT count(*) FROM meta")
    except sqlite3.OperationalError as error:
        database.close()
        if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        database = sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True, isolation_level=None)
    return database


def _address(path: Path) -> str:
    """A file as SQLite's URI. `Path.as_uri` names the server of a Windows share as a host, which SQLite refuses."""
    whole = path.resolve().as_posix()
    return f"file://{'' if whole.startswith('/') else '/'}{quote(os.fsencode(whole), safe='/:')}"


@dataclass(frozen=True)
class Identity:
    """Which file is at a path, and how long it is: shows whether it was deleted, replaced or cut meanwhile.

    Attributes:
        file: device and inode.
        size: bytes.
    """

    file: tuple[int, int]
    size: int

    @classmethod
    def of(cls, path: Path, before: Self | None = None) -> Self:
        """Read the identity of a file.

        Args:
            path: the file.
            before: its identity before.

        Raises:
            MachineError: if it is not the same file as before, or is shorter.
        """
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise MachineError(
                f"{path}: was deleted while it was written; run again, which draws every image anew."
            ) from error
        except OSError as error:
            raise refuse(path, error) from error
        present = cls((status.st_dev, status.st_ino), status.st_size)
        if not stat.S_ISREG(status.st_mode) or (before and present.file != before.file):
            raise MachineError(f"{path}: was replaced by something else while it was written; {ANEW}.")
        if before and present.size < before.size:
            raise MachineError(f"{path}: was cut short while it was written; {ANEW}.")
        return present


def refuse_newer(path: Path, database: sqlite3.Connection) -> None:
    """Raise InputError if the file has a later format than FORMAT."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > FORMAT:
        raise InputError(
            f"{path.parent}: a newer cfglab wrote this run (format {version}, this one knows {FORMAT}); update cfglab, "
            "or choose another folder."
        )


_NUMBER = "typeof({0}) IN ('integer', 'real') AND abs({0}) < 9e999"
_WHOLE = {
    "results": (
        "typeof(position) = 'integer' AND position >= 0 AND typeof(cell) = 'text'"
        " AND typeof(setting) = 'text' AND typeof(prompt) = 'text' AND typeof(image) IN ('text', 'null')"
        " AND typeof(error) IN ('text', 'null')"
    ),
    "metrics": "typeof(cell) = 'text' AND typeof(metric) = 'text' AND typeof(value) IN ('integer', 'real')",
    "set_metrics": " AND ".join(
        [
            *("typeof(setting) = 'text'", "typeof(metric) = 'text'", _NUMBER.format("value"), "typeof(n) = 'integer'"),
            *(f"({name} IS NULL OR {_NUMBER.format(name)})" for name in ("low", "high")),
        ]
    ),
    "set_parts": "typeof(setting) = 'text' AND typeof(metric) = 'text' AND typeof(parts) = 'text'",
    "traces": "typeof(cell) = 'text' AND typeof(trace) = 'blob'",
}
"""A condition that every row of a table meets; SQLite itself accepts any value in any column."""


def check_rows(path: Path, database: sqlite3.Connection) -> None:
    """Raise InputError if a row does not meet its condition; a million rows take tenths of a second."""
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table, rule in _WHOLE.items():
        if table in tables:
            query = f"SELECT * FROM {table} WHERE NOT ifnull({rule}, 0) LIMIT 1"
            if row := database.execute(query).fetchone():
                shown = ", ".join(f"{value!r:.20}" for value in row[:3])
                raise InputError(f"{path}: a row is damaged ({table}: {shown}, …); {ANEW}.")


def check_free(folder: Path) -> list[str]:
    """Return the names in a folder without results, except the files of a run that was only begun.

    Args:
        folder: the run folder; it may be missing.

    Raises:
        InputError: if the folder, or the path of the results, is something else.
        MachineError: if the folder cannot be read.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: a run is a folder, but this is a file; choose another --out.")
        if os.path.lexists(folder / DATABASE) and not (folder / DATABASE).is_file():
            raise InputError(f"{folder / DATABASE}: is no file; remove it, or choose another --out.")
        names = [entry.name for entry in folder.iterdir()] if folder.exists() else []
    except OSError as error:
        raise refuse(folder, error) from error
    return [name for name in names if name not in (LOCK, SESSION, STOP) and not name.startswith(_NEW)]


@contextmanager
def plain_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the database into one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise explained(folder / DATABASE, error) from error


def explained(path: Path, error: sqlite3.Error, remedy: str = ANEW) -> CfglabError:
    """Return the error with one line for an error of a database.

    Args:
        path: the database file.
        error: the error of SQLite.
        remedy: the next step if the file is damaged.
    """
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        return MachineError(f"{path.parent}: the disk is full; free some space and run again.")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return InputError(f"{path}: is not a run's results, or damaged ({error}); {remedy}.")
    if code == sqlite3.SQLITE_READONLY:
        return MachineError(f"{path}: cannot be written ({error}); make it writable, or choose another --out.")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return MachineError(f"{path}: another program has it in use ({error}); wait for it and run again.")
    if code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT):  # no such table, or column
        return MachineError(f"{path}: is damaged, or was changed ({error}); {remedy}.")
    return MachineError(f"{path}: {error}; look after the folder and its disk, or choose another --out.")


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for an error of Python's module itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
