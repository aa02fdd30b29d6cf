"""Generating one batch as a function without effects, and the executors that run batches.

`generate_batch` takes a backend and cells and returns what is to be written; only the writer of the run folder writes
it. So a batch can be generated in this process, in another one or on another machine, and again if it was lost.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import InputError, NotFinite
from cfglab.experiments.backends.base import Backend, BatchResult
from cfglab.experiments.execution.versions import versions
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.starting_noise import candidate_seed
from cfglab.experiments.storage.png import encode, to_bytes
from cfglab.experiments.storage.results import CANDIDATE
from cfglab.experiments.storage.session import WorkerState
from cfglab.metrics.images import pixel_metrics

LOST = "Ray workers were lost whenever they drew this image, out of memory perhaps; Ray's logs say more"
NOT_FINITE = "the image has values that are not finite (NaN or infinity); try dtype float32 or a smaller scale"
Batch = tuple[Cell, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one cell of a batch.

    Attributes:
        cell: the cell.
        file: the PNG file of the image, None if the cell failed.
        error: the error, None if there is an image.
        settled: False if another attempt may succeed.
        refused: True if the model cannot run the guidance of the cell, or nothing of the experiment.
        metrics: metrics of the image.
        rows_run: denoiser rows that were run: this image's even share of its batch.
        rows_saved: denoiser rows that were saved: this image's even share of its batch.
        trace: the trace of the image, as `CellTrace.encode` returns it.
        candidate: the number of the starting noise that was chosen of the cell's `best_of`.
    """

    cell: Cell
    file: bytes | None = None
    error: str | None = None
    settled: bool = True
    refused: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    rows_run: float = 0.0
    rows_saved: float = 0.0
    trace: bytes | None = None
    candidate: int = 0

    @property
    def torch_seed(self) -> int:
        """The torch seed of the starting noise."""
        return candidate_seed(self.cell.seed, self.candidate)


@dataclass(frozen=True)
class Workers:
    """Workers that have loaded the model.

    Attributes:
        environment: the versions and the device of the workers.
        draw: yields the outcomes of each batch as soon as it is complete, in any order.
        crew: returns what each worker on another process does; empty if there is none.
    """

    environment: Mapping[str, str]
    draw: Callable[[Sequence[Batch]], Iterator[list[Outcome]]]
    crew: Callable[[], Sequence[WorkerState]] = tuple


Load = Callable[[str], Backend]
"""Loads the model on a device, which is given by its name."""
Executor = Callable[[Load, str, int], AbstractContextManager[Workers]]
"""Called with how to load the model, the device, and how many batches there are at most. On entry it loads the model
and raises the errors of loading, before a run folder is made; on exit it releases the workers."""


def is_refusal(error: str | None) -> bool:
    """Return whether the stored error of an unsettled cell says that the model refuses its guidance.

    Another attempt with the same model ends the same way. Any other failure is stored as a traceback or as LOST.

    Args:
        error: the error of a Result.
    """
    return error is not None and error != LOST and "\n" not in error


@contextmanager
def in_process(load: Load, device: str, most: int) -> Iterator[Workers]:  # noqa: ARG001 (one worker for any number of batches)
    """The executor that generates one batch after another in this process."""
    backend = load(device)
    yield Workers(describe_environment(backend), lambda batches: (generate_batch(backend, batch) for batch in batches))


def describe_environment(backend: Backend) -> dict[str, str]:
    """Return the versions that the pixels of this process depend on, and its device."""
    return {**versions(), "device": str(backend.device)}


def generate_batch(backend: Backend, batch: Batch) -> list[Outcome]:
    """Generate a batch; if that fails, generate it in smaller pieces.

    Args:
        backend: the loaded model.
        batch: cells that have all fields in common except prompt, seed and guidance.

    Returns:
        One outcome for each cell; a failure is an outcome, too.
    """
    outcomes: list[Outcome] = []
    for piece, result in generate_in_pieces(backend, batch):
        if isinstance(result, str):
            outcomes += [Outcome(cell, error=result, settled=False) for cell in piece]
        elif isinstance(result, NotFinite):
            outcomes += [Outcome(cell, error=str(result)) for cell in piece]
        elif isinstance(result, InputError):
            outcomes += [Outcome(cell, error=str(result), settled=False, refused=True) for cell in piece]
        else:
            outcomes += _outcomes(piece, result)
    return outcomes


def generate_in_pieces(
    backend: Backend, batch: Sequence[Cell]
) -> Iterator[tuple[Sequence[Cell], BatchResult | str | InputError]]:
    """Generate a batch as one piece, or in halves, and those again, if the model fails.

    So a batch that does not fit into memory goes on with what fits, and a cell that the model cannot generate (its
    guidance names a layer that this network does not have) fails alone. Every batch is first tried whole: the result
    depends on the batch and the machine, not on earlier batches. An image of a smaller piece is within 1e-4 of that of
    the whole batch before it is rounded to bytes, because kernels round differently at other batch sizes.

    Args:
        backend: the loaded model.
        batch: cells that have all fields in common except prompt, seed and guidance.

    Yields:
        Each piece with its result. A text is the traceback of a single cell; NotFinite is that of a single cell
        whose prediction is not finite in any attempt, and InputError that of one which the model refuses.
    """
    result = _try_whole(backend, batch)
    if isinstance(result, str | InputError) and len(batch) > 1:  # the failed attempt has released its tensors
        half = (len(batch) + 1) // 2
        yield from generate_in_pieces(backend, batch[:half])
        yield from generate_in_pieces(backend, batch[half:])
    else:
        yield batch, result


def _try_whole(backend: Backend, batch: Sequence[Cell]) -> BatchResult | str | InputError:
    try:
        return backend.generate(batch)
    except InputError as error:  # NotFinite is one
        return error.with_traceback(None)
    except Exception as error:
        return "".join(traceback.format_exception(error))


def _outcomes(piece: Sequence[Cell], result: BatchResult) -> Iterator[Outcome]:
    finite: NDArray[np.bool_] = np.all(np.isfinite(result.pixels), axis=(1, 2, 3))
    files = encode(to_bytes(np.nan_to_num(result.pixels)), piece, versions())
    if result.metrics is None:
        metrics = iter(pixel_metrics(result.pixels[finite]))
    else:
        metrics = iter([dict(values) for values, good in zip(result.metrics, finite, strict=True) if good])
    run, saved = result.rows_run / len(piece), result.rows_saved / len(piece)
    candidates = result.candidates or (0,) * len(piece)
    for cell, good, file, trace, candidate in zip(piece, finite, files, result.traces, candidates, strict=True):
        if good:
            values = {**next(metrics), **({CANDIDATE: float(candidate)} if cell.best_of > 1 else {})}
            yield Outcome(cell, file, metrics=values, rows_run=run, rows_saved=saved, trace=trace, candidate=candidate)
        else:
            yield Outcome(cell, error=NOT_FINITE)
