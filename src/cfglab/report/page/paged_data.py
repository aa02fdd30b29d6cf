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

    kept: Mapping[str, bytes]
    steps: tuple[int, ...]
    sigmas: tuple[float | None, ...]

    @classmethod
    def of(cls, store: Store) -> "Traces":
        """Empty where the run keeps none. Traces of another length than most are left out."""
        kept = stored_traces(store)
        if not kept:
            return cls({}, (), ())
        sizes = Counter(map(len, kept.values()))
        size = sizes.most_common(1)[0][0]
        if len(sizes) > 1:
            kept = {cell: data for cell, data in kept.items() if len(data) == size}
        one = CellTrace.decode(next(iter(kept.values())))
        steps = tuple(int(step or 0) for step in one.column("step"))
        sigmas = tuple(None if it is None else float(f"{it:.5g}") for it in one.column("sigma"))
        return cls(kept, steps, sigmas)

    def block(self, cells: Sequence[str | None]) -> Floats:
        """The traces of some cells, (cells, SHOWN, calls); NaN where there is none."""
        calls = len(self.steps)
        nothing = np.full((len(COLUMNS), calls), np.nan, "<f4").tobytes()
        data = b"".join([self.kept.get(cell or "", nothing) for cell in cells])
        return np.frombuffer(data, "<f4").reshape(len(cells), len(COLUMNS), calls)[:, 2:]


def float_text(values: NDArray[Any]) -> str:
    """An array as the page's script reads it: float32, little-endian, base64."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def write(folder: Path, columns: Columns, traces: Traces, metrics: Sequence[str]) -> None:
    """Write the pages of a run and put them in the place of older ones. Raises MachineError where that fails."""
    fresh, there = folder / f"{FOLDER}.part", folder / FOLDER
    if not _is_ours(there):
        raise InputError(f"{there}: holds other files, and the pages of the report go there; move them elsewhere.")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for name, text in _files(columns, traces, metrics):
            (fresh / name).write_text(text, encoding="ascii", newline="\n")
        shutil.rmtree(there, ignore_errors=True)
        fresh.rename(there)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise refuse(there, error) from error


def remove(folder: Path) -> None:
    """Take away the pages of a run that is no longer large; a folder with anything else in it stays."""
    if _is_ours(folder / FOLDER):
        shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _is_ours(there: Path) -> bool:
    """Whether nothing but pages of a report is there, and what a file manager leaves behind."""
    if not there.is_dir() or there.is_symlink():
        return not there.exists()
    return all(_PAGE.fullmatch(entry.name) or entry.name.startswith(".") for entry in there.iterdir())


def _files(columns: Columns, traces: Traces, metrics: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, name in enumerate(metrics):
        yield f"scores-{number}.js", _call("scores", number, _quoted(columns.scores[name]))
    count = len(columns.images)
    for number, start in enumerate(range(0, count, PICTURES)):
        here = range(start, min(start + PICTURES, count))
        bad = {place: columns.errors[place] for place in here if place in columns.errors}
        content = {"file": columns.images[start : here.stop], "bad": bad}
        yield f"pictures-{number}.js", _call("pictures", number, json.dumps(content))
    if traces.steps:
        for number, start in enumerate(range(0, count, TRACES)):
            block = traces.block(columns.cells[start : start + TRACES])
            yield f"traces-{number}.js", _call("traces", number, _quoted(block))


def _call(kind: str, number: int, content: str) -> str:
    return f'cfglab("{kind}",{number},{content})\n'


def _quoted(values: NDArray[Any]) -> str:
    return f'"{float_text(values)}"'
