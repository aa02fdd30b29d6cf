"""`results.sqlite` of a run folder: made whole, opened for reading or for writing, and its faults in one line."""

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
from cfglab.experiments.storage.files import LOCK, refuse

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
    """A seed as the database keeps it: an integer, or from 2**63 on hexadecimal text of a fixed width.

    Both compare as numbers do, and SQLite sorts texts after integers, so the order is that of the seeds.
    """
    return seed if seed < SIGNED else f"0x{seed:016x}"


def seed_read(stored: object) -> object:
    """The seed that `seed_stored` wrote; anything else as it is, for validation to refuse."""
    return int(stored, 16) if isinstance(stored, str) and _HEX.fullmatch(stored) else stored


def begin(folder: Path, experiment: str) -> None:
    """Make the results of a new run, which hold its experiment (JSON) from the moment they are there.

    Whatever stops it, a crash or a full disk, leaves no file that is in the way of the next attempt. The log of results
    that were deleted is removed: SQLite would take it for one of the new file.
    """
    try:
        _remove_torn(folder)
        for name in _LOGS:
            (folder / name).unlink(missing_ok=True)
        with closing(sqlite3.connect(folder / _NEW, isolation_level=None)) as database:
            database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT};")
            database.execute("INSERT INTO meta VALUES ('experiment', ?)", (experiment,))
            database.execute("INSERT INTO meta VALUES (?, '1')", (INFOTEXT,))
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
    """A connection that writes. Raises InputError, and changes nothing, where a newer cfglab made the file."""
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
    """A read-only connection; on a medium where even the WAL's index cannot be made, the file as it lies there."""
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
    """Which file lies at a path, and how long it is: what tells that it was deleted, replaced or cut meanwhile."""

    file: tuple[int, int]
    size: int

    @classmethod
    def of(cls, path: Path, before: Self | None = None) -> Self:
        """Raises MachineError where it is not the file that it was before, or is shorter."""
        try:
            found = path.stat()
        except FileNotFoundError as error:
            raise MachineError(
                f"{path}: was deleted while it was written; run again, which draws every image anew."
            ) from error
        except OSError as error:
            raise refuse(path, error) from error
        now = cls((found.st_dev, found.st_ino), found.st_size)
        if not stat.S_ISREG(found.st_mode) or (before and now.file != before.file):
            raise MachineError(f"{path}: was replaced by something else while it was written; {ANEW}.")
        if before and now.size < before.size:
            raise MachineError(f"{path}: was cut short while it was written; {ANEW}.")
        return now


def refuse_newer(path: Path, database: sqlite3.Connection) -> None:
    """Raises InputError for a file of a later format than this."""
    (found,) = database.execute("PRAGMA user_version").fetchone()
    if found > FORMAT:
        raise InputError(
            f"{path.parent}: a newer cfglab wrote this run (format {found}, this one knows {FORMAT}); update cfglab, "
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
"""What holds in every row of a table; SQLite itself lets any value stand anywhere."""


def check_rows(path: Path, database: sqlite3.Connection) -> None:
    """Raise InputError where a row is not what is written here: a million of them take tenths of a second."""
    there = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table, rule in _WHOLE.items():
        if table in there:
            query = f"SELECT * FROM {table} WHERE NOT ifnull({rule}, 0) LIMIT 1"
            if row := database.execute(query).fetchone():
                shown = ", ".join(f"{value!r:.20}" for value in row[:3])
                raise InputError(f"{path}: a row is damaged ({table}: {shown}, …); {ANEW}.")


def check_free(folder: Path) -> list[str]:
    """What a folder without results holds, leaving out what a run that was only begun has there.

    Raises InputError where the folder, or what lies in place of the results, is something else.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: a run is a folder, but this is a file; choose another --out.")
        if os.path.lexists(folder / DATABASE) and not (folder / DATABASE).is_file():
            raise InputError(f"{folder / DATABASE}: is no file; remove it, or choose another --out.")
        names = [entry.name for entry in folder.iterdir()] if folder.exists() else []
    except OSError as error:
        raise refuse(folder, error) from error
    return [name for name in names if name != LOCK and not name.startswith(_NEW)]


@contextmanager
def plain_errors(folder: Path) -> Iterator[None]:
    """Say what is wrong with the database in one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise explained(folder / DATABASE, error) from error


def explained(path: Path, error: sqlite3.Error, remedy: str = ANEW) -> CfglabError:
    """The one line for an error of a database; `remedy` is what to do with one that is damaged."""
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
