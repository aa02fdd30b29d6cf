"""cfglab compare."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cfglab.cli.options import RunFolder, path
from cfglab.errors import InputError


def compare(
    folder: RunFolder,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="SETTING", help="The setting that the others are compared with.  [default: the run's own]"
        ),
    ] = None,
    metric: Annotated[str, typer.Option(metavar="NAME", help="A metric of cfglab list metrics.")] = "alignment",
    equal: Annotated[
        Literal["dose", "cost"] | None,
        typer.Option(
            help="Compare with the constant scale of the same dose, or only settings that run equally many rows."
        ),
    ] = None,
    choose: Annotated[
        Literal["prompts", "seeds"] | None,
        typer.Option(help="Choose the best setting on one half of these, and report it on the other half."),
    ] = None,
    better: Annotated[
        Literal["higher", "lower"] | None,
        typer.Option(help="Which values are better, for --choose.  [default: the metric's own direction]"),
    ] = None,
    shuffled: Annotated[
        bool,
        typer.Option("--shuffled", help="Add a row of the chance level: each image is scored with another prompt."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=path,
            help="Save the comparison instead: a table (.csv, .tex for LaTeX) or a figure (.pdf, .svg, .png).",
        ),
    ] = None,
    width: Annotated[
        float | None, typer.Option(metavar="INCHES", help="The width of a figure.  [default: 5.5]")
    ] = None,
) -> None:
    """Compare the settings of a run with a baseline.

    Images are paired by prompt and seed. The table has the difference, its 95 % interval, p, p after Holm's
    correction, the shares of the variance due to prompts, seeds and the rest, n, and the smallest difference that this
    run could detect. The interval treats prompts as the sample, not images, and starting noises too where prompts
    share them. Metrics of sets, such as kid, are compared by leaving out prompts.

    \b
    Examples:
      cfglab compare runs/k-decay --baseline constant --metric alignment
      cfglab compare runs/scale --metric kid
      cfglab compare runs/dispute --equal dose
      cfglab compare runs/k-decay --choose seeds
      cfglab compare runs/tree --metric spread --choose prompts --better higher
      cfglab compare runs/k-decay --out table.tex
    """
    from cfglab.experiments import Run

    run = Run(folder)
    if choose and shuffled:
        raise InputError("--shuffled adds a row to the table, and --choose prints none; leave one of them out.")
    if choose and out:
        raise InputError("--out saves the table, and --choose prints none; leave one of them out.")
    if better and not choose:
        raise InputError(f"--better {better}: is of a choice; add --choose prompts or --choose seeds, or leave it out.")
    if width is not None and out is None:
        raise InputError(f"--width {width:g}: is of a figure; give its file: --out figure.pdf.")
    if out:
        print(run.compare(metric, baseline, equal=equal, shuffled=shuffled).save(out, width=width))
    elif choose:
        print(run.best_on_split(metric, baseline, split=choose, better=better, equal=equal))
    else:
        print(run.compare(metric, baseline, equal=equal, shuffled=shuffled))
