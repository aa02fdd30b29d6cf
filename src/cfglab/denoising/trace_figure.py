"""A trace in a notebook: w, |cond - uncond|, the cosine and NFE as small lines over the calls, for each run."""

from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

from cfglab.denoising.spans import scales, span
from cfglab.notebook import Html, TableContent, card, details, sparkline, table
from cfglab.schedules.fields import counted
from cfglab.step import Step

Values = tuple[float | None, ...]

NONE = "–"
"""What stands for numbers that are not there."""

RUNS = 8
"""Runs that are shown."""
LINES = 32
"""Images that have a line."""


class Record(Protocol):
    """What a figure needs of a StepRecord."""

    @property
    def run(self) -> int: ...
    @property
    def step(self) -> Step: ...
    @property
    def rows_run(self) -> int: ...
    @property
    def rows_saved(self) -> int: ...
    @property
    def w(self) -> Values: ...
    @property
    def w_range(self) -> tuple[tuple[float, float] | None, ...]: ...
    @property
    def difference(self) -> Values: ...
    @property
    def cosine(self) -> Values: ...


def draw(records: Sequence[Record]) -> Html:
    """The card of a trace.

    Args:
        records: The records of all denoiser calls, in order.

    Returns:
        The card as HTML.
    """
    runs = [list(group) for _, group in groupby(records, key=lambda record: record.run)]
    if not runs:
        return card("Trace", about=["no denoiser call yet"])
    saved = sum(record.rows_saved for record in records)
    about = [
        counted(len(records), "denoiser call"),
        counted(sum(record.rows_run for record in records), "row"),
        *([f"{saved:,} saved"] if saved else []),
    ]
    parts = [_run(run, len(runs) > 1) for run in runs[:RUNS]]
    if len(runs) > RUNS:
        parts.append(Html(f'<p class="soft">and {counted(len(runs) - RUNS, "more run")}</p>'))
    return card("Trace", *parts, about=about)


def _run(records: Sequence[Record], several: bool) -> Html:
    images = max(len(record.w) for record in records)
    columns: dict[str, tuple[list[Values], str]] = {
        "w": ([record.w for record in records], "var(--c0)"),
        "‖cond − uncond‖": ([record.difference for record in records], "var(--c1)"),
        "cosine": ([record.cosine for record in records], "var(--c2)"),
    }
    rows: list[Sequence[object]] = []
    for name, (values, colour) in columns.items():
        lines = [[value[image] if image < len(value) else None for value in values] for image in range(images)]
        rows.append(
            (name, sparkline(lines[:LINES], title=f"{name} over the steps", colour=colour, width=220), *_ends(values))
        )
    nfe = [(record.rows_run / images if images else None,) for record in records]
    line = [value for (value,) in nfe]
    picture = sparkline(
        [line],
        title="NFE per image over the steps",
        colour="var(--c3)",
        width=220,
        span=(0.0, max(2.0, *_numbers(nfe))),
    )
    rows.append(("NFE per image", picture, *_ends(nfe)[:3], f"{sum(_numbers(nfe)):.4g}"))
    heading = f"run {records[0].run}, " if several else ""
    caption = f"{heading}{counted(images, 'image')}, {counted(records[0].step.count, 'step')}{_sigmas(records)}"
    body = table(
        TableContent(
            ("", f"step 1 to {records[-1].step.index + 1}", "first", "last", "range", "sum"), rows, (2, 3, 4, 5)
        )
    )
    return Html(f'<p class="soft">{caption}</p>{body}{details("every call", _calls(records))}')


def _ends(values: Sequence[Values]) -> tuple[str, str, str, str]:
    """First, last, range; over the images of the step as a range."""
    numbers = _numbers(values)
    if not numbers:
        return ("–", "–", "–", "")
    return (span(values[0], NONE), span(values[-1], NONE), span(tuple(numbers), NONE), "")


def _numbers(values: Sequence[Values]) -> list[float]:
    return [number for value in values for number in value if number is not None]


def _calls(records: Sequence[Record]) -> Html:
    rows = [
        (
            f"{record.step.index + 1}/{record.step.count}",
            "–" if record.step.sigma is None else f"{record.step.sigma:.4g}",
            scales(record.w, record.w_range, NONE),
            span(record.difference, NONE),
            span(record.cosine, NONE),
            record.rows_run,
            record.rows_saved,
        )
        for record in records
    ]
    head = ("step", "sigma", "w", "‖cond − uncond‖", "cosine", "rows run", "rows saved")
    return table(TableContent(head, rows, range(7), most=200))


def _sigmas(records: Sequence[Record]) -> str:
    first, last = records[0].step.sigma, records[-1].step.sigma
    return "" if first is None or last is None else f", sigma {first:.4g} to {last:.4g}"
