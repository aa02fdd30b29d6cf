"""The server of the playground: on this computer only unless told, its own files only, no other server asked."""

import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cfglab.errors import CfglabError, InputError
from cfglab.schedules.fields import shown
from cfglab.viewer.web import HOME, REPORT_POLICY, RUN_FILES, is_loopback, listen, open_browser, page_address, reach_of

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-src 'self'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'"
)
_CLOSED = re.compile(r"/gradio_api/(?:file[=/]|upload|proxy=|stream|component_server)|/(?:docs|redoc|openapi\.json)$")
"""Addresses of Gradio that the page does not use: files of the server, uploads, and other servers through it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `cfglab ui` was told.

    Attributes:
        model: "scenes", "scenes-flow", a model folder, or a hub id.
        device: a torch device, or "auto".
        dtype: the dtype of the model.
        host: the address to bind; 127.0.0.1 is this computer only.
        port: the port; 0 takes a free one.
        runs: the folder of the runs.
        votes: the file of the votes; None is votes.jsonl in the user's data folder.
        hub: the options `revision` and `allow_pickle` of `cfglab.load`.
    """

    model: str = "scenes"
    device: str = "auto"
    dtype: str = "float32"
    host: str = HOME
    port: int = 7860
    runs: Path = Path("runs")
    votes: Path | None = None
    hub: dict[str, Any] = field(default_factory=dict)


def make_app(settings: Settings) -> Any:
    """The ASGI application.

    Args:
        settings: the model and the folders.

    Returns:
        A FastAPI application; the model is loaded in the background.

    Raises:
        InputError: Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read by Gradio when it is imported
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio as gr
    except ImportError as error:
        raise InputError(
            f"the playground needs Gradio, which cannot be imported ({error}); pip install 'cfglab[ui]'."
        ) from error
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from cfglab.ui import page, votes
    from cfglab.ui.engine import Engine
    from cfglab.ui.shared import Services, asset
    from cfglab.ui.sweep import Jobs

    engine = Engine(settings.model, settings.device, settings.dtype, settings.hub)
    jobs = Jobs(engine, settings.runs)
    blocks = page.build(Services(engine, jobs, settings.votes or votes.default_file()))
    blocks.queue(max_size=64)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/runs/{name}/{file:path}", _run_files(jobs), methods=["GET"])
    gr.mount_gradio_app(
        app,
        blocks,
        "/",
        server_name=settings.host,
        server_port=settings.port,
        theme=page.theme(),
        css=asset("style.css"),
        head=page.head(),
        footer_links=[],
        allowed_paths=[],
        show_error=False,
        max_file_size=1,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
    )
    app.add_middleware(_Guard)
    if is_loopback(settings.host):  # another site's name that points here is refused
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", "::1"])
    engine.warm_up()
    return app


def serve(settings: Settings, *, browser: bool = True) -> None:
    """Serve the page until Ctrl-C.

    Args:
        settings: what to serve and where.
        browser: whether to open the page in a browser, if there is one.

    Raises:
        InputError: the port is taken, or the address is not this computer's.
    """
    with listen(settings.host, settings.port) as listening:
        port = listening.getsockname()[1]
        app = make_app(settings)
        address = page_address(settings.host, port)
        print(f"playground: {address} ({reach_of(settings.host)}; Ctrl-C ends it)", flush=True)
        if browser:
            open_browser(address)
        run_server(app, listening)


def run_server(app: Any, listening: socket.socket) -> None:
    """Serve an application on a socket until it is told to stop."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        return


def _run_files(jobs: Any) -> Any:
    from fastapi import Response
    from fastapi.responses import FileResponse, PlainTextResponse

    def run_file(name: str, file: str) -> Response:
        """The report of a run, written again when it is asked for, and the images of its grid."""
        headers = {"Content-Security-Policy": REPORT_POLICY, "X-Content-Type-Options": "nosniff"}
        try:
            folder = jobs.folder(name)
            if not RUN_FILES.fullmatch(file):
                raise InputError(f"{shown(file)}: not a file of a report.")
            if file == "report.html":
                from cfglab.report import report

                report(folder)
        except CfglabError as error:
            return PlainTextResponse(str(error), 404, headers)
        path = folder / file
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            return PlainTextResponse("there is no such file in this run.", 404, headers)
        return FileResponse(path, headers=headers)

    return run_file


class _Guard:
    """Refuses the addresses of Gradio that the page does not use, and lets the browser ask this server only."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if _CLOSED.search(scope["path"]):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"the playground serves no files"})
            return

        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                if b"content-security-policy" not in names:
                    extra = [(b"content-security-policy", _POLICY.encode()), (b"referrer-policy", b"same-origin")]
                    message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self.app(scope, receive, with_policy)
