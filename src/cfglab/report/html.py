"""The page: tables, figures and pictures put into one HTML file with its style and its script inside."""

import json
import shlex
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cfglab.experiments.store import Store
from cfglab.report import numbers, plots, view, words
from cfglab.report.axes import SHADES
from cfglab.report.pictures import BUDGET, Album, album
from cfglab.report.tables import Tables, build, comparable

SHOWN_FAILURES = 40
_SHAPES = ("o", "s", "^", "v", "P", "X")
_MARKS = ("●", "■", "▲", "▼", "✚", "✖")


def render(store: Store, folder: Path, budget: int = BUDGET) -> str:
    """The whole page of a run as HTML text. `budget` bounds the characters of embedded pictures."""
    tables = build(store)
    pictures = album(folder, _by_seed(tables), budget)
    faces = view.faces(tables)
    grids = view.grids(tables, faces)
    best = tables.best
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            it=tables,
            experiment=tables.experiment,
            verdict=words.verdict(tables),
            held_back=words.held_back(tables),
            faces=faces,
            grids=grids,
            figures=[_group_figures(tables, grid, faces) for grid in grids],
            by_dose=_dose_figure(tables, grids),
            marks=_MARKS,
            baseline=next(face for face in faces if face.row.baseline),
            best=next((face for face in faces if face.row is best), None),
            score_scale=view.score_scale(tables.rows, tables.main) if tables.main else None,
            difference_scale=view.difference_scale(tables.rows, tables.main) if tables.main else None,
            data=view.data(tables, faces, pictures),
            pictures=pictures,
            sources=_first_sources(tables, faces, pictures),
            failures=_failures(tables, pictures),
            shown_failures=SHOWN_FAILURES,
            palette=palette(),
            versions=_versions(folder),
            yaml=tables.experiment.to_yaml(),
            commands=_commands(tables),
            style=_asset("page.css"),
            script=_asset("page.js"),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cfglab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    spoken = (numbers.shown, numbers.gap, numbers.span, numbers.gap_span, numbers.p_value, numbers.count)
    environment.globals |= {function.__name__: function for function in spoken}
    return environment


def _asset(name: str) -> Markup:
    return Markup((files("cfglab.report") / "templates" / name).read_text(encoding="utf-8"))


def palette() -> tuple[tuple[str, str], ...]:
    """The sequential map (viridis, without its ends that vanish on the page) for light and for dark, as hex colours."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    viridis = colormaps["viridis"]
    steps = [place / (SHADES - 1) for place in range(SHADES)]
    return tuple((to_hex(viridis(0.86 * step)), to_hex(viridis(0.26 + 0.72 * step))) for step in steps)


def _by_seed(tables: Tables) -> list[Any]:
    """The results in the order in which pictures are embedded: all settings of the first seed and prompt first."""
    experiment = tables.experiment
    order = [
        (row.setting.name, prompt, seed)
        for seed in experiment.seeds
        for prompt in experiment.prompts
        for row in tables.rows
    ]
    return [tables.cells[key] for key in order if key in tables.cells]


def _first_sources(tables: Tables, faces: Sequence[view.Face], pictures: Album) -> list[str | None]:
    """What each setting shows before the script runs: its picture of the first prompt and seed."""
    first = tables.experiment.prompts[0], tables.experiment.seeds[0]
    cells = [tables.cells.get((face.row.setting.name, *first)) for face in faces]
    return [pictures.sources.get(cell.cell) if cell else None for cell in cells]


def _group_figures(tables: Tables, grid: view.Grid, faces: Sequence[view.Face]) -> dict[str, Markup | None]:
    """The curves of a group, and its scores over the axis where there are an axis and scores."""
    base = next(face for face in faces if face.row.baseline)
    marked = grid.axis.marked if grid.axis else None
    values = grid.axis.values if grid.axis else (None,) * len(grid.faces)
    lines = [
        plots.Curve(face.key, face.row.values, face.place or 0, marked is not None and value == marked)
        for face, value in zip(grid.faces, values, strict=True)
        if face.row.values
    ]
    figures: dict[str, Markup | None] = {"curves": None, "scores": None}
    label = f"{grid.axis.name} = {grid.axis.marked:g}" if grid.axis else None
    if lines:
        dashed = plots.Curve(base.key, base.row.values, 0)
        figures["curves"] = Markup(plots.curves(f"curves of {grid.name}", lines, dashed, label))
    main = tables.main
    if grid.axis and main:
        points = [
            plots.Point(face.key, value, face.row.means[main.name], face.place or 0)
            for face, value in zip(grid.faces, grid.axis.values, strict=True)
            if main.name in face.row.means
        ]
        if points:
            figures["scores"] = Markup(
                plots.scores(
                    f"scores of {grid.name}",
                    points,
                    xlabel=grid.axis.name,
                    ylabel=main.title.lower() if main.title.isascii() else "score",
                    percent=main.unit == "share",
                    axis=grid.axis,
                    baseline=base.row.means.get(main.name),
                )
            )
    return figures


def _dose_figure(tables: Tables, grids: Sequence[view.Grid]) -> Markup | None:
    """Scores over the dose, one mark a group; None for fewer than three settings whose dose means the baseline's w."""
    main, base = tables.main, tables.baseline
    if main is None:
        return None
    points = [
        plots.Point(face.key, face.row.dose, face.row.means[main.name], face.place or 0, _SHAPES[index % len(_SHAPES)])
        for index, grid in enumerate(grids)
        for face in grid.faces
        if face.row.dose is not None and main.name in face.row.means and comparable(face.row, base)
    ]
    if len(points) < 3:
        return None
    return Markup(
        plots.scores(
            "scores by dose",
            points,
            xlabel="dose: mean w over the steps",
            ylabel=main.title.lower() if main.title.isascii() else "score",
            percent=main.unit == "share",
            baseline=base.means.get(main.name),
            baseline_x=base.dose,
        )
    )


def _failures(tables: Tables, pictures: Album) -> list[tuple[str, str, int, str]]:
    """(setting's title, prompt, seed, message) of every cell without a picture."""
    titles = {row.setting.name: row.setting.title or row.setting.name for row in tables.rows}
    found = [(cell, view.fault(cell, pictures)) for cell in tables.cells.values()]
    return [(titles[cell.setting], cell.prompt, cell.seed, message) for cell, message in found if message]


def _commands(tables: Tables) -> list[tuple[str, str]]:
    baseline = shlex.quote(tables.experiment.baseline.name)
    metric = shlex.quote(tables.main.name if tables.main else "alignment")
    image = next((cell.image for cell in tables.cells.values() if cell.image), "images/….png")
    return [
        ("Continue this run, or check that it is complete", "cfglab run experiment.yaml --out ."),
        ("Compare every setting with the baseline", f"cfglab compare . --baseline {baseline} --metric {metric}"),
        ("Make one picture again", f"cfglab reproduce {shlex.quote(image)} --out copy.png"),
        ("Write this page again", "cfglab report ."),
    ]


def _versions(folder: Path) -> list[dict[str, str]]:
    """What each session ran with, the last one first; empty where the file is missing or is something else."""
    try:
        sessions = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    sessions = sessions if isinstance(sessions, list) else [sessions]
    return [{str(k): str(v) for k, v in it.items()} for it in reversed(sessions) if isinstance(it, dict)]
