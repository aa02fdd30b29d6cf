"""What guidance did in every step of one cell, small enough to be kept for each: 1.4 kB at 50 steps. Loads no torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import InputError

if TYPE_CHECKING:
    from cfglab.denoising.trace import StepRecord, Trace
    from cfglab.experiments.storage.store import Store

COLUMNS = ("step", "sigma", "w", "difference", "cosine", "rows_run", "rows_saved")
"""step counts from 0; sigma is noise over signal; difference is the L2 norm of cond - uncond and cosine that of the
angle between them, in the model's own space; rows are this image's even share of those that equal rows split."""

_HEADS = ("step", "sigma", "w", "|cond - uncond|", "cosine", "rows run", "rows saved")


@dataclass(frozen=True, eq=False)
class CellTrace:
    """One denoiser call a column: `values` is float32 (7, calls), rows as in COLUMNS, NaN where nothing is known."""

    values: NDArray[np.float32]

    @classmethod
    def decode(cls, data: bytes) -> "CellTrace":
        """From what `encode` gave. Raises InputError for anything else."""
        size = 4 * len(COLUMNS)
        if not data or len(data) % size:
            raise InputError(f"a trace of {len(data)} bytes: it is a multiple of {size}; draw the image again.")
        return cls(np.frombuffer(data, "<f4").reshape(len(COLUMNS), -1))

    def encode(self) -> bytes:
        """The values as little-endian float32, a column of COLUMNS after the other."""
        return self.values.astype("<f4").tobytes()

    def column(self, name: str) -> list[float | None]:
        """One of COLUMNS, None where nothing is known."""
        row: list[float] = self.values[COLUMNS.index(name)].tolist()
        return [None if np.isnan(value) else value for value in row]

    def __str__(self) -> str:
        """A table, one line a denoiser call."""
        lines: list[tuple[str, ...]] = [_HEADS]
        for step, *others, run, saved in self.values.T.tolist():
            lines.append((f"{step + 1:.0f}", *map(_cell, others), f"{run:.3g}", f"{saved:.3g}"))
        lines.append(("", "", "", "", "all", *(f"{total:.4g}" for total in np.nansum(self.values[-2:], axis=1))))
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
        return "\n".join("  ".join(c.rjust(width) for c, width in zip(line, widths, strict=True)) for line in lines)


def cell_traces(trace: "Trace", images: int) -> list[CellTrace]:
    """What a run of so many images did, image by image. Waits for the device."""
    table = np.full((images, len(COLUMNS), len(trace.steps)), np.nan, np.float32)
    for call, record in enumerate(trace.steps):
        shares = record.shares or [(record.rows_run / images, record.rows_saved / images)] * images
        table[:, 0, call] = record.step.index
        table[:, 1, call] = _number(record.step.sigma)
        table[:, 2:5, call] = np.transpose([_numbers(part, images) for part in _parts(record)])
        table[:, 5:, call] = shares
    return [CellTrace(one) for one in table]


def stored_traces(store: "Store", cells: Sequence[str] | None = None) -> Mapping[str, bytes]:
    """The encoded traces that a run keeps, by cell id: of those cells, or of all. Older runs have none."""
    if not store.select("SELECT 1 FROM sqlite_master WHERE name = 'traces'"):
        return {}
    if cells is None:
        return dict(store.select("SELECT cell, trace FROM traces"))
    found = ", ".join("?" * len(cells))
    return dict(store.select(f"SELECT cell, trace FROM traces WHERE cell IN ({found})", *cells))


def stored_levels(store: "Store", count: int) -> list[float] | None:
    """The noise levels (sigma, noise over signal) of the run's own sampler, read from a trace that it keeps.

    One for each of `count` steps, the first where a step calls twice, and 0 where the run ends; None where no trace
    says all of them, falling and finite.
    """
    if not store.select("SELECT 1 FROM sqlite_master WHERE name = 'traces'"):
        return None
    for (data,) in store.select("SELECT trace FROM traces LIMIT 1"):
        trace = CellTrace.decode(data)
        levels: dict[float | None, float | None] = {}
        for step, sigma in zip(trace.column("step"), trace.column("sigma"), strict=True):
            levels.setdefault(step, sigma)
        known = [it for it in levels.values() if it is not None and np.isfinite(it)]
        if len(known) == len(levels) == count and all(a > b for a, b in pairwise([*known, 0.0])):
            return [*known, 0.0]
    return None


def trace_of(
    image: Path | str, device: str = "auto", *, allow_pickle: bool = False, allow_download: bool = False
) -> CellTrace:
    """The trace of a run's image: as the run keeps it, or else by drawing its batch again.

    Raises InputError for an image without a record or with one that cannot be true, and as `reproduce` where the batch
    has to be drawn.
    """
    from cfglab.experiments.execution.reproduce import replay
    from cfglab.experiments.storage.png import read_record
    from cfglab.experiments.storage.store import DATABASE, Store

    record = read_record(image)
    for folder in Path(image).resolve().parents[1:2]:
        if (folder / DATABASE).is_file():
            with Store.open(folder) as store:
                kept = stored_traces(store, [record.cell.id]).get(record.cell.id)
            if kept:
                return CellTrace.decode(kept)
    drawn = replay(image, record, device, allow_pickle=allow_pickle, allow_download=allow_download)
    return CellTrace.decode(drawn.traces[record.index])


def _parts(record: "StepRecord") -> Iterator[Sequence[float | None]]:
    yield record.w
    yield record.difference
    yield record.cosine


def _numbers(values: Sequence[float | None], images: int) -> list[float]:
    return [_number(value) for value in values] or [np.nan] * images


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}"
