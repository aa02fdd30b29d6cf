"""cfglab ui."""

from pathlib import Path
from typing import Annotated

import typer

from cfglab.cli.options import AllowPickle, Device, Revision, integer, path


def ui(
    model: Annotated[
        str,
        typer.Option(metavar="NAME", help="scenes, a folder, or a hub id; naming a hub id is consent to download it."),
    ] = "scenes",
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(metavar="NAME", help="float32, float16 or bfloat16.")] = "float32",
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on; 0.0.0.0 lets the whole network in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", parser=integer, help="The port; 0 takes a free one.")] = 7860,
    runs: Annotated[Path, typer.Option(metavar="DIR", parser=path, help="The folder of the runs.")] = Path("runs"),
    votes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=path, help="The file of the votes.  [default: in your data folder]"),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    revision: Revision = None,
    allow_pickle: AllowPickle = False,
) -> None:
    """Open the playground in a browser: generate, compare, vote, sweep.

    It listens on this computer only, unless --host says otherwise. It needs the extra ui: pip install 'cfglab[ui]'.

    \b
    Examples:
      cfglab ui
      cfglab ui --model prompthero/openjourney --device cuda --dtype float16
    """
    from cfglab.ui.server import Settings, serve

    hub = {"revision": revision, "allow_pickle": allow_pickle}
    serve(Settings(model, device, dtype, host, port, runs, votes, hub), browser=not no_browser)
