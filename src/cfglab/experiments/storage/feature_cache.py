"""What judges saw, kept beside the images: `features.sqlite` in the run folder. An image is looked at once.

A row belongs to the bytes of an image's file and to one judge (the hash of its weights, or its name and revision), so
an image that was drawn anew, or another judge, is a new row, and nothing here has to be thrown away.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import MachineError
from cfglab.experiments.storage.database import explained
from cfglab.experiments.storage.png import read_pixels
from cfglab.experiments.storage.results import ResultRow
from cfglab.file_input import read_bytes
from cfglab.limits import IMAGE_BYTES

T = TypeVar("T")

FILE = "features.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
    judge TEXT NOT NULL, image TEXT NOT NULL, rows INTEGER NOT NULL, features BLOB NOT NULL, said TEXT NOT NULL,
    PRIMARY KEY (judge, image)) WITHOUT ROWID
"""
_AT_ONCE = 500

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a judge saw: features (d,) of an image, or (n, d) of n real ones; what it said, as JSON values."""

    features: Array
    said: Mapping[str, str | float | None]


class FeatureCache:
    """The file, open. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        try:
            self._database = sqlite3.connect(self.path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> MachineError:
        remedy = "delete the file, it only keeps what can be computed"
        said = explained(self.path, error, remedy) if isinstance(error, sqlite3.Error) else None
        return MachineError(str(said) if said else f"{self.path}: a row is damaged ({error}); {remedy}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def get(self, judge: str, pictures: Iterable[str]) -> dict[str, Seen]:
        """What is known of these images, by their key."""
        wanted, found = list(dict.fromkeys(pictures)), {}
        for part in chunks(wanted, _AT_ONCE):
            marks = ", ".join("?" * len(part))
            query = f"SELECT image, rows, features, said FROM seen WHERE judge = ? AND image IN ({marks})"
            try:
                for picture, rows, features, said in self._database.execute(query, (judge, *part)):
                    array = np.frombuffer(features, dtype=np.float32)
                    found[picture] = Seen(array.reshape(rows, -1) if rows else array, dict(json.loads(said)))
            except (sqlite3.Error, ValueError, TypeError) as error:
                raise self._refused(error) from error
        return found

    def look(
        self, judge: str, rows: Sequence[ResultRow], folder: Path, see: Callable[[np.ndarray], Iterable[Seen]]
    ) -> list[Seen]:
        """What a judge sees in each image of a run: kept, or what `see` makes of the new ones, uint8 (n, h, w, 3)."""
        keys = [key_of(row, folder) for row in rows]

        def see_files(new: Sequence[ResultRow]) -> Iterable[Seen]:
            return see(np.stack([read_pixels(folder / str(row.result.image)) for row in new]))

        known = self.fill(judge, dict(zip(keys, rows, strict=True)), see_files)
        return [known[key] for key in keys]

    def fill(
        self, judge: str, pictures: Mapping[str, T], see: Callable[[Sequence[T]], Iterable[Seen]]
    ) -> dict[str, Seen]:
        """What a judge sees in images by their key: kept, or what `see` makes of the new ones, which is kept, too."""
        known = self.get(judge, pictures)
        if new := {key: picture for key, picture in pictures.items() if key not in known}:
            fresh = dict(zip(new, see(list(new.values())), strict=True))
            self.put(judge, fresh)
            known |= fresh
        return known

    def put(self, judge: str, seen: Mapping[str, Seen]) -> None:
        """Keep what a judge saw, all or none. Raises MachineError where the disk is full or cannot be written."""
        rows = [
            (
                *(judge, picture, len(it.features) if it.features.ndim == 2 else 0),
                *(np.ascontiguousarray(it.features, dtype=np.float32).tobytes(), json.dumps(dict(it.said))),
            )
            for picture, it in seen.items()
        ]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?)", rows)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise self._refused(error) from error


def key_of(row: ResultRow, folder: Path) -> str:
    """The hash of an image's file, as recorded or of what lies there."""
    return row.sha256 or hashlib.sha256(read_bytes(folder / str(row.result.image), IMAGE_BYTES)).hexdigest()


def chunks(items: Sequence[T], size: int = 256) -> list[Sequence[T]]:
    """The items in parts of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]
