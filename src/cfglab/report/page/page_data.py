"""What the page's script is given: settings with curves and numbers, axes, and every cell in columns by position."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from cfglab.metrics import Metric
from cfglab.metrics.estimate import Estimate
from cfglab.report.page.paged_data import Traces, float_text
from cfglab.report.page.thumbnails import Album
from cfglab.report.page.view import SettingView
from cfglab.report.summary.columns import Columns
from cfglab.report.summary.pivot import pivot
from cfglab.report.summary.tables import Tables

EXACT = 2**53
"""Whole numbers up to which JavaScript reads them exactly; larger ones are given as text."""

PARTS = (
    *("alignment_whole", "alignment_a", "alignment_b", "alignment_relation"),
    *("alignment_count", "alignment_colours", "alignment_background"),
)
"""What a prompt may state; the other alignments are of the whole."""


def page_data(tables: Tables, views: Sequence[SettingView], traces: Traces) -> dict[str, Any]:
    """Return what the scripts of the page need, apart from the cells.

    Args:
        tables: the numbers of the run.
        views: every setting as the page shows it.
        traces: the traces of the run.
    """
    experiment = tables.experiment
    axes = pivot(experiment.settings, len(experiment.prompts))
    measures = [*tables.metrics, *tables.sets]
    return {
        "steps": experiment.steps,
        "prompts": experiment.prompts,
        "seeds": [seed if seed <= EXACT else str(seed) for seed in experiment.seeds],
        "baseline": next(setting_view.key for setting_view in views if setting_view.row.baseline),
        "metrics": [
            _metric(metric) | {"main": metric == tables.main, "part": metric.name in PARTS} for metric in tables.metrics
        ],
        "measures": [_metric(metric) | {"of": metric.of} for metric in measures],
        "floors": [_number(tables.floors.get(metric.name)) for metric in measures],
        "settings": [_setting(setting_view, measures) for setting_view in views],
        "axes": [{"name": axis.name, "values": axis.values} for axis in axes.axes],
        "at": axes.at,
        "first": {"rows": axes.rows, "columns": axes.columns},
        "remade": not (experiment.imported or experiment.in_memory),
        "trace": {"step": traces.steps, "sigma": traces.sigmas} if traces.steps else None,
    }


def cell_data(columns: Columns, album: Album, metrics: Sequence[Metric], traces: Traces) -> dict[str, Any]:
    """Return every cell: the source and file of its image, why it has none, its scores and its trace.

    Args:
        columns: every cell of the run.
        album: the embedded and linked images.
        metrics: the metrics of images.
        traces: the traces of the run.
    """
    return {
        "src": [album.sources.get(image) if image else None for image in columns.images],
        "file": columns.images,
        "bad": dict(columns.errors),
        "lost": album.lost(columns.images),
        "scores": [[_rounded(value) for value in columns.scores[metric.name].flat] for metric in metrics],
        "traces": float_text(traces.block(columns.cells)) if traces.steps else None,
    }


def _metric(metric: Metric) -> dict[str, Any]:
    return {"name": metric.name, "title": metric.title, "kind": kind(metric), "better": metric.better}


def kind(metric: Metric) -> str:
    """How a value of one image is spelled: yes or no, a share in per cent, or a number."""
    if metric.name.startswith("alignment"):
        return "yes"
    return "share" if metric.unit == "share" else "number"


def _setting(setting_view: SettingView, measures: Sequence[Metric]) -> dict[str, Any]:
    row = setting_view.row
    numbers: Mapping[str, Estimate] = {**row.means, **row.sets}
    return {
        "name": row.setting.name,
        "title": setting_view.title,
        "group": "baseline" if row.baseline else row.setting.group,
        "text": str(row.setting.guidance),
        "colour": setting_view.colour,
        "path": setting_view.path,
        "values": [None if value is None else round(value, 4) for value in row.values],
        "dose": row.dose,
        "effective": row.effective,
        "numbers": [_number(numbers.get(metric.name)) for metric in measures],
    }


def _number(number: Estimate | None) -> list[float | None] | None:
    """Value and interval, five digits; None where there is none."""
    if number is None or not isfinite(number.value):
        return None
    return [None if end is None else float(f"{end:.5g}") for end in (number.value, number.low, number.high)]


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.4g}")
