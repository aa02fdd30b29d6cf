"""A server of ComfyUI with the pack, and its page in Chromium."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .workflows import TUNED, Prompt

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 240
"""For the server to start, and for one prompt."""


class Server:
    """A running server.

    Attributes:
        folder: Its input, output and custom nodes.
        address: Where it listens.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.address = folder, f"http://127.0.0.1:{port}"

    def get(self, path: str, body: Any = None) -> Any:
        """The JSON that the server answers, also where it refuses."""
        data = None if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.address + path, data), timeout=30) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def queue(self, prompt: Prompt) -> dict[str, Any]:
        """The history of a prompt that has run, or the errors of one that was refused."""
        answer = self.get("/prompt", {"prompt": prompt})
        if "prompt_id" not in answer:
            return answer
        for _ in range(10 * SECONDS):
            if done := self.get(f"/history/{answer['prompt_id']}"):
                return done[answer["prompt_id"]]
            time.sleep(0.1)
        raise TimeoutError(answer["prompt_id"])

    def images(self, history: dict[str, Any]) -> list[Path]:
        """The files of the images that a prompt saved."""
        saved = [image for output in history["outputs"].values() for image in output.get("images", ())]
        return [self.folder / "output" / image["filename"] for image in saved if image["type"] == "output"]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server on a free port of this machine, ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "input").mkdir(parents=True, exist_ok=True)
    (folder / "input" / "tuned.json").write_text(TUNED)
    (folder / "user" / "default").mkdir(parents=True, exist_ok=True)
    settings = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}
    (folder / "user" / "default" / "comfy.settings.json").write_text(json.dumps(settings))
    log = (folder / "server.log").open("w")
    command = [sys.executable, str(Path(__file__).parent / "serve.py"), str(folder), str(port)]
    process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        server = Server(folder, port)
        for _ in range(10 * SECONDS):
            try:
                server.get("/object_info/CfglabGuidance")
                break
            except OSError:
                assert process.poll() is None, (folder / "server.log").read_text()[-3000:]
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


@contextmanager
def page_of(server: Server, size: tuple[int, int] = (1400, 860)) -> Iterator[Any]:
    """The page of ComfyUI, ready for a workflow."""
    import pytest

    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup")
    chromium = os.environ.get("CFGLAB_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        pytest.skip("no browser: install Chromium (Debian: apt-get install chromium), or name one in CFGLAB_BROWSER")
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # no other machine is asked
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", alone])
        page = browser.new_context(viewport={"width": size[0], "height": size[1]}).new_page()
        page.set_default_timeout(60_000)
        page.goto(server.address)
        page.wait_for_function(
            "() => window.app?.graph && window.app.extensionManager && document.querySelector('canvas')"
        )
        page.wait_for_function("() => window.LiteGraph?.registered_node_types?.CfglabGuidance")
        yield page
        browser.close()
