"""The result of a cell, the row that the writer keeps of it, and the queries that read many of them."""

import csv
import gc
import io
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.spec.starting_noise import candidate_seed
from cfglab.experiments.storage.database import seed_read
from cfglab.file_input import last_line
from cfglab.pipelines.candidates import MOST

FloatArray = NDArray[np.float64]

FIXED = ("position", "setting", "group", "guidance", "prompt", "seed", "torch_seed", "status", "image", "error", "cell")

IMAGE = r"^(?:images/)?[0-9A-Za-z_-]{1,64}\.png$"
"""An image's file relative to the run folder: a database from elsewhere names no file outside it."""


CANDIDATE = "candidate"
"""The number among the metrics of an image that says which starting noise of its `best_of` it has, from 0."""


class Result(BaseModel):
    """One cell of a run: its position in the experiment, its image or its error, and its metrics.

    Attributes:
        cell: the id of the cell.
        position: the position of the cell in the experiment, from 0.
        setting: the name of the setting.
        prompt: the prompt.
        seed: the seed that the experiment states.
        torch_seed: the seed n of `torch.Generator("cpu").manual_seed(n)` for the starting noise.
        status: "done" or "failed".
        image: the path of the image, relative to the run folder.
        error: the error; its last line states the cause.
        metrics: values by metric.
        rows_run: denoiser rows that were run: this image's even share of its batch.
        rows_saved: denoiser rows that were saved: this image's even share of its batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str
    position: int
    setting: str
    prompt: str
    seed: int
    torch_seed: int | None = None
    status: Literal["done", "failed"]
    image: Annotated[str, Field(pattern=IMAGE)] | None = None
    error: str | None = None
    metrics: dict[str, float] = {}
    rows_run: float = 0.0
    rows_saved: float = 0.0


class CellPlace(BaseModel):
    """What a list shows of one cell.

    Attributes:
        setting: the name of the setting.
        prompt: the prompt.
        seed: the seed that the experiment states.
        image: the path of the image, relative to the run folder, else None.
        error: the last line of the error, else None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: str
    prompt: str
    seed: int
    image: Annotated[str, Field(pattern=IMAGE)] | None = None
    error: str | None = None

    @classmethod
    def of(cls, row: sqlite3.Row) -> "CellPlace":
        """Return the cell of a row with these columns. Raises ValidationError if the row is damaged."""
        values = {name: row[name] for name in cls.model_fields}
        error = values["error"]
        return cls.model_validate(
            values | {"seed": seed_read(values["seed"]), "error": last_line(error) if isinstance(error, str) else error}
        )


class ResultRow(BaseModel):
    """A result, and what only the writer needs.

    Attributes:
        result: the result.
        settled: False if the cell is tried again in the next session.
        sha256: the hash of the image file, 64 hex digits.
        trace: the trace of the image, as `CellTrace.encode` returns it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: Result
    settled: bool
    sha256: str | None = None
    trace: bytes | None = None


Select = Callable[..., list[sqlite3.Row]]
"""`Store.select`: runs a query with its values and returns all rows, whose columns are read by name."""


def read_metric_names(select: Select) -> list[str]:
    """Return the names of all metrics of images, in alphabetical order."""
    return sorted(row["metric"] for row in select("SELECT DISTINCT metric FROM metrics"))


def read_full_metrics(select: Select) -> tuple[list[str], list[str], FloatArray | None]:
    """Read the metrics of a run in which every cell has every metric, which is the rule.

    The number of values shows whether this holds; the order alone then says which cell and metric a value belongs to,
    and no name is read twice.

    Args:
        select: `Store.select` of a run.

    Returns:
        The metrics and the cell ids, both in alphabetical order, and the values, float64 (cells, metrics); None
        instead of the values if a cell lacks a metric.
    """
    names = read_metric_names(select)
    cells = [row["cell"] for row in select("SELECT DISTINCT cell FROM metrics ORDER BY cell")]
    rows = select("SELECT value FROM metrics ORDER BY cell, metric")
    if len(rows) != len(names) * len(cells):
        return names, cells, None
    try:
        values = np.fromiter((row["value"] for row in rows), dtype=np.float64, count=len(rows))
    except (ValueError, TypeError):  # a damaged value is reported where it is read with its name
        return names, cells, None
    return names, cells, values.reshape(len(cells), len(names))


def read_metric_table(select: Select, metric: str | None = None) -> tuple[list[str], list[str], FloatArray]:
    """Read metrics of images as a table.

    Args:
        select: `Store.select` of a run.
        metric: the only metric to read; None reads all.

    Returns:
        The metrics and the cell ids, each once, and the values, float64 (metrics, cells); NaN where a cell lacks a
        metric.
    """
    if metric is not None:
        rows = select("SELECT cell, value FROM metrics WHERE metric = ?", metric)
        column = np.fromiter((row["value"] for row in rows), dtype=np.float64, count=len(rows))
        return [metric], [row["cell"] for row in rows], column[None]
    names, cells, values = read_full_metrics(select)
    if values is not None:
        return names, cells, values.T
    table = np.full((len(names), len(cells)), np.nan)
    row_of, column_of = ({label: index for index, label in enumerate(labels)} for labels in (names, cells))
    for row in select("SELECT cell, metric, value FROM metrics"):
        table[row_of[row["metric"]], column_of[row["cell"]]] = row["value"]
    return names, cells, table


def read_results(select: Select, torch_seeds: Sequence[int]) -> list[Result]:
    """Read every result of a run; 100,000 of them take two seconds.

    The results are validated in one call, and the collector of cyclic garbage is off meanwhile: otherwise it takes
    half of the time to look through objects that are all kept.

    Args:
        select: `Store.select` of a run.
        torch_seeds: the torch seeds of one setting, in the order of positions.

    Returns:
        The results in the order of the experiment.

    Raises:
        ValidationError: if a row is damaged.
    """
    columns = [name for name in Result.model_fields if name not in ("metrics", "torch_seed")]
    with no_collection():
        metrics: dict[str, dict[str, float]] = {}
        names, cells, values = read_full_metrics(select)
        if values is not None:
            metrics = {
                cell: dict(zip(names, row, strict=True)) for cell, row in zip(cells, values.tolist(), strict=True)
            }
        else:
            for row in select("SELECT cell, metric, value FROM metrics"):
                metrics.setdefault(row["cell"], {})[row["metric"]] = row["value"]
        return _RESULTS.validate_python(
            [
                dict(
                    row,
                    seed=seed_read(row["seed"]),
                    metrics=metrics.get(row["cell"], {}),
                    torch_seed=_seed_of(
                        torch_seeds[row["position"] % len(torch_seeds)], metrics.get(row["cell"], {}).get(CANDIDATE)
                    ),
                )
                for row in select(f"SELECT {', '.join(columns)} FROM results ORDER BY position")
            ]
        )


def _seed_of(torch_seed: int, candidate: float | None) -> int:
    return candidate_seed(torch_seed, int(candidate)) if candidate and candidate < MOST else torch_seed


_RESULTS = TypeAdapter(list[Result])


@contextmanager
def no_collection() -> Iterator[None]:
    """Switch the collector of cyclic garbage off, while many objects are made that are all kept."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def results_csv(results: Iterable[Result], settings: Mapping[str, Setting]) -> str:
    """Return the results as CSV.

    Args:
        results: the results of a run.
        settings: setting name -> setting.

    Returns:
        One line for each cell and one column for each metric; of an error only its last line.
    """
    results = list(results)
    metrics = sorted({name for result in results for name in result.metrics})
    columns = (*FIXED, "rows_run", "rows_saved")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *metrics])
    for result in results:
        setting = settings[result.setting]
        values = {
            "group": setting.group,
            "guidance": setting.guidance,
            "error": last_line(result.error) if result.error else None,
        }
        row = [values[name] if name in values else getattr(result, name) for name in columns]
        writer.writerow([*row, *(result.metrics.get(name) for name in metrics)])
    return text.getvalue()
