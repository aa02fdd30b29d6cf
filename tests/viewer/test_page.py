"""The page of `cfglab show` in Chromium: a run is watched, stopped and continued there, and text stays text."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.session import StopRequested
from cfglab.experiments.storage.store import Store
from cfglab.viewer.continuation import Continuation
from cfglab.viewer.server import start
from tests.quick_run import YAML, run_quickly
from tests.report.browser import DESK, PHONE, chromium, until

ROOT = Path(__file__).parents[2]
EVIL = "<img src=x onerror=alert(1)>"
TREE = """
name: tree
title: A tree
model: mixture:tree
prompts: [class 0]
seeds: 0..1
sampler: euler
steps: 2
baseline: {name: constant, guidance: 3}
groups:
  - {name: more, guidance: 7.5}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(reach="127.0.0.1") as driver:
        yield driver


class Visit:
    """An open page, and what it complained of."""

    def __init__(self, browser: Any, address: str, size: tuple[int, int] = DESK, theme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=theme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("console", lambda line: self.complaints.append(line.text) if line.type == "error" else None)
        self.page.goto(address)

    def state(self, name: str) -> None:
        """Wait until the page says that the run is so."""
        self.page.locator(f"#state.{name}").wait_for()

    def close(self) -> None:
        self.context.close()
        remarks = ("Blocked autofocusing", "Failed to load resource")
        assert [line for line in self.complaints if not line.startswith(remarks)] == []


def test_a_run_is_watched_and_stopped(browser: Any, tmp_path: Path) -> None:
    folder, reached, go_on = tmp_path / "run", threading.Event(), threading.Event()
    ends: list[BaseException] = []

    def before(number: int) -> None:
        if number == 1:
            reached.set()
            assert go_on.wait(120)

    def work() -> None:
        try:
            run_quickly(folder, before, Experiment.from_yaml(YAML.replace("a cat", f'"{EVIL}"')))
        except BaseException as error:
            ends.append(error)

    with start(folder, port=0) as server:
        visit = Visit(browser, server.address)
        visit.state("waiting")
        worker = threading.Thread(target=work)
        worker.start()
        assert reached.wait(120)
        visit.state("running")
        until(visit.page, "document.querySelectorAll('#images img').length === 2")
        until(visit.page, "[...document.querySelectorAll('#images img')].every((it) => it.naturalWidth === 8)")
        assert visit.page.locator("#counts").inner_text() == "2 of 8 images"
        assert visit.page.locator("#images span").first.inner_text() == EVIL
        assert visit.page.title() == "2/8 · quick"
        visit.page.click("#stop")
        visit.state("stopping")
        assert not visit.page.locator("#stop").is_visible()
        go_on.set()
        visit.state("stopped")
        worker.join(60)
        assert isinstance(ends[0], StopRequested)
        until(visit.page, "document.querySelectorAll('#images img').length === 4")
        assert visit.page.locator("#continue").is_visible()
        visit.page.locator("#tab-live").focus()
        visit.page.keyboard.press("ArrowRight")
        frame = visit.page.frame_locator("#report iframe")
        frame.locator("h1").first.wait_for()
        assert "4 of 8" in frame.locator("header .facts").inner_text()
        visit.close()


def stopped_run(folder: Path) -> None:
    """A run that was stopped before its first batch."""

    def stop(_batch: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_quickly(folder, stop)


def test_a_run_is_continued_by_a_process_of_its_own(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    stopped_run(folder)
    code = f"from pathlib import Path; from tests.quick_run import run_quickly; run_quickly(Path({str(folder)!r}))"
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(Continuation, "command", lambda _: [sys.executable, "-c", code])
    with start(folder, port=0) as server:
        visit = Visit(browser, server.address, PHONE, "dark")
        visit.state("stopped")
        assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 22)"
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        visit.page.click("#continue")
        visit.state("complete")
        assert visit.page.locator("#counts").inner_text() == "8 of 8 images"
        assert not visit.page.locator("#continue").is_visible()
        visit.close()
        server.viewer.continuation.wait()
    with Store.open(folder) as store:
        assert store.counts()["done"] == 8


@pytest.mark.slow
def test_the_command_itself_continues_a_run(tmp_path: Path) -> None:
    from cfglab.experiments.execution.run import run

    def stop(_progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Experiment.from_yaml(TREE), tmp_path / "run", "cpu", quiet=True, watch=stop)
    process = Continuation(tmp_path / "run")
    process.start()
    assert process.process is not None
    process.wait()
    assert process.error == ""
    with Store.open(tmp_path / "run") as store:
        assert store.counts()["done"] == 4
    process.close()


def test_the_page_says_that_its_server_has_ended_and_goes_on_with_the_next(browser: Any, tmp_path: Path) -> None:
    with start(tmp_path / "run", port=0) as server:
        port = int(server.address.rstrip("/").rsplit(":", 1)[1])
        visit = Visit(browser, server.address)
        visit.state("waiting")
    until(visit.page, "document.querySelector('#message').textContent.startsWith('The server does not answer')")
    with start(tmp_path / "run", port=port):
        until(visit.page, "document.querySelector('#message').hidden")
    visit.close()
