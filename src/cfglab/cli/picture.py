"""Commands about one image of a run: cfglab reproduce, trace."""

from pathlib import Path
from typing import Annotated

import typer

from cfglab.cli.app import Device, Download, Pickle, agreed, app, user_path
from cfglab.errors import MachineError


@app.command()
def reproduce(
    image: Annotated[
        Path,
        typer.Argument(metavar="IMAGE.png", parser=user_path, help="An image of a run; it carries its own recipe."),
    ],
    out: Annotated[Path, typer.Option(metavar="COPY.png", parser=user_path, help="Where the new image goes.")],
    device: Device = "auto",
    allow_pickle: Pickle = False,
    allow_download: Download = False,
) -> None:
    """Make an image of a run again.

    The image carries its own recipe; says whether the pixels are the same. A recipe that names a hub model downloads
    it only where that is allowed.

    \b
    Examples:
      cfglab reproduce runs/k-decay/images/0f3c….png --out copy.png
    """
    from cfglab.experiments.execution.reproduce import reproduce as again

    copy = agreed(
        lambda allowed: again(image, out, device, allow_pickle=allow_pickle, allow_download=allowed), allow_download
    )
    if copy.identical:
        print(f"{copy.path}: the same pixels as {image}, torch seed {copy.torch_seed}")
        return
    notes = f" ({'; '.join(copy.notes)})" if copy.notes else ""
    raise MachineError(f"{copy.path}: differs from {image} by up to {copy.largest_difference} of 255{notes}.")


@app.command()
def trace(
    image: Annotated[Path, typer.Argument(metavar="IMAGE.png", parser=user_path, help="An image of a run.")],
    device: Device = "auto",
    allow_pickle: Pickle = False,
    allow_download: Download = False,
) -> None:
    """Show what guidance did in every step of an image.

    sigma, w, the norm of cond - uncond, the cosine of their angle, and denoiser rows run and saved, equal rows being
    shared evenly. As the image's run keeps it; an image out of its run is drawn again.

    \b
    Examples:
      cfglab trace runs/k-decay/images/0f3c….png
    """
    from cfglab.experiments.execution.reproduce import trace_of

    print(
        agreed(
            lambda allowed: trace_of(image, device, allow_pickle=allow_pickle, allow_download=allowed), allow_download
        )
    )
