"""cfglab list."""

from typing import Annotated, Literal

import typer

Kind = Literal["schedules", "transforms", "models", "presets", "samplers", "metrics"]


def list_(
    what: Annotated[
        Kind | None,
        typer.Argument(help="schedules, transforms, models, presets, samplers or metrics; all of them if left out."),
    ] = None,
) -> None:
    """List schedules, transforms, models, presets, samplers, metrics."""
    from cfglab.report.terminal.listing import SHELVES, table

    if what:
        print(table(SHELVES[what]()))
        return
    for kind, rows in SHELVES.items():
        print(f"{kind}:\n{table(rows(), indent=2)}\n")
