"""Drawing one batch as a function without effects, and who may do it.

`draw_batch` takes a pipeline and cells and returns what is to be written; the one writer of the run folder writes it.
So a batch can be drawn in this process, in another, or on another machine, and be drawn again when it was lost.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cfglab.errors import NotFinite
from cfglab.experiments.execution.retry import draw_in_pieces
from cfglab.experiments.execution.versions import versions
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.storage.png import encode, to_bytes
from cfglab.metrics.images import clipped_share, contrast, saturation

if TYPE_CHECKING:
    from cfglab.experiments.backends.pipeline import BatchResult

NOT_FINITE = "the image has values that are not finite (NaN or infinity); try dtype float32 or a smaller scale"
Batch = tuple[Cell, ...]


@dataclass(frozen=True)
class Outcome:
    """One cell of a batch: its image's file (PNG) with metrics and trace, or the error.

    `settled` is False where another attempt may succeed. `rows_run` and `rows_saved` are denoiser rows, this image's
    even share of what was drawn together.
    """

    cell: Cell
    file: bytes | None = None
    error: str | None = None
    settled: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)
    rows_run: float = 0.0
    rows_saved: float = 0.0
    trace: bytes | None = None


@dataclass(frozen=True)
class Workers:
    """Those who draw, with the model loaded: their versions and device, and `draw`, which yields the outcomes of every
    batch as it is done, in any order."""

    environment: Mapping[str, str]
    draw: Callable[[Sequence[Batch]], Iterator[list[Outcome]]]


Load = Callable[[str], Any]  # a device's name -> the pipeline
Executor = Callable[[Load, str, int], AbstractContextManager[Workers]]
"""Called with how to load the pipeline, the device, and how many batches there are at most. Entering it loads the model
and raises whatever is wrong with it, before a run folder is made; leaving it lets the workers go."""


@contextmanager
def in_process(load: Load, device: str, most: int) -> Iterator[Workers]:  # noqa: ARG001 (one worker, however many batches)
    """The executor that draws batch after batch in this process."""
    pipe = load(device)
    yield Workers(describe_environment(pipe), lambda batches: (draw_batch(pipe, batch) for batch in batches))


def describe_environment(pipe: Any) -> dict[str, str]:
    """The versions that this process draws with, and its device."""
    return {**versions(), "device": str(pipe.device)}


def draw_batch(pipe: Any, batch: Batch) -> list[Outcome]:
    """The outcome of every cell of a batch, in pieces where it cannot be drawn whole. A failure is an outcome, too.

    Raises InputError for what cannot be drawn by any attempt.
    """
    outcomes: list[Outcome] = []
    for piece, drawn in draw_in_pieces(pipe, batch):
        if isinstance(drawn, str):
            outcomes += [Outcome(cell, error=drawn, settled=False) for cell in piece]
        elif isinstance(drawn, NotFinite):
            outcomes += [Outcome(cell, error=str(drawn)) for cell in piece]
        else:
            outcomes += _outcomes(piece, drawn)
    return outcomes


def _outcomes(piece: Sequence[Cell], drawn: "BatchResult") -> Iterator[Outcome]:
    finite = np.isfinite(drawn.pixels).all(axis=(1, 2, 3))
    files = encode(to_bytes(np.nan_to_num(drawn.pixels)), piece, versions())
    exact = drawn.metrics and [one for one, good in zip(drawn.metrics, finite, strict=True) if good]
    metrics = _pixel_metrics(drawn.pixels[finite]) if exact is None else iter(exact)
    run, saved = drawn.rows_run / len(piece), drawn.rows_saved / len(piece)
    for cell, good, file, trace in zip(piece, finite, files, drawn.traces, strict=True):
        if good:
            yield Outcome(cell, file, metrics=next(metrics), rows_run=run, rows_saved=saved, trace=trace)
        else:
            yield Outcome(cell, error=NOT_FINITE)


def _pixel_metrics(pixels: np.ndarray) -> Iterator[dict[str, float]]:
    """Metrics of each image of `(n, 3, h, w)`, measured before clamping."""
    if not len(pixels):
        return iter(())
    named = {"saturation": saturation, "clipped_share": clipped_share, "contrast": contrast}
    columns = {name: measure(pixels).tolist() for name, measure in named.items()}
    return iter([dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)])
