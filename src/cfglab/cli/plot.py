"""cfglab plot."""

from pathlib import Path
from typing import Annotated

import typer

from cfglab.cli.options import integer, path


def plot(
    guidance: Annotated[
        list[str], typer.Argument(metavar="SCHEDULE...", help="Schedules in their text form, quoted for the shell.")
    ],
    steps: Annotated[int, typer.Option(metavar="N", parser=integer, help="Denoising steps.")] = 50,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=path, help="Save an image instead (.png, .svg, .pdf, .html)."),
    ] = None,
) -> None:
    """Plot schedules over the steps.

    The plot is shown in the terminal or saved to a file, with the dose of each schedule: the mean of w.

    \b
    Examples:
      cfglab plot 'cosine(max=7.5, min=1, k=0.3)'
      cfglab plot 7.5 '10x4+10x6+30x1' 'cosine(max=7.5, min=1).inverted()' --out curves.png
    """
    from cfglab.report.terminal import chart
    from cfglab.schedules import parse

    curves = {}
    for text in guidance:
        schedule = parse(text)
        values = schedule.values(steps)
        curves[f"{schedule}   dose {sum(values) / steps:.3g}"] = values
    if out is not None:
        print(chart.in_file(curves, out))
        return
    from cfglab.terminal import console as rich_console

    console = rich_console(highlight=False)
    console.print(chart.in_text(curves, width=min(console.width, 110)), end="", soft_wrap=True)
