"""What every backend has in common: it generates the images of a batch of cells. Loads no torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.experiment import Experiment


@dataclass(frozen=True)
class BatchResult:
    """The images of one batch.

    Attributes:
        pixels: the images, float32 `(n, 3, height, width)` in about [-1, 1], not clamped; NaN where one failed.
        rows_run: denoiser rows that were run for the batch.
        rows_saved: denoiser rows that the batch did not need because equal rows are run once.
        traces: the trace of each image, as `CellTrace.encode` returns it.
        metrics: the metrics of each image, if they are not those of its pixels.
        candidates: the number of the starting noise that each cell took of its `best_of`; empty is 0 for all.
    """

    pixels: NDArray[np.float32]
    rows_run: int
    rows_saved: int
    traces: tuple[bytes, ...] = ()
    metrics: tuple[Mapping[str, float], ...] | None = None
    candidates: tuple[int, ...] = ()


@runtime_checkable
class Backend(Protocol):
    """A loaded model that generates batches of cells."""

    @property
    def device(self) -> object:
        """The device of the model; its text is recorded in versions.json."""
        ...

    def check_experiment(self, experiment: Experiment) -> None:
        """Raise InputError if the model cannot run this experiment, before anything is generated."""
        ...

    def check_prompts(self, prompts: Iterable[str], negative: str) -> None:
        """Raise InputError for a prompt or negative prompt that the model cannot encode."""
        ...

    def generate(self, batch: Sequence[Cell]) -> BatchResult:
        """Generate the images of a batch.

        Args:
            batch: cells that have all fields in common except prompt, seed and guidance.

        Returns:
            The images, in the order of the cells.

        Raises:
            NotFinite: if a prediction is not finite.
        """
        ...
