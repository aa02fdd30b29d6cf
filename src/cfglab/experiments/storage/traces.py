"""The trace of a cell: what guidance did in every step. It takes 1.4 kB for 50 steps. Loads no torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
    """The trace of a cell, one column for each denoiser call.

    Attributes:
        values: float32 (7, calls), rows as in COLUMNS; NaN where a value is not known.
    """

    values: NDArray[np.float32]

    @classmethod
    def decode(cls, data: bytes) -> "CellTrace":
        """Read a trace.

        Args:
            data: the bytes that `encode` returned.

        Raises:
            InputError: if the number of bytes is that of no trace.
        """
        size = 4 * len(COLUMNS)
        if not data or len(data) % size:
            raise InputError(f"a trace of {len(data)} bytes: it is a multiple of {size}; draw the image again.")
        return cls(np.frombuffer(data, "<f4").reshape(len(COLUMNS), -1))

    def encode(self) -> bytes:
        """Return the values as little-endian float32, one entry of COLUMNS after the other."""
        return self.values.astype("<f4").tobytes()

    def column(self, name: str) -> list[float | None]:
        """Return one entry of COLUMNS for each denoiser call, None where it is not known."""
        row: list[float] = self.values[COLUMNS.index(name)].tolist()
        return [None if np.isnan(value) else value for value in row]

    def __str__(self) -> str:
        """Return a table with one line for each denoiser call."""
        lines: list[tuple[str, ...]] = [_HEADS]
        for step, *measured, run, saved in self.values.T.tolist():
            lines.append((f"{step + 1:.0f}", *map(_cell, measured), f"{run:.3g}", f"{saved:.3g}"))
        lines.append(("", "", "", "", "all", *(f"{total:.4g}" for total in np.nansum(self.values[-2:], axis=1))))
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
        return "\n".join("  ".join(c.rjust(width) for c, width in zip(line, widths, strict=True)) for line in lines)


def cell_traces(trace: "Trace", images: int) -> list[CellTrace]:
    """Return the trace of each image of a pipeline's run. Waits for the device.

    Args:
        trace: the trace of the run.
        images: the number of images of the run.
    """
    table = np.full((images, len(COLUMNS), len(trace.steps)), np.nan, np.float32)
    for call, record in enumerate(trace.steps):
        shares = record.shares or [(record.rows_run / images, record.rows_saved / images)] * images
        table[:, 0, call] = record.step.index
        table[:, 1, call] = _number(record.step.sigma)
        table[:, 2:5, call] = np.transpose([_numbers(part, images) for part in _parts(record)])
        table[:, 5:, call] = shares
    return [CellTrace(values) for values in table]


def stored_traces(store: "Store", cells: Sequence[str] | None = None) -> Mapping[str, bytes]:
    """Return the encoded traces that a run keeps.

    Args:
        store: a run.
        cells: cell ids; None returns the traces of all cells.

    Returns:
        Cell id -> trace, as `CellTrace.encode` returns it. Runs of older versions have none.

    Raises:
        InputError: if the results cannot be read.
    """
    if not store.has_table("traces"):
        return {}
    if cells is None:
        rows = store.select("SELECT cell, trace FROM traces")
    else:
        marks = ", ".join("?" * len(cells))
        rows = store.select(f"SELECT cell, trace FROM traces WHERE cell IN ({marks})", *cells)
    return {row["cell"]: row["trace"] for row in rows}


def stored_levels(store: "Store", count: int) -> list[float] | None:
    """Return the noise levels of a run's own sampler, read from a trace that the run keeps.

    Args:
        store: a run.
        count: the number of steps.

    Returns:
        Sigma (noise over signal) at each step, of the first call if a step has two, and 0 for the end: `count` + 1
        falling values. None if no trace has all of them.

    Raises:
        InputError: if the results cannot be read.
    """
    if not store.has_table("traces"):
        return None
    for row in store.select("SELECT trace FROM traces LIMIT 1"):
        trace = CellTrace.decode(row["trace"])
        sigma_of_step: dict[float | None, float | None] = {}
        for step, sigma in zip(trace.column("step"), trace.column("sigma"), strict=True):
            sigma_of_step.setdefault(step, sigma)
        levels = [sigma for sigma in sigma_of_step.values() if sigma is not None and np.isfinite(sigma)]
        if len(levels) == len(sigma_of_step) == count and all(a > b for a, b in pairwise([*levels, 0.0])):
            return [*levels, 0.0]
    return None


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
