"""The pages of a large run: what a script reads when somebody looks, in files of `report/` beside `report.html`.

A page opened from disk may not read files, but it may run scripts: each file calls `cfglab(kind, number, content)`.

    images-<n>.js  files and faults of PICTURES positions     scores-<m>.js  one metric of every cell
    traces-<n>.js    traces of TRACES positions                 (numbers are float32, little-endian, base64)
"""

import base64
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import InputError
from cfglab.experiments.storage.files import refuse
from cfglab.experiments.storage.store import Store
from cfglab.experiments.storage.traces import COLUMNS, CellTrace, stored_traces
from cfglab.report.summary.columns import Columns

FOLDER = "report"
PICTURES = 2048
TRACES = 1024
_PAGE = re.compile(r"(pictures|scores|traces)-\d+\.js")
SHOWN = COLUMNS[2:]
"""What the page draws of a trace: w, difference, cosine, rows_run, rows_saved."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Traces:
    """The traces that a run keeps, by cell; `steps` and `sigmas` are those of every denoiser call, alike in all."""

    by_cell: Mapping[str, bytes]
    steps: tuple[int, ...]
    sigmas: tuple[float | None, ...]

    @classmethod
    def of(cls, store: Store) -> "Traces":
        """Empty where the run keeps none. Traces of another length than most are left out."""
        by_cell = stored_traces(store)
        if not by_cell:
            return cls({}, (), ())
        sizes = Counter(map(len, by_cell.values()))
        size = sizes.most_common(1)[0][0]
        if len(sizes) > 1:
            by_cell = {cell: data for cell, data in by_cell.items() if len(data) == size}
        first = CellTrace.decode(next(iter(by_cell.values())))
        steps = tuple(int(step or 0) for step in first.column("step"))
        sigmas = tuple(None if sigma is None else float(f"{sigma:.5g}") for sigma in first.column("sigma"))
        return cls(by_cell, steps, sigmas)

    def block(self, cells: Sequence[str | None]) -> Floats:
        """The traces of some cells, (cells, SHOWN, calls); NaN where there is none."""
        calls = len(self.steps)
        nothing = np.full((len(COLUMNS), calls), np.nan, "<f4").tobytes()
        data = b"".join([self.by_cell.get(cell or "", nothing) for cell in cells])
        return np.frombuffer(data, "<f4").reshape(len(cells), len(COLUMNS), calls)[:, 2:]


def float_text(values: NDArray[Any]) -> str:
    """An array as the page's script reads it: float32, little-endian, base64."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def write(folder: Path, columns: Columns, traces: Traces, metrics: Sequence[str]) -> None:
    """Write the files of a large run in place of older ones.

    Args:
        folder: the run folder.
        columns: every cell of the run.
        traces: the traces of the run.
        metrics: the names of the metrics.

    Raises:
        InputError: if the folder `report/` holds other files.
        MachineError: if a file cannot be written.
    """
    new_folder, pages_folder = folder / f"{FOLDER}.part", folder / FOLDER
    if not _is_ours(pages_folder):
        raise InputError(
            f"{pages_folder}: holds other files, and the pages of the report go there; move them elsewhere."
        )
    try:
        shutil.rmtree(new_folder, ignore_errors=True)
        new_folder.mkdir()
        for name, text in _files(columns, traces, metrics):
            (new_folder / name).write_text(text, encoding="ascii", newline="\n")
        shutil.rmtree(pages_folder, ignore_errors=True)
        new_folder.rename(pages_folder)
    except OSError as error:
        shutil.rmtree(new_folder, ignore_errors=True)
        raise refuse(pages_folder, error) from error


def remove(folder: Path) -> None:
    """Take away the pages of a run that is no longer large; a folder with anything else in it stays."""
    if _is_ours(folder / FOLDER):
        shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _is_ours(pages_folder: Path) -> bool:
    """Whether nothing but pages of a report is there, and what a file manager leaves behind."""
    if not pages_folder.is_dir() or pages_folder.is_symlink():
        return not pages_folder.exists()
    return all(_PAGE.fullmatch(entry.name) or entry.name.startswith(".") for entry in pages_folder.iterdir())


def _files(columns: Columns, traces: Traces, metrics: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, name in enumerate(metrics):
        yield f"scores-{number}.js", _call("scores", number, _quoted(columns.scores[name]))
    count = len(columns.images)
    for number, start in enumerate(range(0, count, PICTURES)):
        positions = range(start, min(start + PICTURES, count))
        bad = {position: columns.errors[position] for position in positions if position in columns.errors}
        content = {"file": columns.images[start : positions.stop], "bad": bad}
        yield f"pictures-{number}.js", _call("pictures", number, json.dumps(content))
    if traces.steps:
        for number, start in enumerate(range(0, count, TRACES)):
            block = traces.block(columns.cells[start : start + TRACES])
            yield f"traces-{number}.js", _call("traces", number, _quoted(block))


def _call(kind: str, number: int, content: str) -> str:
    return f'cfglab("{kind}",{number},{content})\n'


def _quoted(values: NDArray[Any]) -> str:
    return f'"{float_text(values)}"'
