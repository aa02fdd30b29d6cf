"""What a run knows of a cell: the result that readers see, and the row that the writer keeps."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cfglab.experiments.spec import Setting

FIXED = ("position", "setting", "group", "guidance", "prompt", "seed", "status", "image", "error", "cell")


class Result(BaseModel):
    """One cell of a run: where it stands in the experiment, its picture or its error, and its metrics.

    `image` is relative to the run folder. `error` ends in the line that says what was wrong. `rows_run` and
    `rows_saved` are denoiser rows, this picture's even share of what its batch ran and saved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str
    position: int
    setting: str
    prompt: str
    seed: int
    status: Literal["done", "failed"]
    image: str | None = None
    error: str | None = None
    metrics: dict[str, float] = {}
    rows_run: float = 0.0
    rows_saved: float = 0.0


class Row(BaseModel):
    """A result and what only the writer needs: settled or to be tried again, and the hash of its picture's file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: Result
    settled: bool
    sha256: str | None = None


def results_csv(results: Iterable[Result], settings: Mapping[str, Setting]) -> str:
    """One line a cell, one column a metric; of an error its last line."""
    results = list(results)
    metrics = sorted({name for result in results for name in result.metrics})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIXED, "rows_run", "rows_saved", *metrics])
    for it in results:
        setting = settings[it.setting]
        error = it.error.strip().splitlines()[-1] if it.error else None
        row: list[Any] = [it.position, it.setting, setting.group, setting.guidance, it.prompt, it.seed, it.status]
        row += [it.image, error, it.cell, it.rows_run, it.rows_saved, *(it.metrics.get(name) for name in metrics)]
        writer.writerow(row)
    return text.getvalue()
