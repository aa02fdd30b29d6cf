"""What a run knows of a cell: the result that readers see, and the row that the writer keeps."""

import csv
import gc
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from cfglab.experiments.spec.experiment import Setting
from cfglab.experiments.storage.database import seed_read
from cfglab.file_input import last_line

FIXED = ("position", "setting", "group", "guidance", "prompt", "seed", "torch_seed", "status", "image", "error", "cell")

IMAGE = r"^(?:images/)?[0-9A-Za-z_-]{1,64}\.png$"
"""An image's file relative to the run folder: a database from elsewhere names no file outside it."""


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


class ResultRow(BaseModel):
    """A result and what only the writer needs: settled or to be tried again, the hash of its image's file, and the
    image's trace as `CellTrace.encode` gives it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: Result
    settled: bool
    sha256: str | None = None
    trace: bytes | None = None


Select = Callable[[str], list[tuple[Any, ...]]]


def read_metrics(select: Select) -> tuple[list[str], list[str], NDArray[np.float64] | None]:
    """(metrics, cells, values (cells, metrics)), both in alphabetical order; no values where a cell lacks a metric.

    Where every cell has every metric, which is the rule, as many values as there are pairs say so, and the order alone
    says whose they are: no name is read twice.
    """
    names = sorted(name for (name,) in select("SELECT DISTINCT metric FROM metrics"))
    cells = [cell for (cell,) in select("SELECT DISTINCT cell FROM metrics ORDER BY cell")]
    values = select("SELECT value FROM metrics ORDER BY cell, metric")
    whole = len(values) == len(names) * len(cells)
    try:
        return names, cells, np.array(values, dtype=np.float64).reshape(len(cells), len(names)) if whole else None
    except ValueError:  # a damaged one, which is said where each is read with its name
        return names, cells, None


def read_results(select: Select, torch_seeds: Sequence[int]) -> list[Result]:
    """Every result of a run's database in the experiment's order; 100,000 of them in two seconds.

    `torch_seeds` are those of one setting, in the order of positions. The results are checked in one call, and the
    collector of cyclic garbage rests meanwhile: half of the time would be its looking through objects that are all
    kept.
    """
    columns = tuple(name for name in Result.model_fields if name not in ("metrics", "torch_seed"))
    place, seed, position = columns.index("cell"), columns.index("seed"), columns.index("position")
    with no_collection():
        metrics: dict[str, dict[str, float]] = {}
        names, cells, values = read_metrics(select)
        if values is not None:
            metrics = {
                cell: dict(zip(names, row, strict=True)) for cell, row in zip(cells, values.tolist(), strict=True)
            }
        else:
            for cell, metric, value in select("SELECT cell, metric, value FROM metrics"):
                metrics.setdefault(cell, {})[metric] = value
        records = select(f"SELECT {', '.join(columns)} FROM results ORDER BY position")
        return _RESULTS.validate_python(
            [
                dict(
                    zip(columns, it, strict=True),
                    seed=seed_read(it[seed]),
                    metrics=metrics.get(it[place], {}),
                    torch_seed=torch_seeds[it[position] % len(torch_seeds)],
                )
                for it in records
            ]
        )


_RESULTS = TypeAdapter(list[Result])


@contextmanager
def no_collection() -> Iterator[None]:
    """The collector of cyclic garbage rests, while many objects are made that are all kept."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def results_csv(results: Iterable[Result], settings: Mapping[str, Setting]) -> str:
    """One line a cell, one column a metric; of an error its last line."""
    results = list(results)
    metrics = sorted({name for result in results for name in result.metrics})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIXED, "rows_run", "rows_saved", *metrics])
    for it in results:
        setting = settings[it.setting]
        error = last_line(it.error) if it.error else None
        row: list[Any] = [it.position, it.setting, setting.group, setting.guidance, it.prompt, it.seed]
        row += [
            it.torch_seed,
            it.status,
            it.image,
            error,
            it.cell,
            it.rows_run,
            it.rows_saved,
            *(it.metrics.get(name) for name in metrics),
        ]
        writer.writerow(row)
    return text.getvalue()
