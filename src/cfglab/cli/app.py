"""The application, and the arguments that several commands share."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from cfglab.errors import DownloadNeeded, InputError
from cfglab.file_input import user_path as path_of_user

T = TypeVar("T")

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def whole(text: str) -> int:
    """A whole number, or the parser's complaint."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number, such as 50") from None


def user_path(text: str | Path) -> Path:
    """A path option of any command, with `~` as the home folder (--out=~/x, which no shell replaces), or the parser's
    complaint."""
    try:
        return path_of_user(text)
    except OSError as error:
        raise typer.BadParameter(f"{str(text)!r} is no path: {error.strerror}") from None


def agreed(call: Callable[[bool], T], allowed: bool) -> T:
    """What `call` gives, told whether it may download a hub model that a file names: asked for where somebody sits."""
    try:
        return call(allowed)
    except DownloadNeeded as error:
        if not sys.stdin.isatty():
            raise
        try:
            sure = typer.confirm(f"{error} Download it?", err=True)
        except typer.Abort:  # Ctrl-C, or the end of the input
            sure = False
        if not sure:
            raise InputError("not downloaded; give a model that is here.") from None
    return call(True)


Shelf = Literal["schedules", "transforms", "models", "presets", "samplers", "metrics"]
Folder = Annotated[Path, typer.Argument(metavar="DIR", parser=user_path, help="The folder of a run.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, mps.")]
Dtype = Annotated[str | None, typer.Option(metavar="NAME", help="float32, float16 or bfloat16.")]
Sampler = Annotated[str | None, typer.Option(metavar="NAME", help="One of cfglab list samplers.")]
Noise = Annotated[
    Literal["nested", "crossed"] | None,
    typer.Option(help="Starting noises: each prompt has its own (nested), or all share those of a seed (crossed)."),
]
Negative = Annotated[str | None, typer.Option(metavar="TEXT", help="The negative prompt.")]
Compiled = Annotated[bool, typer.Option("--compile", help="Compile the denoiser: a slow start, faster after.")]
Revision = Annotated[str | None, typer.Option(metavar="NAME", help="A branch, tag or commit of a hub model.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Download = Annotated[
    bool, typer.Option("--allow-download", help="Download a hub model that a file names, without asking.")
]
Pickle = Annotated[bool, typer.Option("--allow-pickle", help="Read a hub model that has no safetensors, weights only.")]


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001 (read in `call`)
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
