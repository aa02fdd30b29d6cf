"""cfglab trace."""

from pathlib import Path
from typing import Annotated

import typer

from cfglab.cli.consent import with_download_consent
from cfglab.cli.options import AllowDownload, AllowPickle, Device, path


def trace(
    image: Annotated[Path, typer.Argument(metavar="IMAGE.png", parser=path, help="An image of a run.")],
    device: Device = "auto",
    allow_pickle: AllowPickle = False,
    allow_download: AllowDownload = False,
) -> None:
    """Show what guidance did in every step of an image.

    The columns are sigma, w, the norm of cond - uncond, the cosine of the angle between cond and uncond, and the
    denoiser rows that were run and saved; equal rows are shared evenly. The run of the image keeps these numbers; an
    image outside its run is generated again.

    \b
    Examples:
      cfglab trace runs/k-decay/images/0f3c….png
    """
    from cfglab.experiments.execution.reproduce import trace_of

    print(
        with_download_consent(
            lambda allowed: trace_of(image, device, allow_pickle=allow_pickle, allow_download=allowed), allow_download
        )
    )
