"""The result of a search, evaluated on images that it was not tuned on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from cfglab.errors import InputError
from cfglab.experiments.analysis.compare import compare
from cfglab.experiments.analysis.comparison import ComparisonRow
from cfglab.experiments.analysis.paired import holm
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.store import Store
from cfglab.experiments.tuning.objective import Draw, refuse_unsettled
from cfglab.experiments.tuning.search import Search
from cfglab.guidance import Guidance

HELD_OUT = "held-out"
MOST = 6
"""Points of a frontier that are evaluated: that many of either side, its ends among them."""


class MeasuredPoint(BaseModel):
    """A guidance and its metrics on the images that it was tuned on, which flatter it.

    Attributes:
        name: the name of the setting.
        guidance: the guidance.
        values: the value of each metric.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    guidance: Guidance
    values: tuple[float, ...]


class Side(BaseModel):
    """One of the two texts of a search after its trials.

    Attributes:
        text: the text with gaps.
        full: trials with all images.
        cut: trials that were stopped early, because they were worse than the best one before them.
        refused: trials whose text is no guidance, or that made no image.
        rows: denoiser rows of all trials.
        points: the best guidance, or the frontier.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    full: int
    cut: int
    refused: int
    rows: float
    points: tuple[MeasuredPoint, ...]


class TuningVerdict(BaseModel):
    """A tuned guidance minus its opponent on held-out images.

    Attributes:
        setting: the name of the tuned guidance.
        against: the name of its opponent.
        rows: one row per metric.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: str
    against: str
    rows: tuple[ComparisonRow, ...]


class Tuned(BaseModel):
    """A finished search.

    Attributes:
        search: the search.
        constant: the constant scales.
        tuned: the guidance with gaps.
        run: the folder of the held-out images.
        looks: how often held-out images were evaluated in this folder, this time included.
        rows: denoiser rows of the held-out images.
        verdicts: the comparisons on held-out images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    search: Search
    constant: Side
    tuned: Side
    run: Path
    looks: int
    rows: float
    verdicts: tuple[TuningVerdict, ...]


def evaluate_held_out(search: Search, constant: Side, tuned: Side, folder: Path, draw: Draw) -> Tuned:
    """Generate the points of both sides for the held-out prompts and seeds, and compare them.

    A single tuned guidance is compared with the best constant scale. On a frontier each is compared with the constant
    scale that was nearest to it in the first metric on the images that were tuned on; p is corrected over all of them.

    Args:
        search: the search.
        constant: the constant scales after their trials.
        tuned: the guidance with gaps after its trials.
        folder: the folder of the search.
        draw: a function that runs an experiment in a folder.

    Raises:
        InputError: if two settings share no held-out image.
        MachineError: if the model failed.
    """
    points = [*constant.points, *tuned.points]
    settings = [
        Setting(name=point.name, group=point.name.split()[0], title=point.name, guidance=point.guidance)
        for point in points
    ]
    experiment = search.part(HELD_OUT, settings, search.held_prompts, search.held_seeds)
    run_folder = folder / HELD_OUT / experiment.id[:16]
    draw(experiment, run_folder)
    with Store.open(run_folder) as store:
        refuse_unsettled(store)
        rows = sum(result.rows_run for result in store.results())
        verdicts = [_verdict(store, search, point, opponent(point, constant.points)) for point in tuned.points]
    return Tuned(
        search=search,
        constant=constant,
        tuned=tuned,
        run=run_folder,
        looks=len(list((folder / HELD_OUT).iterdir())),
        rows=rows,
        verdicts=corrected(verdicts, len(search.metrics)),
    )


def opponent(point: MeasuredPoint, others: Sequence[MeasuredPoint]) -> MeasuredPoint:
    """Return the point that is nearest to another in the first metric, on the images that were tuned on.

    Args:
        point: the tuned point.
        others: the points to choose from.
    """
    return min(others, key=lambda other: abs(other.values[0] - point.values[0]))


def evenly_spaced(points: Sequence[MeasuredPoint], most: int = MOST) -> list[MeasuredPoint]:
    """Return at most `most` points, evenly through their order, both ends included.

    Args:
        points: the points.
        most: the largest number of points.
    """
    return [points[i] for i in sorted({round(i) for i in np.linspace(0, len(points) - 1, min(most, len(points)))})]


def _verdict(store: Store, search: Search, point: MeasuredPoint, against: MeasuredPoint) -> TuningVerdict:
    rows = []
    for metric in search.metrics:
        row = next(row for row in compare(store, metric, against.name).rows if row.setting == point.name)
        if row.difference is None:
            raise InputError(
                f"{store.folder}: '{point.name}' and '{against.name}' share no held-out image; run it again."
            )
        rows.append(row)
    return TuningVerdict(setting=point.name, against=against.name, rows=tuple(rows))


def corrected(verdicts: Sequence[TuningVerdict], metrics: int) -> tuple[TuningVerdict, ...]:
    """Return the verdicts with p after Holm's correction over all of them, one metric at a time.

    `compare` corrected for other families. A missing p counts as 1 and stays missing.

    Args:
        verdicts: the verdicts.
        metrics: the number of metrics.
    """
    columns = []
    for metric in range(metrics):
        p_values = [verdict.rows[metric].p for verdict in verdicts]
        in_family = holm([1.0 if p is None else p for p in p_values])
        columns.append([None if p is None else p_holm for p, p_holm in zip(p_values, in_family, strict=True)])
    return tuple(
        verdict.model_copy(
            update={
                "rows": tuple(
                    row.model_copy(update={"p_holm": column[number]})
                    for row, column in zip(verdict.rows, columns, strict=True)
                )
            }
        )
        for number, verdict in enumerate(verdicts)
    )
