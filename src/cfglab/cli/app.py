"""The command line application: its own options, and the commands in the order of the help."""

from typing import Annotated

import typer

from cfglab.cli.advise import advise
from cfglab.cli.compare import compare
from cfglab.cli.export import export
from cfglab.cli.import_ import import_
from cfglab.cli.levels import levels
from cfglab.cli.list_ import list_
from cfglab.cli.plot import plot
from cfglab.cli.replicate import replicate
from cfglab.cli.report import report
from cfglab.cli.reproduce import reproduce
from cfglab.cli.run import run
from cfglab.cli.score import score
from cfglab.cli.show import show
from cfglab.cli.trace import trace
from cfglab.cli.tune import tune
from cfglab.cli.ui import ui

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    run,
    import_,
    plot,
    list_,
    levels,
    advise,
    reproduce,
    trace,
    report,
    show,
    score,
    compare,
    export,
    tune,
    replicate,
    ui,
):
    app.command(command.__name__.rstrip("_"))(command)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001 (read in `cfglab.cli.call`)
) -> None:
    """Classifier-free guidance as a program and a laboratory.

    w is the guidance scale, uncond + w * (cond - uncond): w = 1 is no guidance.

    \b
    Examples:
      cfglab run k-decay --model scenes --out runs/k-decay
      cfglab plot 'cosine(max=7.5, min=1, k=0.3)' 'cosine(max=7.5, min=1, k=0.3).inverted()'
      cfglab compare runs/k-decay --baseline constant --metric alignment
      cfglab list presets
    """
    if version:
        from cfglab import __version__

        print(f"cfglab {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())
