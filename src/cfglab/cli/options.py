"""The arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cfglab.file_input import user_path


def integer(text: str) -> int:
    """A whole number, or the parser's complaint."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number, such as 50") from None


def path(text: str | Path) -> Path:
    """A path, with `~` as the home folder (`--out=~/x`, which no shell expands), or the parser's complaint."""
    try:
        return user_path(text)
    except OSError as error:
        raise typer.BadParameter(f"{str(text)!r} is no path: {error.strerror}") from None


RunFolder = Annotated[Path, typer.Argument(metavar="DIR", parser=path, help="The folder of a run.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, mps.")]
Dtype = Annotated[str | None, typer.Option(metavar="NAME", help="float32, float16 or bfloat16.")]
Sampler = Annotated[str | None, typer.Option(metavar="NAME", help="A sampler of cfglab list samplers.")]
Noise = Annotated[
    Literal["nested", "crossed"] | None,
    typer.Option(
        help="Starting noise: its own for each prompt (nested), or shared by all prompts of a seed (crossed)."
    ),
]
NegativePrompt = Annotated[str | None, typer.Option("--negative", metavar="TEXT", help="The negative prompt.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the denoiser: a slow start, then faster steps.")]
Revision = Annotated[str | None, typer.Option(metavar="NAME", help="A branch, tag or commit of a hub model.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
AllowDownload = Annotated[
    bool, typer.Option("--allow-download", help="Download a hub model that a file names, without asking.")
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read a hub model without safetensors files, weights only.")
]
