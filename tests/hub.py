"""A stand-in for the model hub on 127.0.0.1: the files of local folders under the hub's addresses."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves `models`, {hub id: folder}, at any revision; `asked` lists the requests as `GET /path`."""

    def __init__(self, models: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve(models: dict[str, Path]) -> Iterator[Hub]:
    with Hub(models) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        for name, folder in self.server.models.items():
            if path.startswith(f"/api/models/{name}/tree/"):
                return self._send(_tree(folder), with_body)
            if f"{path}/".startswith(f"/api/models/{name}/"):
                return self._send(_info(name, folder), with_body)
            if path.startswith(f"/{name}/resolve/"):
                file = folder / path.removeprefix(f"/{name}/resolve/").partition("/")[2]
                if file.is_file():
                    return self._send(file.read_bytes(), with_body)
                return self._send(b"", with_body, 404, {"X-Error-Code": "EntryNotFound"})
        return self._send(b"", with_body, 404, {"X-Error-Code": "RepoNotFound"})

    def _send(self, body: bytes, with_body: bool, status: int = 200, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{_content_id(body)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet: `Hub.asked` remembers."""


def _content_id(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _info(name: str, folder: Path) -> bytes:
    siblings = [{"rfilename": file.relative_to(folder).as_posix()} for file in _files(folder)]
    return json.dumps({"id": name, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}).encode()


def _tree(folder: Path) -> bytes:
    return json.dumps(
        [
            {
                "type": "file",
                "path": file.relative_to(folder).as_posix(),
                "size": file.stat().st_size,
                "oid": _content_id(file.read_bytes()),
            }
            for file in _files(folder)
        ]
    ).encode()
