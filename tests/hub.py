"""A stand-in for the model hub on 127.0.0.1: the files of local folders under the hub's addresses."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves `models`, {hub id: folder}, at any revision; `asked` lists the requests as `GET /path`.

    Repositories that are made hold their files in `uploads`; without it none may be made.
    """

    def __init__(self, models: dict[str, Path], uploads: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models, self.uploads = models, uploads
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve(models: dict[str, Path], uploads: Path | None = None) -> Iterator[Hub]:
    with Hub(models, uploads) as hub:
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

    def do_POST(self) -> None:
        """Making a repository and committing small files to it, as the hub's client asks for it."""
        path = self.path.partition("?")[0]
        self.server.asked.append(f"POST {path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path == "/api/repos/create":
            name = "/".join(part for key in ("organization", "name") if (part := json.loads(body).get(key)))
            if self.server.uploads is None:
                return self._send(b'{"error": "you may not"}', True, 403)
            self.server.models.setdefault(name, self.server.uploads)
            return self._send(json.dumps({"url": f"{self.server.address}/{name}", "name": name}).encode(), True)
        name = next((name for name in self.server.models if path.startswith(f"/api/models/{name}/")), "")
        if "/preupload/" in path:
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in _files_of(body)]
            return self._send(json.dumps({"files": modes}).encode(), True)
        if name and "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    file = self.server.models[name] / line["value"]["path"]
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(base64.b64decode(line["value"]["content"]))
            url = f"{self.server.address}/{name}/commit/{COMMIT}"
            return self._send(json.dumps({"success": True, "commitUrl": url, "commitOid": COMMIT}).encode(), True)
        return self._send(b"", True, 404, {"X-Error-Code": "RepoNotFound"})

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


def _files_of(body: bytes) -> list[dict[str, str]]:
    files: list[dict[str, str]] = json.loads(body)["files"]
    return files


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
