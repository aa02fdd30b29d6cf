"""cfglab show."""

from typing import Annotated

import typer

from cfglab.cli.options import RunFolder, integer


def show(
    folder: RunFolder,
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- OPTIONS", help="Options of cfglab run for the button Continue, such as --ray auto."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait for a run that has not begun, and print the progress here too.")
    ] = False,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on; 0.0.0.0 lets the whole network in.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(metavar="N", parser=integer, help="The port; 0 takes a free one.  [default: 7870]")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
) -> None:
    """Watch a run in a browser, and stop or continue it there.

    The page shows images as they come, the time left, failures and the report. Stop takes effect after the batch that
    is being generated. The server listens on this computer only, unless --host says otherwise.

    \b
    Examples:
      cfglab show runs/k-decay
      cfglab show runs/k-decay --watch --no-browser
      cfglab show runs/k-decay -- --device cuda --ray auto
    """
    from cfglab.viewer.server import serve

    serve(folder, host=host, port=port, options=options or (), watch=watch, browser=not no_browser)
