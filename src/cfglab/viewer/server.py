"""The server of `cfglab show`: the page of one run folder, its report and its images, and the buttons of the page.

It answers on this computer only, unless an address is given. Of the run folder it serves the files of the report, with
a policy that gives their scripts no access to the page. Stop and Continue need the token that only the page knows, and
a request that comes from the page itself.
"""

import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from cfglab.errors import CfglabError, InputError
from cfglab.experiments.storage.session import request_stop
from cfglab.experiments.storage.store import DATABASE, Store
from cfglab.file_input import given_path, open_regular
from cfglab.terminal import inline
from cfglab.viewer.continuation import Continuation
from cfglab.viewer.run_state import RunState, read_state
from cfglab.viewer.web import HOME, REPORT_POLICY, RUN_FILES, is_loopback, listen, open_browser, page_address, reach_of

PORT = 7870
"""The port, if it is free and none is given."""
SHARE = 20
"""A report that a run has made older is written again after at least this many times the seconds that it took."""
PRINT_EVERY = 10.0
"""Seconds between two lines of progress in the terminal."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ASSETS = {"/page.js": "text/javascript; charset=utf-8", "/page.css": "text/css; charset=utf-8"}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".png": "image/png",
}


class RunViewer:
    """What the pages of one run folder share: its state, its report, and the process that continues it.

    Args:
        folder: the run folder.
        options: options of `cfglab run` for the button Continue.
        clock: returns seconds since 1970.
    """

    def __init__(self, folder: Path, options: Sequence[str] = (), clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(24)
        self.continuation = Continuation(folder, options)
        self._clock = clock
        self._lock = threading.Lock()
        self._report_lock = threading.Lock()
        self._state: tuple[float, RunState] | None = None  # when it is read again
        self._report_seconds = 0.0

    def state(self) -> RunState:
        """The state of the run, read again when the last one is old in proportion to what it took."""
        with self._lock:
            now = self._clock()
            if self._state is None or now >= self._state[0]:
                begun = time.perf_counter()
                state = self._with_process(read_state(self.folder, now))
                took = time.perf_counter() - begun
                self._state = (now + max(0.25, 5 * took), state)
            return self._state[1]

    def _with_process(self, state: RunState) -> RunState:
        """The state, with what the process of the button Continue adds to it."""
        process = self.continuation.process
        if process is not None and state.state not in ("running", "stopping"):
            words = f"Process {process} continues the run; it loads the model."
            return replace(state, state="starting", sentence=words, may_stop=True, may_continue=False)
        if state.state not in ("running", "stopping", "complete") and (error := self.continuation.error):
            return replace(state, state="failed", sentence=f"It could not be continued: {error}")
        return state

    def forget_state(self) -> None:
        """Read the state again the next time."""
        with self._lock:
            self._state = None

    def stop(self) -> str:
        """Stop the run; returns a sentence for the page. Raises CfglabError if it cannot be stopped."""
        if self.state().state == "starting" and self.continuation.interrupt():
            return "The process is stopped."
        request_stop(self.folder)
        return "It stops after the batch that it generates now."

    def go_on(self) -> str:
        """Continue the run; returns a sentence for the page. Raises CfglabError if it cannot be continued."""
        self.forget_state()
        state = self.state()
        if not state.may_continue:
            raise InputError(f"the run is not continued now: {state.sentence}")
        self.continuation.start()
        return "The run continues."

    def refresh_report(self) -> None:
        """Write the report again if the results are newer, and it is not too soon. Raises CfglabError if it fails."""
        from cfglab.report import report

        with self._report_lock:
            path = self.folder / "report.html"
            report_time, results_time = _modified(path), max(map(_modified, self._results()))
            running = self.state().state in ("running", "stopping")
            if report_time >= results_time or (running and self._clock() - report_time < SHARE * self._report_seconds):
                return
            begun = time.perf_counter()
            report(self.folder, live=running or None)
            self._report_seconds = time.perf_counter() - begun

    def _results(self) -> list[Path]:
        """The files with the results; an empty log is one that a reader made."""
        log = self.folder / f"{DATABASE}-wal"
        with suppress(OSError):
            if log.stat().st_size:
                return [self.folder / DATABASE, log]
        return [self.folder / DATABASE]

    def file(self, name: str) -> Path | None:
        """The file of the run folder that an address names; None for everything that is not of the report."""
        path = self.folder / name
        if not RUN_FILES.fullmatch(name) or not path.resolve().is_relative_to(self.folder.resolve()):
            return None
        return path if path.is_file() else None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    viewer: RunViewer
    hosts: frozenset[str] | None  # the names by which this server may be addressed; None: any
    server_version, sys_version = "cfglab", ""
    timeout = 30

    def do_GET(self) -> None:
        if not self._is_addressed():
            return
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            page = _asset("page.html").replace(b"{{token}}", escape(self.viewer.token).encode())
            self._send(200, page, _TYPES[".html"], PAGE_POLICY)
        elif path in _ASSETS:
            self._send(200, _asset(path[1:]), _ASSETS[path], PAGE_POLICY)
        elif path == "/state":
            state = self.viewer.state()
            has_report = bool(state.counts and state.counts.done) or self.viewer.file("report.html") is not None
            content = {**state.as_json(), "folder": str(self.viewer.folder), "report": has_report}
            self._send(200, json.dumps(content).encode(), _TYPES[".json"], PAGE_POLICY)
        else:
            self._send_run_file(path.removeprefix("/"))

    do_HEAD = do_GET

    def do_POST(self) -> None:
        action = {"/stop": self.viewer.stop, "/continue": self.viewer.go_on}.get(self.path)
        if not self._is_addressed():
            return
        if action is None:
            self._say(404, "there is no such page.")
        elif self.headers.get("Origin") != f"http://{self.headers.get('Host')}":
            self._say(403, "this button works on its own page only.")
        elif not hmac.compare_digest(self.headers.get("X-Cfglab-Token", "").encode(), self.viewer.token.encode()):
            self._say(403, "this page is of a server that has ended; load it again.")
        else:
            try:
                self._say(200, action())
            except CfglabError as error:
                self._say(409, str(error))
            self.viewer.forget_state()

    def _is_addressed(self) -> bool:
        """Whether the request names this server; a name of another site that points here is refused."""
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        if self.hosts is None or name in self.hosts:
            return True
        self._say(400, "this server has another name.")
        return False

    def _send_run_file(self, name: str) -> None:
        if name in ("report.html", "report.js"):
            try:
                self.viewer.refresh_report()
            except CfglabError as error:
                if self.viewer.file(name) is None:
                    self._say(404, str(error))
                    return
        path = self.viewer.file(name)
        if path is None:
            self._say(404, "there is no such file in this run.")
            return
        try:
            with open_regular(path) as file:
                content = file.read()
        except OSError as error:
            self._say(404, f"it cannot be read ({error.strerror or error}).")
            return
        self._send(200, content, _TYPES[path.suffix], REPORT_POLICY)

    def _say(self, status: int, sentence: str) -> None:
        self._send(status, sentence.encode(), "text/plain; charset=utf-8", REPORT_POLICY)

    def _send(self, status: int, content: bytes, kind: str, policy: str) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store" if kind != "image/png" else "private, max-age=3600",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is logged."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves, or a request that is none, is no reason for a traceback."""


def _asset(name: str) -> bytes:
    return (files("cfglab.viewer") / "assets" / name).read_bytes()


@dataclass
class ViewerServer:
    """A server that is running. It is a context manager that ends it.

    Attributes:
        address: the address of the page.
        viewer: the run that it shows.
    """

    address: str
    viewer: RunViewer
    _server: _Server
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> "ViewerServer":
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.viewer.continuation.close()


def start(folder: Path | str, host: str = HOME, port: int | None = None, options: Sequence[str] = ()) -> ViewerServer:
    """Bind the server of a run folder; `with start(...)` serves until the block ends.

    Args:
        folder: the run folder; it may be missing yet.
        host: the address to bind.
        port: the port; 0 takes a free one, None takes PORT or a free one.
        options: options of `cfglab run` for the button Continue.

    Raises:
        InputError: the port is taken or not allowed, or the address is not this computer's.

    Examples:
        with start("runs/k-decay") as server:
            print(server.address)
    """
    try:
        listening = listen(host, PORT if port is None else port)
    except InputError:
        if port is not None:
            raise
        listening = listen(host, 0)
    viewer = RunViewer(given_path(folder), options)
    hosts = frozenset({"127.0.0.1", "localhost", "::1", host.strip("[]")}) if is_loopback(host) else None
    handler = type("Handler", (_Handler,), {"viewer": viewer, "hosts": hosts})
    server = _Server(listening.getsockname()[:2], handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    return ViewerServer(page_address(host, listening.getsockname()[1]), viewer, server)


def serve(
    folder: Path,
    *,
    host: str = HOME,
    port: int | None = None,
    options: Sequence[str] = (),
    watch: bool = False,
    browser: bool = True,
) -> None:
    """Serve the page of a run folder until Ctrl-C.

    Args:
        folder: the run folder.
        host: the address to bind.
        port: the port; 0 takes a free one, None takes PORT or a free one.
        options: options of `cfglab run` for the button Continue.
        watch: accept a folder that holds no run yet, and print the progress.
        browser: whether to open the page in a browser, if there is one.

    Raises:
        InputError: there is no such run, the port is taken, or the address is not this computer's.
    """
    if not watch:
        Store.open(folder).close()
    with start(folder, host, port, options) as server:
        print(f"{inline(str(folder))}: {server.address} ({reach_of(host)}; Ctrl-C ends it)", flush=True)
        if browser:
            open_browser(server.address)
        try:
            _wait(server.viewer, watch)
        except KeyboardInterrupt:
            if (process := server.viewer.continuation.process) is not None:
                print(f"the run goes on as process {process}; the same command shows it again.", flush=True)


def _wait(viewer: RunViewer, watch: bool) -> None:
    """Wait for Ctrl-C; with `watch`, print the progress when it changes."""
    last_state, last_line, last_time = "", "", 0.0
    while True:
        if watch:
            state = viewer.state()
            line, now = state.line(), time.monotonic()
            if state.state != last_state or (line != last_line and now - last_time >= PRINT_EVERY):
                print(line, flush=True)
                last_state, last_line, last_time = state.state, line, now
        time.sleep(1)
