"""The page of a training: every metric over the training step, and the images of each guidance and checkpoint."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from cfglab import svg
from cfglab.experiments.storage.store import Store
from cfglab.metrics import Metric
from cfglab.metrics.estimate import Estimate
from cfglab.report.page.render import assets, environment
from cfglab.report.summary.tables import Tables, build

BESIDE = 0.006
"""The distance of two guidances' intervals at one step, as a share of the axis."""


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """One checkpoint: its step, its folder's name, its numbers, and its images by guidance, prompt and seed."""

    step: int
    folder: str
    tables: Tables
    sources: Sequence[Sequence[str | None]]

    @property
    def failed(self) -> int:
        """The number of images that could not be generated."""
        return sum(row.failed for row in self.tables.rows)


def render_training(folder: Path, checkpoints: Mapping[int, Path]) -> str:
    """Return the page of a training as HTML. It shows the images from the run folders beside it.

    Args:
        folder: the folder of the checkpoints, in which the page is written.
        checkpoints: training step -> run folder, in order.

    Raises:
        InputError: if a run folder cannot be read.
    """
    views = [_view(step, path, folder) for step, path in checkpoints.items()]
    experiment = views[-1].tables.experiment
    names = [setting.name for setting in experiment.settings]
    places = [f"{prompt}, seed {seed}" for prompt in experiment.prompts for seed in experiment.seeds]
    return (
        environment()
        .get_template("training.html.j2")
        .render(
            experiment=experiment,
            views=views,
            names=names,
            places=places,
            figures=[(metric, Markup(_figure(metric, names, views))) for metric in _metrics(views)],
            sources=Markup(json.dumps([view.sources for view in views]).replace("<", "\\u003c")),
            style=assets(("palette.css", "page.css", "training.css")),
        )
    )


def _view(step: int, path: Path, folder: Path) -> CheckpointView:
    with Store.open(path) as store:
        tables = build(store)
    columns = tables.columns
    settings, prompts, seeds = columns.shape
    images = [
        [columns.images[columns.position(s, p, q)] for p in range(prompts) for q in range(seeds)]
        for s in range(settings)
    ]
    name = quote(path.relative_to(folder).as_posix())
    sources = [[image and f"{name}/{quote(image)}" for image in row] for row in images]
    return CheckpointView(step, name, tables, sources)


def _metrics(views: Sequence[CheckpointView]) -> list[Metric]:
    """What any checkpoint measured, in the order of the newest."""
    tables = [view.tables for view in reversed(views)]
    return list({metric.name: metric for table in tables for metric in (*table.metrics, *table.sets)}.values())


def _figure(metric: Metric, names: Sequence[str], views: Sequence[CheckpointView]) -> str:
    """A metric over the training step, one curve with intervals for each guidance."""
    unit = 100 if metric.unit == "share" else 1
    steps = [view.step for view in views]
    beside = (steps[-1] - steps[0]) * BESIDE
    lines, marks = [], []
    for index, name in enumerate(names):
        colour = f"var(--c{index % svg.COLOURS})"
        found = [_estimate(view, name, metric.name) for view in views]
        values = [None if estimate is None else estimate.value * unit for estimate in found]
        places = [step + (index - (len(names) - 1) / 2) * beside for step in steps]
        lines.append(svg.Line(values, places, label=name, colour=colour))
        for step, estimate in zip(places, found, strict=True):
            if estimate is not None:
                low, high = (None if end is None else end * unit for end in (estimate.low, estimate.high))
                marks.append(svg.Mark(step, estimate.value * unit, low, high, colour, size=3.0))
    title = f"{metric.title}{' (%)' if metric.unit == 'share' else ''}"
    return svg.plot(
        f"{metric.title} over the training step",
        description=f"{metric.title} of {len(names)} guidances at {len(steps)} checkpoints.",
        lines=lines,
        marks=marks,
        x=svg.Axis("training step", whole=True),
        y=svg.Axis(title.lower() if title.isascii() else "score"),
        labels="legend",
    )


def _estimate(view: CheckpointView, name: str, metric: str) -> Estimate | None:
    row = next(row for row in view.tables.rows if row.setting.name == name)
    return row.means.get(metric) or row.sets.get(metric)
