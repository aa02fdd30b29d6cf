"""cfglab reproduce."""

from pathlib import Path
from typing import Annotated

import typer

from cfglab.cli.consent import with_download_consent
from cfglab.cli.options import AllowDownload, AllowPickle, Device, path
from cfglab.errors import MachineError


def reproduce(
    image: Annotated[
        Path,
        typer.Argument(metavar="IMAGE.png", parser=path, help="An image of a run; the file holds its own record."),
    ],
    out: Annotated[Path, typer.Option(metavar="COPY.png", parser=path, help="The file of the new image.")],
    device: Device = "auto",
    allow_pickle: AllowPickle = False,
    allow_download: AllowDownload = False,
) -> None:
    """Generate an image of a run again, and compare the pixels.

    The file holds the record of how the image was generated. If the record names a model of the hub, the model is
    downloaded only if you allow it.

    \b
    Examples:
      cfglab reproduce runs/k-decay/images/0f3c….png --out copy.png
    """
    from cfglab.experiments.execution.reproduce import reproduce as generate_again

    copy = with_download_consent(
        lambda allowed: generate_again(image, out, device, allow_pickle=allow_pickle, allow_download=allowed),
        allow_download,
    )
    if copy.identical:
        print(f"{copy.path}: the same pixels as {image}, torch seed {copy.torch_seed}")
        return
    notes = f" ({'; '.join(copy.notes)})" if copy.notes else ""
    raise MachineError(f"{copy.path}: differs from {image} by up to {copy.largest_difference} of 255{notes}.")
