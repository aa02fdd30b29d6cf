"""Commands that need no run: cfglab plot, list, levels."""

from pathlib import Path
from typing import Annotated

import typer

from cfglab.cli.app import Download, Sampler, Shelf, agreed, app, user_path, whole
from cfglab.errors import InputError


@app.command()
def plot(
    guidance: Annotated[
        list[str], typer.Argument(metavar="SCHEDULE...", help="Schedules in their text form, quoted for the shell.")
    ],
    steps: Annotated[int, typer.Option(metavar="N", parser=whole, help="Denoising steps.")] = 50,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=user_path, help="Save an image instead (.png, .svg, .pdf)."),
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


@app.command()
def levels(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="dit, edm2, sit, repa, ...; scenes, a folder, or a hub id.")
    ],
    steps: Annotated[int, typer.Option(metavar="N", parser=whole, help="Denoising steps.")] = 50,
    sampler: Sampler = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UNIT=LOW..HIGH",
            help="Which steps are inside, in every unit; sigma, t, timestep, level, progress or step; repeat.",
        ),
    ] = None,
    allow_download: Download = False,
) -> None:
    """Convert the noise levels of a run: sigma, t, timestep, step.

    sigma is noise over signal, t = sigma / (1 + sigma) that of a linear flow. Without a window, one line a step. The
    code bases: dit, adm, iddpm-cosine, sd (k-diffusion), edm, edm2, flow, repa, repa-sde, sit, sit-gvp, lightningdit.

    \b
    Examples:
      cfglab levels dit --steps 250 --window sigma=0.34..1.02
      cfglab levels repa --steps 250 --window t=0..0.7
      cfglab levels scenes --steps 28 --sampler euler
    """
    from cfglab.pipelines.model_levels import levels as levels_of

    run = agreed(lambda allowed: levels_of(model, steps, sampler=sampler, allow_download=allowed), allow_download)
    windows = [run.window(*_window(text)) for text in window or ()]
    print("\n".join(map(str, windows)) if windows else run)


def _window(text: str) -> tuple[str, float, float]:
    """`sigma=0.34..1.02` in its parts."""
    unit, _, ends = text.partition("=")
    low, _, high = ends.partition("..")
    try:
        return unit.strip(), float(low), float(high)
    except ValueError:
        raise InputError(f"--window {text!r:.60}: it is UNIT=LOW..HIGH; write sigma=0.34..1.02.") from None
