"""cfglab export."""

from pathlib import Path
from typing import Annotated

import typer

from cfglab.cli.options import RunFolder, integer, path
from cfglab.errors import InputError


def export(
    folder: RunFolder,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", parser=path, help="A contact sheet (.png) or an animation (.gif, .webp).")
    ],
    rows: Annotated[
        str | None, typer.Option(metavar="AXIS", help="The axis from top to bottom: prompt, seed, …, or none.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="AXIS", help="The axis from left to right: setting, k, …, or none.")
    ] = None,
    over: Annotated[
        str | None, typer.Option(metavar="AXIS", help="The axis of an animation, a frame for each value.")
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS=VALUE", help="Fix an axis at a value; repeat for more.  [default: the first value]"),
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="N", parser=integer, help="The longest side of an image in pixels.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="S", help="The time of a frame of an animation.  [default: 0.8]")
    ] = None,
) -> None:
    """Save images of a run as a sheet or an animation.

    A contact sheet has labels for its rows and columns; an animation shows a sweep over one axis. Axes are setting,
    group, prompt, seed, and those that the experiment sweeps. Tables and figures of the numbers are saved by
    cfglab compare --out.

    \b
    Examples:
      cfglab export runs/k-decay sheet.png
      cfglab export runs/k-decay sheet.png --rows seed --columns k --at group=k-decay
      cfglab export runs/k-decay sweep.gif --over k --at seed=3
      cfglab export runs/k-decay sweep.webp --over k --columns seed
    """
    from cfglab.experiments import Run

    pins = {}
    for text in at or []:
        axis, separator, value = text.partition("=")
        if not separator:
            raise InputError(f"--at {text}: write an axis and its value, such as seed=3.")
        if axis.strip() in pins:
            raise InputError(f"--at {text}: {axis.strip()} is fixed twice; an axis has one value, leave one out.")
        pins[axis.strip()] = value.strip()
    print(Run(folder).save_images(file, rows=rows, columns=columns, over=over, at=pins, size=size, seconds=seconds))
