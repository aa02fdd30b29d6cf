"""Every cell of a run in columns, by its position (settings × prompts × seeds): 100,000 of them in a second."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import InputError
from cfglab.experiments.analysis.scores import Scores
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.results import IMAGE, no_collection, read_metrics
from cfglab.experiments.storage.store import Store
from cfglab.file_input import last_line

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


_IMAGE = re.compile(IMAGE)


@dataclass(frozen=True, slots=True)
class Columns:
    """What is known of every cell. Lists run over positions; None is not drawn, or has no image.

    `errors` maps a position to the last line of its error. Arrays are (settings, prompts, seeds): `done` has an image,
    `failed` has none and says why, and `scores` hold each metric, NaN where it was not measured.
    """

    experiment: Experiment
    cells: Sequence[str | None]
    images: Sequence[str | None]
    errors: Mapping[int, str]
    scores: Mapping[str, FloatArray]
    done: BoolArray
    failed: BoolArray

    @classmethod
    def read(cls, store: Store) -> "Columns":
        """Everything of a run in two queries. Raises InputError where the folder cannot be read."""
        experiment = store.experiment
        shape = len(experiment.settings), len(experiment.prompts), len(experiment.seeds)
        count = shape[0] * shape[1] * shape[2]
        cells: list[str | None] = [None] * count
        images: list[str | None] = [None] * count
        errors: dict[int, str] = {}
        positions: dict[str, list[int]] = defaultdict(list)
        with no_collection(), store.snapshot():
            store.check_positions(count)
            for position, cell, status, image, error in store.select(
                "SELECT position, cell, status, image, error FROM results"
            ):
                cells[position] = cell
                if status == "done":
                    if image is not None and not _IMAGE.fullmatch(image):
                        raise InputError(f"{store.folder}: a row is damaged (image {image!r:.60}); restore the file.")
                    images[position] = image
                    positions[cell].append(position)
                else:
                    errors[position] = last_line(error or "") or "failed without a message"
            scores = _scores(store, positions, shape)
        failed = np.zeros(shape, dtype=bool)
        failed.flat[list(errors)] = True
        done = np.array([cell is not None for cell in cells]).reshape(shape) & ~failed
        return cls(experiment, cells, images, errors, scores, done, failed)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Settings, prompts, seeds."""
        return len(self.experiment.settings), len(self.experiment.prompts), len(self.experiment.seeds)

    @property
    def crossed(self) -> bool:
        """Whether all prompts share the starting noises of the seeds."""
        return self.experiment.noise == "crossed"

    def position(self, setting: int, prompt: int = 0, seed: int = 0) -> int:
        """Where a cell stands, by the places of its setting, prompt and seed in the experiment."""
        _, prompts, seeds = self.shape
        return (setting * prompts + prompt) * seeds + seed

    def where(self, position: int) -> tuple[int, str, int]:
        """(place of the setting, prompt, seed) of a position."""
        setting, prompt, seed = np.unravel_index(position, self.shape)
        return int(setting), self.experiment.prompts[prompt], self.experiment.seeds[seed]

    def of(self, metric: str) -> Scores:
        """One metric as comparisons read it: without the settings of which nothing was recorded."""
        experiment = self.experiment
        present = np.atleast_1d((self.done | self.failed).any(axis=(1, 2)))
        prompts = sorted(range(self.shape[1]), key=experiment.prompts.__getitem__)
        seeds = sorted(range(self.shape[2]), key=experiment.seeds.__getitem__)
        return Scores(
            metric=metric,
            settings=tuple(
                setting.name for setting, recorded in zip(experiment.settings, present, strict=True) if recorded
            ),
            prompts=tuple(experiment.prompts[i] for i in prompts),
            seeds=tuple(experiment.seeds[i] for i in seeds),
            values=self.scores[metric][present][:, prompts][:, :, seeds],
            failed=self.failed[present][:, prompts][:, :, seeds],
            measured=frozenset(self.scores),
            crossed=self.crossed,
        )


def _scores(store: Store, positions: Mapping[str, Sequence[int]], shape: tuple[int, int, int]) -> dict[str, FloatArray]:
    """Every metric as an array; a cell that several settings ask for has its value in all of their places."""
    names, owners, values = _measured(store)
    first = {cell: places[0] for cell, places in positions.items()}
    places = np.array([first.get(owner, -1) for owner in owners], dtype=np.int64)
    table = np.full((len(names), shape[0] * shape[1] * shape[2]), np.nan)
    table[:, places[places >= 0]] = values[:, places >= 0]
    for own, *others in (them for them in positions.values() if len(them) > 1):
        table[:, others] = table[:, [own]]
    table[~np.isfinite(table)] = np.nan
    return {name: table[row].reshape(shape) for row, name in enumerate(names)}


def _measured(store: Store) -> tuple[list[str], list[str], FloatArray]:
    """(names of the metrics, cells, their values (metrics, cells)), NaN where a cell has no such metric."""
    names, owners, values = read_metrics(store.select)
    if values is not None:
        return names, owners, values.T
    table = np.full((len(names), len(owners)), np.nan)
    row_of, column_of = ({name: index for index, name in enumerate(labels)} for labels in (names, owners))
    for owner, metric, value in store.select("SELECT cell, metric, value FROM metrics"):
        table[row_of[metric], column_of[owner]] = value
    return names, owners, table
