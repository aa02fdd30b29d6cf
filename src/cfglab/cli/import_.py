"""cfglab import."""

from pathlib import Path
from typing import Annotated

import typer

from cfglab.cli.options import Quiet, path


def import_(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", parser=path, help="Folders of images, searched deeply.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", parser=path, help="The folder of the run.")],
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The configuration to compare with.  [default: the one with most images]"),
    ] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Keep images whose prompt and seed one configuration alone has.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Make a run of images that other programs generated.

    Reads the metadata of A1111, Forge, SD.Next (PNG, JPEG, WebP, a .txt beside the image), ComfyUI, InvokeAI, and
    metadata.jsonl or metadata.csv of a folder in the argument names of diffusers. Configurations are what differs,
    pairs are prompt and seed; what is not recorded is stated. report, compare and score read the run.

    \b
    Examples:
      cfglab import outputs/txt2img-images --out runs/webui
      cfglab import ComfyUI/output --out runs/comfy --baseline scale=7
    """
    from cfglab.experiments import Run
    from cfglab.experiments.importing.importer import import_images
    from cfglab.progress import working

    done = import_images(folders, out, baseline=baseline, unpaired=unpaired, quiet=quiet)
    print(f"{done.images:,} images in {done.settings} configurations, {done.pairs:,} pairs of prompt and seed")
    for note in done.notes:
        print(f"left out: {note}")
    with working("writing the report", quiet):
        page = Run(done.folder).report()
    print(f"report: {page}")
