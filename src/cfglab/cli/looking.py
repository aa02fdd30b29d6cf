"""Commands that need no run: cfglab plot, list."""

from pathlib import Path
from typing import Annotated

import typer

from cfglab.cli.app import Shelf, app, user_path, whole


@app.command()
def plot(
    guidance: Annotated[
        list[str], typer.Argument(metavar="SCHEDULE...", help="Schedules in their text form, quoted for the shell.")
    ],
    steps: Annotated[int, typer.Option(metavar="N", parser=whole, help="Denoising steps.")] = 50,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=user_path, help="Save an image instead (.png, .svg, .pdf, .html)."),
    ] = None,
) -> None:
    """Draw schedules over the steps.

    In the terminal, or into a file; with the dose of each, which is the mean of w.

    \b
    Examples:
      cfglab plot 'cosine(max=7.5, min=1, k=0.3)'
      cfglab plot 7.5 '10x4+10x6+30x1' 'cosine(max=7.5, min=1).inverted()' --out curves.png
    """
    from cfglab.report.terminal import chart
    from cfglab.schedules import parse

    lines = {}
    for text in guidance:
        schedule = parse(text)
        values = schedule.values(steps)
        lines[f"{schedule}   dose {sum(values) / steps:.3g}"] = values
    if out is not None:
        print(chart.in_file(lines, out))
        return
    from cfglab.terminal import console as console_of_rich

    console = console_of_rich(highlight=False)
    console.print(chart.in_text(lines, width=min(console.width, 110)), end="", soft_wrap=True)


@app.command("list")
def list_(
    what: Annotated[
        Shelf | None,
        typer.Argument(help="schedules, transforms, models, presets, samplers or metrics; all if left out."),
    ] = None,
) -> None:
    """List what there is, with one line about each."""
    from cfglab.report.terminal.listing import SHELVES, table

    if what:
        print(table(SHELVES[what]()))
        return
    for shelf, rows in SHELVES.items():
        print(f"{shelf}:\n{table(rows(), indent=2)}\n")
