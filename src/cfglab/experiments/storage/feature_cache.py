"""Features and labels of images, kept beside them: `features.sqlite` in the run folder. Each image is read once.

A row belongs to the bytes of an image file and to one model (the hash of its weights, or its name and revision). So an
image that was generated again, or another model, is a new row, and nothing has to be removed.
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
class ImageFeatures:
    """What a model extracted from an image.

    Attributes:
        features: float32 (d,) of an image, or (n, d) of n real images.
        labels: label -> value, as JSON values; empty if the model gives no labels.
    """

    features: Array
    labels: Mapping[str, str | float | None]


class FeatureCache:
    """The open file. A context manager.

    Args:
        folder: a run folder.

    Raises:
        MachineError: if the file is damaged or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        try:
            self._database = sqlite3.connect(self.path, isolation_level=None)
            self._database.row_factory = sqlite3.Row
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> MachineError:
        remedy = "delete the file, it only keeps what can be computed"
        explanation = explained(self.path, error, remedy) if isinstance(error, sqlite3.Error) else None
        return MachineError(str(explanation) if explanation else f"{self.path}: a row is damaged ({error}); {remedy}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def get(self, model: str, images: Iterable[str]) -> dict[str, ImageFeatures]:
        """Return what is kept of images.

        Args:
            model: the key of the model.
            images: the keys of the images, see `image_key`.

        Returns:
            Image key -> features; images that are not kept are left out.

        Raises:
            MachineError: if the file or a row is damaged.
        """
        keys, cached = list(dict.fromkeys(images)), {}
        for part in chunks(keys, _AT_ONCE):
            marks = ", ".join("?" * len(part))
            query = f"SELECT image, rows, features, said FROM seen WHERE judge = ? AND image IN ({marks})"
            try:
                for row in self._database.execute(query, (model, *part)):
                    array = np.frombuffer(row["features"], dtype=np.float32)
                    features = array.reshape(row["rows"], -1) if row["rows"] else array
                    cached[row["image"]] = ImageFeatures(features, dict(json.loads(row["said"])))
            except (sqlite3.Error, ValueError, TypeError) as error:
                raise self._error(error) from error
        return cached

    def extract(
        self,
        model: str,
        rows: Sequence[ResultRow],
        folder: Path,
        extract: Callable[[np.ndarray], Iterable[ImageFeatures]],
    ) -> list[ImageFeatures]:
        """Return the features of each image of a run, from the cache or extracted now and then kept.

        Args:
            model: the key of the model.
            rows: rows that have an image.
            folder: the run folder.
            extract: applies the model to images, uint8 (n, h, w, 3).

        Returns:
            The features, in the order of the rows.

        Raises:
            MachineError: if the file is damaged or cannot be written.
        """
        keys = [image_key(row, folder) for row in rows]

        def extract_rows(missing: Sequence[ResultRow]) -> Iterable[ImageFeatures]:
            return extract(np.stack([read_pixels(folder / str(row.result.image)) for row in missing]))

        cached = self.fill(model, dict(zip(keys, rows, strict=True)), extract_rows)
        return [cached[key] for key in keys]

    def fill(
        self, model: str, images: Mapping[str, T], extract: Callable[[Sequence[T]], Iterable[ImageFeatures]]
    ) -> dict[str, ImageFeatures]:
        """Return the features of images, from the cache or extracted now and then kept.

        Args:
            model: the key of the model.
            images: image key -> image.
            extract: applies the model to the images that are not kept.

        Returns:
            Image key -> features.

        Raises:
            MachineError: if the file is damaged or cannot be written.
        """
        cached = self.get(model, images)
        if missing := {key: image for key, image in images.items() if key not in cached}:
            extracted = dict(zip(missing, extract(list(missing.values())), strict=True))
            self.put(model, extracted)
            cached |= extracted
        return cached

    def put(self, model: str, images: Mapping[str, ImageFeatures]) -> None:
        """Keep the features of images, all or none.

        Args:
            model: the key of the model.
            images: image key -> features.

        Raises:
            MachineError: if the disk is full or the file cannot be written.
        """
        rows = [
            {
                "judge": model,
                "image": key,
                "rows": len(image.features) if image.features.ndim == 2 else 0,
                "features": np.ascontiguousarray(image.features, dtype=np.float32).tobytes(),
                "said": json.dumps(dict(image.labels)),
            }
            for key, image in images.items()
        ]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(
                "INSERT OR REPLACE INTO seen (judge, image, rows, features, said) "
                "VALUES (:judge, :image, :rows, :features, :said)",
                rows,
            )
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise self._error(error) from error


def image_key(row: ResultRow, folder: Path) -> str:
    """Return the hash of an image file (64 hex digits): the recorded one, or that of the file.

    Args:
        row: a row that has an image.
        folder: the run folder.
    """
    return row.sha256 or hashlib.sha256(read_bytes(folder / str(row.result.image), IMAGE_BYTES)).hexdigest()


def chunks(items: Sequence[T], size: int = 256) -> list[Sequence[T]]:
    """Return the items in parts of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]
