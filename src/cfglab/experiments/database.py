"""`results.sqlite` of a run folder: made whole, opened for reading or for writing, and its faults in one line."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cfglab.errors import InputError, MachineError
from cfglab.experiments.files import LOCK, refuse

DATABASE = "results.sqlite"
FORMAT = 1  # of the tables; 0 in files of before it was written
_NEW = f".{DATABASE}.tmp"
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


def begin(folder: Path, experiment: str) -> None:
    """Make the results of a new run, which hold its experiment (JSON) from the moment they are there.

    Whatever stops it, a crash or a full disk, leaves no file that is in the way of the next attempt.
    """
    try:
        _remove_torn(folder)
        with closing(sqlite3.connect(folder / _NEW, isolation_level=None)) as database:
            database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT};")
            database.execute("INSERT INTO meta VALUES ('experiment', ?)", (experiment,))
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
    address = path.resolve().as_uri()
    database = sqlite3.connect(f"{address}?mode=ro", uri=True, isolation_level=None)
    try:
        database.execute("SELECT count(*) FROM meta")
    except sqlite3.OperationalError:
        database.close()
        database = sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True, isolation_level=None)
    return database


def refuse_newer(path: Path, database: sqlite3.Connection) -> None:
    """Raises InputError for a file of a later format than this."""
    (found,) = database.execute("PRAGMA user_version").fetchone()
    if found > FORMAT:
        raise InputError(
            f"{path.parent}: a newer cfglab wrote this run (format {found}, this one knows {FORMAT}); update cfglab, "
            "or choose another folder."
        )


def check_free(folder: Path) -> None:
    """A new run wants an empty folder or none: nothing of anybody else's is ever mixed in or overwritten."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a run is a folder, but this is a file; choose another --out.")
    if folder.exists() and any(it.name != LOCK and not it.name.startswith(_NEW) for it in folder.iterdir()):
        raise InputError(f"{folder}: holds other files and no run; choose another --out.")


@contextmanager
def plain_errors(folder: Path) -> Iterator[None]:
    """Say what is wrong with the database in one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise MachineError(f"{folder}: the disk is full; free some space and run again.") from error
        raise MachineError(
            f"{folder / DATABASE}: {error}; check the folder and the room on its disk, or choose another --out."
        ) from error
    except sqlite3.DatabaseError as error:
        raise InputError(
            f"{folder / DATABASE}: is not a run's results ({error}); restore it, or run again with another --out."
        ) from error
