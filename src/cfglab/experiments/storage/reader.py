"""Reading the results of a run folder. Loads no torch."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from cfglab.errors import InputError
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.database import ANEW, DATABASE, check_rows, plain_errors
from cfglab.experiments.storage.results import CellPlace, Result, ResultRow, read_results
from cfglab.metrics.estimate import Estimate


class StoreReader:
    """The reading half of a Store.

    Attributes:
        folder: the run folder.
    """

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self.folder = folder
        self._database = database
        self._checked = False

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment of this run.

        Raises:
            InputError: if it cannot be read.
        """
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
        """Return the text that is recorded under a key, None if there is none.

        Args:
            key: such as "weights".

        Raises:
            InputError: if the results cannot be read.
        """
        rows = self.select("SELECT value FROM meta WHERE key = ?", key)
        return rows[0]["value"] if rows else None

    def select(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Run an SQL query; for the files of this package only, which give each query a name.

        Args:
            query: a SELECT.
            *values: the values of its question marks.

        Returns:
            All rows, whose columns are read by name.

        Raises:
            CfglabError: if the database cannot be read.
        """
        with plain_errors(self.folder):
            cursor = self._database.cursor()
            cursor.row_factory = sqlite3.Row
            return cursor.execute(query, values).fetchall()

    def has_table(self, name: str) -> bool:
        """Return whether the run has a table; runs of older versions lack some."""
        return bool(self.select("SELECT name FROM sqlite_master WHERE name = ?", name))

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Return a context in which everything that is read is of one moment. It can be nested.

        Raises:
            InputError: if a row is damaged.
        """
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
        """Check every row once, before anything is read: a wrong type would stop a reader anywhere."""
        if self._checked:
            return
        check_rows(self.folder / DATABASE, self._database)
        settings = {setting.name for setting in self.experiment.settings}
        for (name,) in self._database.execute("SELECT DISTINCT setting FROM results"):
            if name not in settings:
                raise InputError(
                    f"{self.folder / DATABASE}: a row is damaged (setting {name!r:.60} is none of its "
                    f"experiment's); {ANEW}."
                )
        self._checked = True

    def check_positions(self, cells: int) -> None:
        """Check that no result is beyond the cells of the experiment.

        Args:
            cells: the number of cells of the experiment.

        Raises:
            InputError: if there is such a result.
        """
        last = self.select("SELECT max(position) AS last FROM results")[0]["last"]
        if last is not None and last >= cells:
            raise InputError(
                f"{self.folder / DATABASE}: a row is damaged (position {last}, and there are {cells} cells); {ANEW}."
            )

    def rows(self) -> list[ResultRow]:
        """Return every recorded result in the experiment's order, with what only the writer needs.

        The rows have no trace; see `storage.traces.stored_traces`.

        Raises:
            InputError: if the results cannot be read or a row is damaged.
        """
        with self.snapshot():
            stored_rows = self.select("SELECT settled, sha256 FROM results ORDER BY position")
            results = self.results()
        return [
            ResultRow.model_construct(result=result, settled=bool(row["settled"]), sha256=row["sha256"])
            for result, row in zip(results, stored_rows, strict=True)
        ]

    def results(self) -> list[Result]:
        """Return every recorded result, done or failed, ordered by setting, prompt and seed.

        Raises:
            InputError: if the results cannot be read or a row is damaged.
        """
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
        """Return the number of cells that are `done`, `failed`, and failed for `good` (not tried again).

        Raises:
            InputError: if the results cannot be read.
        """
        (row,) = self.select(
            "SELECT total(status = 'done') AS done, total(status = 'failed') AS failed, "
            "total(status = 'failed' AND settled) AS good FROM results"
        )
        return {name: int(row[name]) for name in ("done", "failed", "good")}

    def latest(self, count: int) -> list[CellPlace]:
        """Return the images that the plan of the run generates last, the last first: about the newest ones.

        Args:
            count: the largest number of images.

        Raises:
            InputError: if the results cannot be read or a row is damaged.
        """
        starts = len(self.experiment.prompts) * len(self.experiment.seeds)
        return self._places(
            "SELECT position, setting, prompt, seed, image, NULL AS error FROM results WHERE image IS NOT NULL "
            "ORDER BY position % ? DESC, position DESC LIMIT ?",
            starts,
            count,
        )

    def failures(self, count: int) -> list[CellPlace]:
        """Return failed cells in the experiment's order, with the last line of their errors.

        Args:
            count: the largest number of cells.

        Raises:
            InputError: if the results cannot be read or a row is damaged.
        """
        return self._places(
            "SELECT position, setting, prompt, seed, NULL AS image, error FROM results WHERE status = 'failed' "
            "ORDER BY position LIMIT ?",
            count,
        )

    def _places(self, query: str, *values: object) -> list[CellPlace]:
        try:
            return [CellPlace.of(row) for row in self.select(query, *values)]
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise InputError(f"{self.folder / DATABASE}: a row is damaged ({fault['loc'][-1]}); {ANEW}.") from error

    def first_error(self) -> str:
        """Return the error of the first failed cell in the experiment's order, with its traceback; "" if none failed.

        Raises:
            InputError: if the results cannot be read.
        """
        rows = self.select("SELECT error FROM results WHERE error IS NOT NULL ORDER BY position LIMIT 1")
        return str(rows[0]["error"]) if rows else ""

    def set_metrics(self) -> dict[str, dict[str, Estimate]]:
        """Return the metrics of sets of images, by setting and metric.

        The setting `real` compares real images with real images.

        Raises:
            InputError: if the results cannot be read or a row is damaged.
        """
        table: dict[str, dict[str, Estimate]] = {}
        with self.snapshot():
            for row in self.select("SELECT setting, metric, value, low, high, n FROM set_metrics"):
                estimate = Estimate(value=row["value"], low=row["low"], high=row["high"], n=row["n"])
                table.setdefault(row["setting"], {})[row["metric"]] = estimate
        return table
