"""The page: tables, figures and images put into one HTML file with its style and its script inside."""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cfglab.file_input import read_json
from cfglab.limits import VERSIONS_BYTES
from cfglab.report import formatting as numbers
from cfglab.report.page import svg_plots as plots
from cfglab.report.page import view
from cfglab.report.page.page_data import cell_data, page_data
from cfglab.report.page.paged_data import FOLDER, PICTURES, TRACES, Traces
from cfglab.report.page.thumbnails import BUDGET, Album, album
from cfglab.report.summary import verdict as words
from cfglab.report.summary.tables import Tables, comparable
from cfglab.svg import Shape

SHOWN_FAILURES = 40
SHOWN_CARDS = 24
"""Settings of a group up to which its curves and images stand in a section of their own."""
_SHAPES: tuple[Shape, ...] = ("circle", "square", "up", "down", "plus", "cross")
_MARKS = ("●", "■", "▲", "▼", "✚", "✖")
_STYLES = ("palette", "page", "explore", "dialogs", "frontier")
_SCRIPTS = (
    *("base", "cells", "drawing", "cards", "traces", "large", "flicker"),
    *("grid", "list", "explore", "frontier", "tables", "start"),
)
"""In the order in which they run: each uses the words of those before it."""


def render(
    tables: Tables, folder: Path, traces: Traces, *, large: bool = False, budget: int = BUDGET, live: bool = False
) -> str:
    """Return the page of a run as HTML.

    Args:
        tables: the numbers of the run.
        folder: the run folder.
        traces: the traces of the run.
        large: whether the page embeds no image and reads its cells from the files beside it.
        budget: the largest number of characters of embedded images.
        live: whether the page looks for a newer one, because the run continues.
    """
    album_of_run = Album({}, {}, 0, 0, 0) if large else album(folder, _by_seed(tables), budget)
    views = view.views(tables)
    grids = view.grids(tables, views)
    best = tables.best
    data = page_data(tables, views, traces)
    if large:
        data["pages"] = {"folder": FOLDER, "pictures": PICTURES, "traces": TRACES}
    else:
        data |= cell_data(tables.columns, album_of_run, tables.metrics, traces)
    if live:
        data["live"] = True
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            tables=tables,
            experiment=tables.experiment,
            verdict=words.verdict(tables),
            held_back=words.held_back(tables),
            views=views,
            grids=grids,
            figures=[_group_figures(tables, grid, views) for grid in grids],
            by_dose=_dose_figure(tables, grids),
            marks=_MARKS,
            baseline=next(setting_view for setting_view in views if setting_view.row.baseline),
            best=next((setting_view for setting_view in views if setting_view.row is best), None),
            score_scale=view.score_scale(tables.rows, tables.main) if tables.main else None,
            difference_scale=view.difference_scale(tables.rows, tables.main) if tables.main else None,
            data=data,
            large=large,
            live=live,
            frontier=len([it for it in data["measures"] if any(row["numbers"] for row in data["settings"])]) > 1,
            album=album_of_run,
            sources=_first_sources(tables, views, album_of_run, large),
            failures=_faults(tables, tables.columns.errors),
            lost=_faults(tables, album_of_run.lost(tables.columns.images)),
            lost_of_settings=_lost_of_settings(tables, album_of_run),
            shown_failures=SHOWN_FAILURES,
            shown_cards=SHOWN_CARDS,
            versions=_versions(folder),
            yaml=tables.experiment.to_yaml(),
            commands=_commands(tables),
            style=assets(f"{name}.css" for name in _STYLES),
            script=assets(f"script/{name}.js" for name in _SCRIPTS),
        )
    )


@cache
def environment() -> Environment:
    page_environment = Environment(
        loader=PackageLoader("cfglab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    spoken = (numbers.shown, numbers.gap, numbers.span, numbers.gap_span, numbers.p_value, numbers.count)
    page_environment.globals |= {function.__name__: function for function in spoken}
    return page_environment


def assets(names: Iterable[str]) -> Markup:
    folder = files("cfglab.report") / "templates"
    return Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in names))


def _by_seed(tables: Tables) -> Iterator[str]:
    """The images in the order in which they are embedded: all settings of the first seed and prompt first."""
    columns = tables.columns
    settings, prompts, seeds = columns.shape
    order = (columns.position(s, p, q) for q in range(seeds) for p in range(prompts) for s in range(settings))
    return (image for position in order if (image := columns.images[position]))


def _first_sources(tables: Tables, views: Sequence[view.SettingView], embedded: Album, large: bool) -> list[str | None]:
    """What each setting shows before the script runs: its image of the first prompt and seed."""
    images = [tables.columns.images[tables.columns.position(setting_view.key)] for setting_view in views]
    shown = [image and (quote(image) if large else embedded.sources.get(image)) for image in images]
    return [source or None for source in shown]


def _group_figures(tables: Tables, grid: view.ImageGrid, views: Sequence[view.SettingView]) -> dict[str, Markup | None]:
    """The curves of a group, and its scores over the axis where there are an axis and scores."""
    figures: dict[str, Markup | None] = {"curves": None, "scores": None}
    if len(grid.views) > SHOWN_CARDS:
        return figures
    base = next(setting_view for setting_view in views if setting_view.row.baseline)
    marked = grid.axis.marked if grid.axis else None
    values = grid.axis.values if grid.axis else (None,) * len(grid.views)
    lines = [
        plots.Curve(
            setting_view.key, setting_view.row.values, setting_view.shade or 0, marked is not None and value == marked
        )
        for setting_view, value in zip(grid.views, values, strict=True)
        if setting_view.row.values
    ]
    label = f"{grid.axis.name} = {grid.axis.marked:g}" if grid.axis else None
    if lines:
        dashed = plots.Curve(base.key, base.row.values, 0)
        figures["curves"] = Markup(plots.curves(f"Scale w over the steps, {grid.name}", lines, dashed, label))
    main = tables.main
    if grid.axis and main:
        points = [
            plots.PlotPoint(setting_view.key, value, setting_view.row.means[main.name], setting_view.shade or 0)
            for setting_view, value in zip(grid.views, grid.axis.values, strict=True)
            if main.name in setting_view.row.means
        ]
        if points:
            figures["scores"] = Markup(
                plots.scores(
                    f"{main.title} over {grid.axis.name}, {grid.name}",
                    points,
                    xlabel=grid.axis.name,
                    ylabel=main.title.lower() if main.title.isascii() else "score",
                    percent=main.unit == "share",
                    axis=grid.axis,
                    baseline=base.row.means.get(main.name),
                )
            )
    return figures


def _dose_figure(tables: Tables, grids: Sequence[view.ImageGrid]) -> Markup | None:
    """Scores over the dose, one mark a group; None for fewer than three settings whose dose means the baseline's w."""
    main, base = tables.main, tables.baseline
    if main is None:
        return None
    points = [
        plots.PlotPoint(
            setting_view.key,
            setting_view.row.dose,
            setting_view.row.means[main.name],
            setting_view.shade or 0,
            _SHAPES[index % len(_SHAPES)],
        )
        for index, grid in enumerate(grids)
        for setting_view in grid.views
        if setting_view.row.dose is not None
        and main.name in setting_view.row.means
        and comparable(setting_view.row, base)
    ]
    if not 3 <= len(points) <= 4 * SHOWN_CARDS:
        return None
    return Markup(
        plots.scores(
            f"{main.title} over the dose, all settings",
            points,
            xlabel="dose: mean w over the steps",
            ylabel=main.title.lower() if main.title.isascii() else "score",
            percent=main.unit == "share",
            baseline=base.means.get(main.name),
            baseline_x=base.dose,
        )
    )


def _faults(tables: Tables, faults: Mapping[int, str]) -> list[tuple[str, str, int, str]]:
    """(setting's title, prompt, seed, message) of the cells at these positions."""
    titles = [setting.title or setting.name for setting in tables.experiment.settings]
    places = [(tables.columns.where(position), faults[position]) for position in sorted(faults)]
    return [(titles[setting], prompt, seed, fault) for (setting, prompt, seed), fault in places]


def _lost_of_settings(tables: Tables, images: Album) -> dict[str, int]:
    """Setting's name -> images whose file is lost."""
    settings = tables.experiment.settings
    counts = Counter(tables.columns.where(position)[0] for position in images.lost(tables.columns.images))
    return {setting.name: counts[index] for index, setting in enumerate(settings)}


def _commands(tables: Tables) -> list[tuple[str, str]]:
    """(what it does, command) for this run; none that the run's model refuses."""
    baseline = shlex.quote(tables.experiment.baseline.name)
    metric = shlex.quote(tables.main.name if tables.main else "alignment")
    image = next((image for image in tables.columns.images if image), "images/….png")
    commands = [
        ("Continue this run, or check that it is complete", "cfglab run experiment.yaml --out ."),
        ("Compare every setting with the baseline", f"cfglab compare . --baseline {baseline} --metric {metric}"),
        ("Make one image again", f"cfglab reproduce {shlex.quote(image)} --out copy.png"),
        ("What guidance did in each step of one image", f"cfglab trace {shlex.quote(image)}"),
        ("Write this page again", "cfglab report ."),
    ]
    refused: tuple[str, ...] = ()
    if tables.experiment.imported:  # cfglab did not generate these images
        refused = ("run", "reproduce", "trace")
    elif tables.experiment.in_memory:  # no command finds a model that was in memory
        refused = ("run", "reproduce")
    return [pair for pair in commands if pair[1].split()[1] not in refused]


def _versions(folder: Path) -> list[dict[str, str]]:
    """What each session ran with, the last one first; empty where the file is missing or is something else."""
    try:
        sessions = read_json(folder / "versions.json", VERSIONS_BYTES)
    except (OSError, ValueError):
        return []
    sessions = sessions if isinstance(sessions, list) else [sessions]
    return [{str(k): str(v) for k, v in session.items()} for session in reversed(sessions) if isinstance(session, dict)]
