"""The results of a run as arrays: settings × prompts × seeds. The one place that turns positions into places."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import InputError
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.results import CANDIDATE, IMAGE, no_collection, read_metric_names, read_metric_table
from cfglab.experiments.storage.store import Store
from cfglab.file_input import last_line

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
_IMAGE = re.compile(IMAGE)


@dataclass(frozen=True, slots=True)
class ResultArrays:
    """The results of a run.

    Arrays have the shape (settings, prompts, seeds), in the order of the experiment; lists have one entry for each
    position of the experiment, which is the index into the flattened arrays.

    Attributes:
        experiment: the experiment of the run.
        cells: the id of each recorded cell, else None.
        images: the path of each image, relative to the run folder, else None.
        errors: position -> the last line of the error of a failed cell.
        scores: metric -> float64 array; NaN where the image has no such metric.
        done: whether there is an image.
        failed: whether the cell failed.
        measured: the names of all metrics that an image of the run has.
    """

    experiment: Experiment
    cells: Sequence[str | None]
    images: Sequence[str | None]
    errors: Mapping[int, str]
    scores: Mapping[str, FloatArray]
    done: BoolArray
    failed: BoolArray
    measured: frozenset[str]

    @classmethod
    def read(cls, store: Store, metric: str | None = None) -> Self:
        """Read the results of a run.

        Args:
            store: a run.
            metric: the only metric whose values are read; None reads all metrics.

        Returns:
            The arrays, all of one moment.

        Raises:
            InputError: if the results cannot be read or a row is damaged.
        """
        experiment = store.experiment
        shape = len(experiment.settings), len(experiment.prompts), len(experiment.seeds)
        count = shape[0] * shape[1] * shape[2]
        cells: list[str | None] = [None] * count
        images: list[str | None] = [None] * count
        errors: dict[int, str] = {}
        positions: dict[str, list[int]] = {}
        with no_collection(), store.snapshot():
            store.check_positions(count)
            for row in store.select("SELECT position, cell, status, image, error FROM results"):
                position, cell, image = row["position"], row["cell"], row["image"]
                cells[position] = cell
                if row["status"] != "done":
                    errors[position] = last_line(row["error"] or "") or "failed without a message"
                    continue
                if image is not None and not _IMAGE.fullmatch(image):
                    raise InputError(f"{store.folder}: a row is damaged (image {image!r:.60}); restore the file.")
                images[position] = image
                positions.setdefault(cell, []).append(position)
            measured = frozenset(read_metric_names(store.select)) - {CANDIDATE}
            scores = _scores(store, metric, positions, shape)
        failed = np.zeros(shape, dtype=bool)
        failed.flat[list(errors)] = True
        done = np.array([cell is not None for cell in cells]).reshape(shape) & ~failed
        return cls(experiment, cells, images, errors, scores, done, failed, measured)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of settings, prompts and seeds."""
        return len(self.experiment.settings), len(self.experiment.prompts), len(self.experiment.seeds)

    @property
    def crossed(self) -> bool:
        """Whether all prompts share the starting noises of the seeds."""
        return self.experiment.noise == "crossed"

    def position(self, setting: int, prompt: int = 0, seed: int = 0) -> int:
        """Return the position of a cell from the indices of its setting, prompt and seed in the experiment."""
        _, prompts, seeds = self.shape
        return (setting * prompts + prompt) * seeds + seed

    def where(self, position: int) -> tuple[int, str, int]:
        """Return the index of the setting, the prompt and the seed of a position."""
        setting, prompt, seed = np.unravel_index(position, self.shape)
        return int(setting), self.experiment.prompts[prompt], self.experiment.seeds[seed]


def _scores(
    store: Store, metric: str | None, positions: Mapping[str, Sequence[int]], shape: tuple[int, int, int]
) -> dict[str, FloatArray]:
    """Each metric as an array; a cell that several settings have gets its value in all of their places."""
    names, cells, values = read_metric_table(store.select, metric)
    first_positions = np.array([positions[cell][0] if cell in positions else -1 for cell in cells], dtype=np.int64)
    recorded = first_positions >= 0
    table = np.full((len(names), shape[0] * shape[1] * shape[2]), np.nan)
    table[:, first_positions[recorded]] = values[:, recorded]
    for position, *repeated in (cell_positions for cell_positions in positions.values() if len(cell_positions) > 1):
        table[:, repeated] = table[:, [position]]
    table[~np.isfinite(table)] = np.nan
    return {name: table[row].reshape(shape) for row, name in enumerate(names) if name != CANDIDATE}
