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
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from cfglab.errors import InputError
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.database import (
    ANEW,
    Identity,
    begin,
    check_free,
    check_rows,
    connect_reader,
    connect_writer,
    plain_errors,
    refuse_newer,
    seed_stored,
)
from cfglab.experiments.storage.database import DATABASE as DATABASE
from cfglab.experiments.storage.database import INFOTEXT as INFOTEXT
from cfglab.experiments.storage.files import only_writer, refuse, remove_temp_files, write_whole
from cfglab.experiments.storage.results import Result as Result
from cfglab.experiments.storage.results import ResultRow as ResultRow
from cfglab.experiments.storage.results import read_results, results_csv
from cfglab.metrics.estimate import Estimate as Estimate

SCORED = "scored"
"""The key under which it is kept of which images the metrics of sets are; it goes with them."""


class Store:
    """A run folder, open for reading (`Store.open`) or as its only writer (`Store.create`).

    It is also a context manager that closes the run on exit.

    Attributes:
        folder: the run folder.
    """

    def __init__(self, folder: Path, database: sqlite3.Connection, held: ExitStack) -> None:
        self.folder = folder
        self._database = database
        self._held = held
        self._checked = False
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
        folder = Path(folder)
        path = folder / DATABASE
        if not path.is_file():
            raise InputError(f"{folder}: holds no run, there is no {DATABASE}; give a folder that `cfglab run` wrote.")
        with plain_errors(folder), ExitStack() as held:
            database = connect_reader(path)
            held.callback(database.close)
            refuse_newer(path, database)
            store = cls(folder, database, held.pop_all())
        store.experiment  # noqa: B018  an unreadable experiment is said here, not later
        return store

    @classmethod
    def check(cls, folder: Path | str, experiment: Experiment) -> bool:
        """Whether the folder holds a run of `experiment` already; False when it is free for a new one.

        Raises InputError when it holds another experiment, or files that are no run.
        """
        folder = Path(folder)
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
        folder = Path(folder)
        _is_new(folder, experiment)  # nothing is made in a folder of something else
        with plain_errors(folder), ExitStack() as held:
            held.enter_context(only_writer(folder))
            if _is_new(folder, experiment):
                begin(folder, experiment.model_dump_json())
            database = connect_writer(folder / DATABASE)
            held.callback(database.close)
            store = cls(folder, database, held.pop_all())
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
        write_whole(self.folder / "experiment.yaml", experiment.to_yaml().encode())

    def _check_same(self, experiment: Experiment) -> None:
        if self.experiment.id != experiment.id:
            raise InputError(f"{self.folder}: holds {self.experiment.differs_from(experiment)}; choose another --out.")

    def close(self) -> None:
        """Close the database and, for a writer, let the next one in."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # reading

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment that this run holds."""
        text = self.meta("experiment")
        if text is None:
            raise InputError(f"{self.folder}: the run was never begun; delete it, or choose another folder.")
        try:
            return Experiment.model_validate_json(text)
        except ValueError as error:
            raise InputError(
                f"{self.folder}: the experiment in it cannot be read, another version wrote it; "
                "run it again with another --out."
            ) from error

    def meta(self, key: str) -> str | None:
        """A text recorded under `key`, None when there is none."""
        with plain_errors(self.folder):
            found = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def select(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of an SQL query, for readers of many: plain tuples, no objects."""
        with plain_errors(self.folder):
            return self._database.execute(query, values).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read within is of one moment, whatever a writer adds meanwhile. May be nested."""
        if self._database.in_transaction:
            yield
            return
        with plain_errors(self.folder):
            self._database.execute("BEGIN")
            try:
                self._check_rows()
                yield
            finally:
                self._database.rollback()  # nothing was written; an error of the disk has ended it already

    def _check_rows(self) -> None:
        """Once, before anything is read: what is no number or no text would end a reader anywhere."""
        if self._checked:
            return
        check_rows(self.folder / DATABASE, self._database)
        known = {setting.name for setting in self.experiment.settings}
        for (name,) in self._database.execute("SELECT DISTINCT setting FROM results"):
            if name not in known:
                raise InputError(
                    f"{self.folder / DATABASE}: a row is damaged (setting {name!r:.60} is none of its experiment's); "
                    f"{ANEW}."
                )
        self._checked = True

    def check_positions(self, cells: int) -> None:
        """Raise InputError where a result stands beyond the cells of the experiment."""
        ((last,),) = self.select("SELECT max(position) FROM results")
        if last is not None and last >= cells:
            raise InputError(
                f"{self.folder / DATABASE}: a row is damaged (position {last}, and there are {cells} cells); {ANEW}."
            )

    def rows(self) -> list[ResultRow]:
        """Every recorded result in the experiment's order, with what the writer needs to know of it."""
        with self.snapshot():
            kept = self.select("SELECT settled, sha256 FROM results ORDER BY position")
            results = self.results()
        return [
            ResultRow.model_construct(result=result, settled=bool(settled), sha256=sha256)
            for result, (settled, sha256) in zip(results, kept, strict=True)
        ]

    def results(self) -> list[Result]:
        """Return every recorded result, done or failed, ordered by setting, prompt and seed."""
        try:
            with self.snapshot():
                return read_results(self.select, self.experiment.torch_seeds())
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise InputError(
                f"{self.folder / DATABASE}: a row is damaged ({fault['loc'][-1]} {fault['input']!r}); restore the "
                "file, or run again with another --out."
            ) from error

    def counts(self) -> dict[str, int]:
        """Return the number of cells that are `done`, `failed`, and failed for `good` (not tried again)."""
        ((done, failed, good),) = self.select(
            "SELECT total(status = 'done'), total(status = 'failed'), total(status = 'failed' AND settled) FROM results"
        )
        return {"done": int(done), "failed": int(failed), "good": int(good)}

    def first_error(self) -> str:
        """Return the error of the first cell that failed, with its traceback; "" if none failed."""
        errors = self.select("SELECT error FROM results WHERE error IS NOT NULL ORDER BY position LIMIT 1")
        return str(errors[0][0]) if errors else ""

    def set_metrics(self) -> dict[str, dict[str, Estimate]]:
        """Return the metrics of sets of images, by setting and metric.

        The setting `real` compares real images with real images.
        """
        table: dict[str, dict[str, Estimate]] = {}
        with self.snapshot(), plain_errors(self.folder):
            for setting, metric, value, low, high, n in self._database.execute("SELECT * FROM set_metrics"):
                table.setdefault(setting, {})[metric] = Estimate(value=value, low=low, high=high, n=n)
        return table

    # writing

    def set_meta(self, key: str, value: str) -> None:
        """Record a text under `key`."""
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def record(self, rows: Iterable[ResultRow]) -> None:
        """Record results, all or none. An image that is new, or drawn otherwise, takes with it what was measured of
        the one before, and of sets; one that is the same byte for byte keeps its further metrics."""
        changed = False
        with self._transaction() as database:
            for row in rows:
                it = row.result
                before = database.execute("SELECT sha256 FROM results WHERE position = ?", (it.position,)).fetchone()
                if before != (row.sha256,):
                    changed = True
                    database.execute("DELETE FROM metrics WHERE cell = ?", (it.cell,))
                database.execute(
                    "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(it.position, it.cell, it.setting, it.prompt, seed_stored(it.seed), it.status),
                        *(it.image, it.error),
                        *(row.settled, row.sha256, it.rows_run, it.rows_saved),
                    ),
                )
                database.execute("DELETE FROM traces WHERE cell = ?", (it.cell,))
                if row.trace is not None:
                    database.execute("INSERT INTO traces VALUES (?, ?)", (it.cell, row.trace))
                _insert_metrics(database, {it.cell: it.metrics})
            if changed:
                database.execute("DELETE FROM set_metrics")
                database.execute("DELETE FROM set_parts")
                database.execute("DELETE FROM meta WHERE key = ?", (SCORED,))

    def record_metrics(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Add metrics of single images, by cell id and metric."""
        with self._transaction() as database:
            _insert_metrics(database, metrics)

    def forget_metric(self, metric: str) -> None:
        """Remove a metric from all images."""
        with self._transaction() as database:
            database.execute("DELETE FROM metrics WHERE metric = ?", (metric,))

    def record_set_metrics(
        self,
        table: Mapping[str, Mapping[str, Estimate]],
        parts: Mapping[str, Mapping[str, str]] | None = None,
        metrics: Iterable[str] | None = None,
    ) -> None:
        """Replace metrics of sets, these or all, by setting and metric, and what differences are made of (JSON)."""
        with self._transaction() as database:
            for kept in ("set_metrics", "set_parts"):
                if metrics is None:
                    database.execute(f"DELETE FROM {kept}")
                else:
                    database.executemany(f"DELETE FROM {kept} WHERE metric = ?", [(metric,) for metric in metrics])
            database.executemany(
                "INSERT INTO set_metrics VALUES (?, ?, ?, ?, ?, ?)",
                [(s, m, e.value, e.low, e.high, e.n) for s, row in table.items() for m, e in row.items()],
            )
            database.executemany(
                "INSERT INTO set_parts VALUES (?, ?, ?)",
                [(s, m, text) for s, row in (parts or {}).items() for m, text in row.items()],
            )

    def write_csv(self) -> Path:
        """Write results.csv: one line per cell, one column per metric. Returns its path."""
        text = results_csv(self.results(), {setting.name: setting for setting in self.experiment.settings})
        path = self.folder / "results.csv"
        write_whole(path, text.encode())
        return path

    def note_versions(self, versions: Mapping[str, str]) -> None:
        """Add this session's versions to versions.json when they are new there."""
        path = self.folder / "versions.json"
        try:
            sessions = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        except (OSError, ValueError):  # unreadable or torn by other hands: it is for people, and begins again
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
    """Whether a run of `experiment` begins in the folder: it is empty or missing, or holds this experiment's run, whose
    results were deleted. Nothing of anybody else's is ever mixed in or overwritten.

    Raises InputError where the folder holds something else.
    """
    there = folder / DATABASE
    names = [] if there.is_file() else check_free(folder)
    if there.is_file():  # asked again: another process may have begun the run meanwhile
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
    """Those that are finite: what could not be measured is not there."""
    database.executemany(
        "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?)",
        [(cell, name, value) for cell, values in metrics.items() for name, value in values.items() if isfinite(value)],
    )
