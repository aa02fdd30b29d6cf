"""The run folder: images, results and the experiment they belong to. Reading one loads no torch.

    images/<cell id>.png   every image, with the cell and the batch it was drawn in as metadata
    results.sqlite         one row a cell, its trace, metrics of images and of sets (WAL: one writer, many readers)
    results.csv            the same for people, written whole at the end of each session
    experiment.yaml        the experiment; `cfglab run` reads it back
    versions.json          the versions that each session ran with

An image is written whole before its row, so every row points at an image that is there.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import isfinite
from pathlib import Path
from typing import Self

from cfglab.errors import InputError
from cfglab.experiments.spec.difference import describe_difference
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.database import DATABASE as DATABASE
from cfglab.experiments.storage.database import INFOTEXT as INFOTEXT
from cfglab.experiments.storage.database import (
    Identity,
    begin,
    check_free,
    connect_reader,
    connect_writer,
    plain_errors,
    refuse_newer,
    seed_stored,
)
from cfglab.experiments.storage.files import only_writer, refuse, remove_temp_files, write_whole
from cfglab.experiments.storage.reader import StoreReader
from cfglab.experiments.storage.results import Result as Result
from cfglab.experiments.storage.results import ResultRow as ResultRow
from cfglab.experiments.storage.results import results_csv
from cfglab.file_input import given_path
from cfglab.metrics.estimate import Estimate as Estimate

SCORED = "scored"
"""The key of the hash of the images that the metrics of sets belong to; it is removed with these metrics."""


_INSERT_RESULT = """
INSERT OR REPLACE INTO results (
    position, cell, setting, prompt, seed, status, image, error, settled, sha256, rows_run, rows_saved)
VALUES (
    :position, :cell, :setting, :prompt, :seed, :status, :image, :error, :settled, :sha256, :rows_run, :rows_saved)
"""


class Store(StoreReader):
    """A run folder, open for reading (`Store.open`) or as its only writer (`Store.create`).

    It is also a context manager that closes the run on exit.

    Attributes:
        folder: the run folder.
    """

    def __init__(self, folder: Path, database: sqlite3.Connection, stack: ExitStack) -> None:
        super().__init__(folder, database)
        self._stack = stack
        self._identity: Identity | None = None  # of the file that a writer opened

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open a run for reading, also while another process writes it.

        Args:
            folder: a run folder.

        Raises:
            InputError: if the folder holds no run or its results cannot be read.

        Examples:
            with Store.open("runs/k-decay") as store:
                results = store.results()
        """
        folder = given_path(folder)
        path = folder / DATABASE
        if not path.is_file():
            raise InputError(f"{folder}: holds no run, there is no {DATABASE}; give a folder that `cfglab run` wrote.")
        with plain_errors(folder), ExitStack() as stack:
            database = connect_reader(path)
            stack.callback(database.close)
            refuse_newer(path, database)
            store = cls(folder, database, stack.pop_all())
        store.experiment  # noqa: B018  an unreadable experiment is said here, not later
        return store

    @classmethod
    def check(cls, folder: Path | str, experiment: Experiment) -> bool:
        """Return whether a folder holds a run of an experiment already; False if it is free for a new one.

        Args:
            folder: the run folder.
            experiment: the experiment.

        Raises:
            InputError: if the folder holds another experiment, or files that are no run.
        """
        folder = given_path(folder)
        if _is_new(folder, experiment):
            return False
        with cls.open(folder) as store:
            store._check_same(experiment)
        return True

    @classmethod
    def create(cls, folder: Path | str, experiment: Experiment) -> Self:
        """Open a run as its only writer. The run is new, or it is an earlier run of the same experiment.

        Args:
            folder: the run folder; it is made if it does not exist.
            experiment: the experiment of the run.

        Raises:
            InputError: if the folder holds another experiment or other files, or has another writer.
            MachineError: if the folder cannot be written.
        """
        folder = given_path(folder)
        _is_new(folder, experiment)  # nothing is made in a folder of something else
        with plain_errors(folder), ExitStack() as stack:
            stack.enter_context(only_writer(folder))
            if _is_new(folder, experiment):
                begin(folder, experiment.model_dump_json())
            database = connect_writer(folder / DATABASE)
            stack.callback(database.close)
            store = cls(folder, database, stack.pop_all())
        try:
            store._identity = Identity.of(folder / DATABASE)
            store._prepare(experiment)
        except BaseException:
            store.close()
            raise
        return store

    def _prepare(self, experiment: Experiment) -> None:
        self._check_same(experiment)
        try:
            (self.folder / "images").mkdir(exist_ok=True)
        except OSError as error:
            raise refuse(self.folder / "images", error) from error
        remove_temp_files(self.folder)
        remove_temp_files(self.folder / "images")
        if experiment != self.experiment:  # in words that are not of its identity, such as the title
            self.set_meta("experiment", experiment.model_dump_json())
            del self.experiment
        write_whole(self.folder / "experiment.yaml", experiment.to_yaml().encode())

    def _check_same(self, experiment: Experiment) -> None:
        if self.experiment.id != experiment.id:
            difference = describe_difference(self.experiment, experiment)
            raise InputError(f"{self.folder}: holds {difference}; choose another --out.")

    def close(self) -> None:
        """Close the database and release the lock of a writer."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_meta(self, key: str, value: str) -> None:
        """Record a text under a key.

        Args:
            key: such as "weights".
            value: the text; it replaces an earlier one.

        Raises:
            MachineError: if the folder cannot be written.
        """
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def record(self, rows: Iterable[ResultRow]) -> None:
        """Record results, all or none.

        An image that is new or has other bytes removes the metrics of the earlier image of its cell, and all metrics
        of sets. An image with the same bytes keeps the metrics that were added later.

        Args:
            rows: the results.

        Raises:
            MachineError: if the folder cannot be written.
        """
        changed = False
        with self._transaction() as database:
            for row in rows:
                result = row.result
                before = database.execute(
                    "SELECT sha256 FROM results WHERE position = ?", (result.position,)
                ).fetchone()
                if before != (row.sha256,):
                    changed = True
                    database.execute("DELETE FROM metrics WHERE cell = ?", (result.cell,))
                values = result.model_dump(exclude={"metrics", "torch_seed"})
                values |= {"seed": seed_stored(result.seed), "settled": row.settled, "sha256": row.sha256}
                database.execute(_INSERT_RESULT, values)
                database.execute("DELETE FROM traces WHERE cell = ?", (result.cell,))
                if row.trace is not None:
                    database.execute("INSERT INTO traces (cell, trace) VALUES (?, ?)", (result.cell, row.trace))
                _insert_metrics(database, {result.cell: result.metrics})
            if changed:
                database.execute("DELETE FROM set_metrics")
                database.execute("DELETE FROM set_parts")
                database.execute("DELETE FROM meta WHERE key = ?", (SCORED,))

    def record_metrics(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Add metrics of images.

        Args:
            metrics: cell id -> metric -> value; values that are not finite are left out.

        Raises:
            MachineError: if the folder cannot be written.
        """
        with self._transaction() as database:
            _insert_metrics(database, metrics)

    def forget_metric(self, metric: str) -> None:
        """Remove a metric from all images.

        Args:
            metric: the name of the metric.

        Raises:
            MachineError: if the folder cannot be written.
        """
        with self._transaction() as database:
            database.execute("DELETE FROM metrics WHERE metric = ?", (metric,))

    def record_set_metrics(
        self,
        table: Mapping[str, Mapping[str, Estimate]],
        parts: Mapping[str, Mapping[str, str]] | None = None,
        metrics: Iterable[str] | None = None,
    ) -> None:
        """Replace metrics of sets.

        Args:
            table: setting -> metric -> estimate.
            parts: setting -> metric -> the value without each prompt, see `storage.set_metrics.jackknife_text`.
            metrics: the metrics to replace; None replaces all.

        Raises:
            MachineError: if the folder cannot be written.
        """
        with self._transaction() as database:
            for name in ("set_metrics", "set_parts"):
                if metrics is None:
                    database.execute(f"DELETE FROM {name}")
                else:
                    database.executemany(f"DELETE FROM {name} WHERE metric = ?", [(metric,) for metric in metrics])
            database.executemany(
                "INSERT INTO set_metrics (setting, metric, value, low, high, n) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (setting, metric, estimate.value, estimate.low, estimate.high, estimate.n)
                    for setting, estimates in table.items()
                    for metric, estimate in estimates.items()
                ],
            )
            database.executemany(
                "INSERT INTO set_parts (setting, metric, parts) VALUES (?, ?, ?)",
                [(setting, metric, text) for setting, texts in (parts or {}).items() for metric, text in texts.items()],
            )

    def write_csv(self) -> Path:
        """Write results.csv, one line per cell and one column per metric, and return its path.

        Raises:
            MachineError: if the folder cannot be written.
        """
        text = results_csv(self.results(), {setting.name: setting for setting in self.experiment.settings})
        path = self.folder / "results.csv"
        write_whole(path, text.encode())
        return path

    def note_versions(self, versions: Mapping[str, str]) -> None:
        """Add the versions of this session to versions.json, unless they are the last ones there.

        Args:
            versions: package -> version.

        Raises:
            MachineError: if the folder cannot be written.
        """
        path = self.folder / "versions.json"
        try:
            sessions = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        except (OSError, ValueError):  # not written by cfglab: the file is for people and starts anew
            sessions = []
        sessions = sessions if isinstance(sessions, list) else [sessions]
        if not sessions or sessions[-1] != dict(versions):
            write_whole(path, (json.dumps([*sessions, dict(versions)], indent=1) + "\n").encode())

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with plain_errors(self.folder):
            if self._identity is not None:
                self._identity = Identity.of(self.folder / DATABASE, self._identity)
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                if self._database.in_transaction:  # a full disk has rolled it back already
                    self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


def _is_new(folder: Path, experiment: Experiment) -> bool:
    """Whether a run of `experiment` begins in the folder: it is empty or missing, or has this run without its results.
    Other files are never overwritten.

    Raises InputError if the folder holds something else.
    """
    path = folder / DATABASE
    names = [] if path.is_file() else check_free(folder)
    if path.is_file():  # checked again: another process may have begun the run meanwhile
        return False
    if not names:
        return True
    if "experiment.yaml" not in names:
        raise InputError(f"{folder}: holds other files and no run; choose another --out.")
    try:
        same = Experiment.from_yaml(folder / "experiment.yaml").id == experiment.id
    except InputError:
        same = False
    if not same:
        raise InputError(
            f"{folder}: holds a run of another experiment, without its {DATABASE}; restore that, or choose another "
            "--out."
        )
    return True


def _insert_metrics(database: sqlite3.Connection, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Record the finite values; a metric that could not be measured has no row."""
    database.executemany(
        "INSERT OR REPLACE INTO metrics (cell, metric, value) VALUES (?, ?, ?)",
        [(cell, name, value) for cell, values in metrics.items() for name, value in values.items() if isfinite(value)],
    )
