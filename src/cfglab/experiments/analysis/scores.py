"""One metric of a run as an array: settings × prompts × seeds. Read straight from the database, or from results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import InputError
from cfglab.experiments.analysis.paired import Key, ScoreGrid
from cfglab.experiments.storage.arrays import ResultArrays
from cfglab.experiments.storage.results import CANDIDATE
from cfglab.experiments.storage.store import Store

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]


class ResultLike(Protocol):
    """What is read of a stored result."""

    @property
    def setting(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...


@dataclass(frozen=True, slots=True)
class Scores:
    """One metric of every image of a run.

    Attributes:
        metric: the name of the metric.
        settings: the settings in the order of the experiment.
        prompts: the prompts, sorted.
        seeds: the seeds, sorted.
        values: (settings, prompts, seeds); NaN where the image is missing, failed, or has no such metric.
        failed: (settings, prompts, seeds), whether the image failed.
        measured: every metric that any image of the run has.
        crossed: whether all prompts share the starting noises of the seeds.
    """

    metric: str
    settings: tuple[str, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    values: FloatArray
    failed: BoolArray
    measured: frozenset[str]
    crossed: bool

    @classmethod
    def of(cls, source: "Store | Scores | Iterable[ResultLike]", metric: str) -> "Scores":
        """Return the Scores of one metric.

        Args:
            source: a store, of which only this metric is read; results; or Scores of this metric, which are returned.
            metric: the name of the metric.

        Raises:
            InputError: if a (setting, prompt, seed) has two results, or the Scores are of another metric.
        """
        if isinstance(source, Scores) and source.metric == metric:
            return source
        if isinstance(source, Scores):
            raise InputError(f"these scores are of '{source.metric}', not of '{metric}'; read that one")
        if isinstance(source, Store):
            return cls.from_arrays(ResultArrays.read(source, metric), metric)
        return _gather(source, metric)

    @classmethod
    def from_arrays(
        cls, arrays: ResultArrays, metric: str, settings: Sequence[int] | IntArray | None = None
    ) -> "Scores":
        """Return one metric of a run.

        Args:
            arrays: the results of the run.
            metric: the metric; all values are NaN if it was not measured.
            settings: the indices of the settings to keep; None keeps all.

        Returns:
            The Scores.
        """
        experiment = arrays.experiment
        rows = np.arange(arrays.shape[0]) if settings is None else np.asarray(settings, dtype=np.intp)
        prompts = sorted(range(arrays.shape[1]), key=experiment.prompts.__getitem__)
        seeds = sorted(range(arrays.shape[2]), key=experiment.seeds.__getitem__)
        order = np.ix_(rows, np.array(prompts), np.array(seeds))
        values = (
            arrays.scores[metric][order]
            if metric in arrays.scores
            else np.full([len(axis) for axis in (rows, prompts, seeds)], nan)
        )
        return cls(
            metric=metric,
            settings=tuple(experiment.settings[row].name for row in rows),
            prompts=tuple(experiment.prompts[index] for index in prompts),
            seeds=tuple(experiment.seeds[index] for index in seeds),
            values=values,
            failed=arrays.failed[order],
            measured=arrays.measured,
            crossed=arrays.crossed,
        )


def _gather(results: Iterable[ResultLike], metric: str) -> Scores:
    results = list(results)
    grid = ScoreGrid((result.prompt, result.seed) for result in results)
    settings = {name: i for i, name in enumerate(dict.fromkeys(result.setting for result in results))}
    values = np.full((len(settings), len(grid.prompts), len(grid.seeds)), nan)
    failed = np.zeros(values.shape, dtype=bool)
    measured: set[str] = set()
    pairs = {(result.prompt, result.seed) for result in results}
    noises = {_noise(result) for result in results}
    seen: set[tuple[str, Key]] = set()
    for result in results:
        if (result.setting, (result.prompt, result.seed)) in seen:
            raise InputError(
                f"'{result.setting}' has two results for prompt '{result.prompt}', seed {result.seed}: "
                "pairs need one; compare one run at a time"
            )
        seen.add((result.setting, (result.prompt, result.seed)))
        cell = settings[result.setting], grid.prompts[result.prompt], grid.seeds[result.seed]
        value = result.metrics.get(metric, nan)
        if result.status != "done":
            failed[cell] = True
        elif isfinite(value):
            values[cell] = value
        measured.update(result.metrics)
    return Scores(
        metric=metric,
        settings=tuple(settings),
        prompts=tuple(grid.prompts),
        seeds=tuple(grid.seeds),
        values=values,
        failed=failed,
        measured=frozenset(measured - {CANDIDATE}),
        crossed=len(noises) < len(pairs),
    )


def _noise(result: ResultLike) -> int:
    """The seed of a result's starting noise. A result that does not name one has that of its seed."""
    noise = getattr(result, "torch_seed", None)
    return result.seed if noise is None else int(noise)
