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

PARTS = ("alignment_a", "alignment_b", "alignment_relation", "alignment_background")
"""What a prompt may state; the other alignments are of the whole."""


def page_data(tables: Tables, faces: Sequence[SettingView], traces: Traces) -> dict[str, Any]:
    """Everything but the cells: what does not grow with prompts and seeds."""
    experiment = tables.experiment
    axes = pivot(experiment.settings, len(experiment.prompts))
    measures = [*tables.metrics, *tables.sets]
    return {
        "steps": experiment.steps,
        "prompts": experiment.prompts,
        "seeds": [seed if seed <= EXACT else str(seed) for seed in experiment.seeds],
        "baseline": next(face.key for face in faces if face.row.baseline),
        "metrics": [_metric(it) | {"main": it == tables.main, "part": it.name in PARTS} for it in tables.metrics],
        "measures": [_metric(it) | {"of": it.of} for it in measures],
        "floors": [_number(tables.floors.get(it.name)) for it in measures],
        "settings": [_setting(face, measures) for face in faces],
        "axes": [{"name": axis.name, "values": axis.values} for axis in axes.axes],
        "at": axes.at,
        "first": {"rows": axes.rows, "columns": axes.columns},
        "trace": {"step": traces.steps, "sigma": traces.sigmas} if traces.steps else None,
    }


def cell_data(columns: Columns, album: Album, metrics: Sequence[Metric], traces: Traces) -> dict[str, Any]:
    """Every cell: `src` is what an `img` shows, None where nothing is drawn yet; `bad` says why there is no image."""
    faults = {place: fault for place in range(len(columns.images)) if (fault := fault_of(columns, place, album))}
    return {
        "src": [album.sources.get(image) if image else None for image in columns.images],
        "file": columns.images,
        "bad": faults,
        "scores": [[_rounded(value) for value in columns.scores[it.name].flat] for it in metrics],
        "traces": float_text(traces.block(columns.cells)) if traces.steps else None,
    }


def fault_of(columns: Columns, position: int, album: Album) -> str | None:
    """Why there is no image of a cell: the last line of its error, or what is wrong with its file."""
    return columns.errors.get(position) or album.unreadable.get(columns.images[position] or "")


def _metric(metric: Metric) -> dict[str, Any]:
    return {"name": metric.name, "title": metric.title, "kind": kind(metric), "better": metric.better}


def kind(metric: Metric) -> str:
    """How a value of one image is spelled: yes or no, a share in per cent, or a number."""
    if metric.name.startswith("alignment"):
        return "yes"
    return "share" if metric.unit == "share" else "number"


def _setting(face: SettingView, measures: Sequence[Metric]) -> dict[str, Any]:
    row = face.row
    numbers: Mapping[str, Estimate] = {**row.means, **row.sets}
    return {
        "name": row.setting.name,
        "title": face.title,
        "group": "baseline" if row.baseline else row.setting.group,
        "text": str(row.setting.guidance),
        "colour": face.colour,
        "path": face.path,
        "values": [None if value is None else round(value, 4) for value in row.values],
        "dose": row.dose,
        "effective": row.effective,
        "numbers": [_number(numbers.get(it.name)) for it in measures],
    }


def _number(number: Estimate | None) -> list[float | None] | None:
    """Value and interval, five digits; None where there is none."""
    if number is None or not isfinite(number.value):
        return None
    return [None if it is None else float(f"{it:.5g}") for it in (number.value, number.low, number.high)]


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.4g}")
