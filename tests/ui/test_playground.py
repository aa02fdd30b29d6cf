"""The playground in Chromium: its flows by mouse and keyboard, two users, strange input, and what it lets be read."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from cfglab.experiments.storage.files import only_writer
from cfglab.guidance import parse_guidance
from cfglab.schedules import Table
from tests.report.browser import DESK, PHONE, chromium

EVIL = "<img src=x onerror=alert(1)>"
ROOT = Path(__file__).parents[2]


class Server:
    """`cfglab ui` in a process and a folder of its own."""

    def __init__(self, folder: Path, *command: str) -> None:
        self.folder = folder
        path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        found = re.search(r"http://\S+", self.said)
        assert found, self.said + self.process.stdout.read()
        self.address = found[0].replace("localhost", "127.0.0.1")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if find_spec("gradio") is None:
        pytest.skip("Gradio is not installed: make setup")
    options = ("--no-browser", "--port", "0", "--device", "cpu", "--votes", "votes.jsonl")
    running = Server(tmp_path_factory.mktemp("playground"), "-m", "cfglab", "ui", *options)
    yield running
    assert running.process.poll() is None  # it lived through everything
    running.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(reach="127.0.0.1") as driver:
        yield driver


@pytest.fixture(scope="module")
def users(browser: Any) -> Iterator[Callable[..., Any]]:
    """`users(size, theme)`: one user of the page, whose browser has its scripts from the second visit on."""
    contexts: dict[tuple[Any, ...], Any] = {}

    def user(size: tuple[int, int], theme: str, name: str) -> Any:
        key = (size, theme, name)
        if key not in contexts:
            viewport = {"width": size[0], "height": size[1]}
            contexts[key] = browser.new_context(viewport=viewport, color_scheme=theme, reduced_motion="reduce")
        return contexts[key]

    yield user
    for context in contexts.values():
        context.close()


@pytest.fixture
def visit(users: Callable[..., Any], server: Server) -> Iterator[Callable[..., Any]]:
    """`visit(query, size=, theme=, user=)`: the page; at the end it must have asked its own server only, without an
    error."""
    pages, asked, complaints = [], list[str](), list[str]()

    def look(query: str = "", size: tuple[int, int] = DESK, theme: str = "light", user: str = "") -> Any:
        page = users(size, theme, user).new_page()
        pages.append(page)
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda line: complaints.append(line.text) if is_fault(line) else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.goto(server.address + query)
        page.wait_for_selector("#notice .cl-ready", state="attached")
        return page

    yield look
    for page in pages:
        page.close()
    own = (server.address, "data:", "blob:")
    assert [url for url in asked if not url.startswith(own)] == []
    assert complaints == []


def is_fault(line: Any) -> bool:
    """An error on the console; but the browser's remark that the report of a run may not take the focus is none."""
    return line.type == "error" and not line.text.startswith("Blocked autofocusing")


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def fill(page: Any, field: str, text: str) -> None:
    page.fill(f"#{field} :is(textarea, input)", text)


def few_steps(page: Any, steps: int = 3) -> None:
    page.fill("#steps input[type=number]", str(steps))
    page.press("#steps input[type=number]", "Tab")


def test_it_says_where_it_is_and_who_can_reach_it(server: Server) -> None:
    assert re.fullmatch(r"playground: http://127\.0\.0\.1:\d+/ \(this computer only; Ctrl-C ends it\)\n", server.said)


def test_enter_in_the_prompt_generates_step_by_step(visit: Any) -> None:
    page = visit()
    few_steps(page, 8)
    page.evaluate(
        """() => { window.states = []; new MutationObserver(() => {
            const line = document.querySelector("#view figcaption span:last-child")?.textContent;
            if (line && line !== states.at(-1)) states.push(line);
        }).observe(document.querySelector("#view"), {subtree: true, childList: true, characterData: true}); }"""
    )
    fill(page, "prompt", "a photograph of a cat")
    page.press("#prompt :is(textarea, input)", "Enter")
    page.wait_for_selector("#view figure[data-done=true] img")
    states = page.evaluate("states")
    assert any(state.startswith("step ") for state in states[:-1])
    assert states[-1].endswith(" s")
    assert page.locator("#view figcaption span").first.inner_text() == "a photograph of a cat"
    assert page.evaluate("document.querySelector('#view img').naturalWidth") == 128
    assert page.locator("#trace .cl-spark").count() == 4
    assert "8 calls · 16 denoiser rows run, 0 saved" in page.locator("#trace").inner_text()
    assert page.locator("#curve svg .curve, #curve svg path").count() > 2


def test_a_word_is_completed_by_keyboard_and_a_fault_is_said_while_typing(visit: Any) -> None:
    page = visit()
    box = page.locator("#guidance :is(textarea, input)")
    box.fill("")
    box.press_sequentially("cosi")
    page.wait_for_selector(".cl-popup li")
    assert page.locator(".cl-popup li").all_inner_texts() == ["cosine"]
    box.press("Tab")
    assert box.input_value() == "cosine("
    box.press_sequentially("ma")
    page.wait_for_selector(".cl-popup li")
    box.press("Tab")
    box.press_sequentially("5) | ap")
    page.wait_for_selector(".cl-popup li")
    box.press("Tab")
    box.press_sequentially(")")
    assert box.input_value() == "cosine(max=5) | apg()"
    page.wait_for_selector("#checked .cl-ok code")
    assert "cosine(max=5, min=1) | apg()" in page.locator("#checked").inner_text()
    box.fill("cosin(max=5)")
    page.wait_for_selector("#checked .cl-error")
    assert "did you mean cosine?" in page.locator("#checked").inner_text()


def test_a_method_of_the_catalogue_has_sliders_that_write_the_guidance(visit: Any) -> None:
    page = visit()
    page.click("#method input")
    page.fill("#method input", "apg")
    page.locator("[role=option]").filter(has_text="apg").first.click()
    page.wait_for_selector(".cl-card h3:has-text('Adaptive projected guidance')")
    assert "D_orth + eta D_par" in page.locator(".cl-card pre").inner_text()
    page.click("#use-method")
    page.wait_for_function("document.querySelector('#guidance :is(textarea, input)').value.endsWith('| apg()')")
    slider = page.get_by_label("range slider for eta")
    assert (slider.get_attribute("min"), slider.get_attribute("max")) == ("0", "1")
    slider = page.get_by_label("range slider for momentum")
    slider.focus()
    slider.press("Home")
    slider.dispatch_event("pointerup")
    page.wait_for_function(
        "document.querySelector('#guidance :is(textarea, input)').value.includes('apg(momentum=-0.99)')"
    )


def test_a_curve_is_drawn_by_mouse_and_by_keyboard(visit: Any) -> None:
    page = visit("?" + urlencode({"guidance": "7.5 | rescale()", "steps": 5}))
    tab(page, "Draw the curve")
    knot = page.locator("#draw circle").nth(2)
    box = knot.bounding_box()
    page.mouse.move(box["x"] + 7, box["y"] + 7)
    page.mouse.down()
    page.mouse.move(box["x"] + 7, box["y"] - 40, steps=3)
    page.mouse.up()
    value = "document.querySelector('#guidance :is(textarea, input)').value"
    page.wait_for_function(f"{value} !== '7.5 | rescale()'")
    by_mouse = parse_guidance(page.evaluate(value))
    scales = by_mouse.schedule.values(5)
    assert scales[0] == 7.5
    assert scales[2] > 6
    assert len(by_mouse.transforms) == 1
    page.locator("#draw circle").first.focus()
    page.keyboard.press("Shift+ArrowDown")
    page.wait_for_function(f"{value} !== {json.dumps(str(by_mouse))}")
    by_keyboard = parse_guidance(page.evaluate(value))
    assert by_keyboard.schedule.values(5) == [6.5, *scales[1:]]
    few_steps(page, 3)
    page.wait_for_function(f"{value} !== {json.dumps(str(by_keyboard))}")
    fewer = parse_guidance(page.evaluate(value)).schedule
    assert isinstance(fewer, Table)
    assert (len(fewer.entries), fewer.entries[0]) == (3, 6.5)


def test_a_blind_vote_is_stored_and_next_seed_keeps_the_pair(visit: Any, server: Server) -> None:
    page = visit("?steps=2")
    tab(page, "Compare")
    fill(page, "guidances", "1\n7.5")
    page.click("#compare")
    page.wait_for_selector("#pair .cl-pair")
    assert page.locator("#pair figcaption").all_inner_texts() == ["left", "right"]
    assert page.locator("#thumbs img").count() == 0
    page.get_by_role("button", name="Slider").click()
    page.locator("#pair .cl-cut").fill("20")
    assert page.locator("#pair .cl-pair").evaluate("(pair) => pair.style.getPropertyValue('--cut')") == "20%"
    page.get_by_role("button", name="Flicker").click()
    page.wait_for_selector("#pair .cl-pair.second")
    for number, outcome in enumerate(("left", "tie", "right")):
        page.click(f"#vote-{outcome}")
        page.wait_for_selector("#thumbs img")
        assert set(page.locator("#pair figcaption").all_text_contents()) == {"1", "7.5"}
        assert page.input_value("#seed input") == str(number)
        page.click("#next-seed")
        page.wait_for_function(f"document.querySelector('#seed input').value === '{number + 1}'")
        page.wait_for_function("document.querySelectorAll('#thumbs img').length === 0")
    votes = [json.loads(line) for line in (server.folder / "votes.jsonl").read_text().splitlines()]
    assert [(vote["outcome"], vote["seed"], vote["blind"]) for vote in votes] == [
        ("left", 0, True),
        ("tie", 1, True),
        ("right", 2, True),
    ]
    assert {frozenset((vote["left"], vote["right"])) for vote in votes} == {frozenset(("1", "7.5"))}
    assert page.locator("#table tbody tr").count() == 2


def test_a_sweep_fills_its_grid_and_its_run_can_be_reported_and_continued(visit: Any, server: Server) -> None:
    page = visit()
    tab(page, "Sweep")
    assert not page.locator("#prompt").is_visible()
    fill(page, "template", "{w:3, 5}")
    fill(page, "sweep-prompts", "a photograph of a cat\na photograph of a dog")
    fill(page, "seeds", "0")
    fill(page, "sweep-steps", "2")
    fill(page, "sweep-name", "small")
    page.wait_for_selector("text=3 settings × 2 prompts × 1 seed = 6 images")
    page.click("#sweep-start")
    page.wait_for_selector("text=6 of 6 images · complete")
    assert page.locator("#sweep-grid td img").count() == 6
    page.wait_for_function(
        "[...document.querySelectorAll('#sweep-grid td img')].every((it) => it.naturalWidth === 128)"
    )
    page.click("#sweep-report")
    page.frame_locator("#sweep-page iframe").locator("h1").first.wait_for()
    tab(page, "Runs")
    page.wait_for_selector("#run-grid td img")
    folder = server.folder / "runs" / "small"
    with closing(sqlite3.connect(folder / "results.sqlite")) as database, database:
        database.execute("DELETE FROM results WHERE position >= 4")
    page.click("#run-refresh")
    page.wait_for_selector("#run-grid :text('4 of 6 images · not complete')")
    with only_writer(folder):
        page.click("#run-continue")
        page.wait_for_selector("#run-said :text('is writing there')")
    page.click("#run-continue")
    page.wait_for_selector("#run-grid :text('6 of 6 images · complete')")


def test_a_link_restores_the_page_and_a_prompt_runs_no_script(visit: Any) -> None:
    query = {"prompt": EVIL, "guidance": "6 | rescale(strength=0.5)", "seed": 11, "steps": 2, "sampler": "euler"}
    page = visit("?" + urlencode(query))
    page.wait_for_function("document.querySelector('#seed input').value === '11'")
    assert page.input_value("#prompt :is(textarea, input)") == EVIL
    assert page.input_value("#guidance :is(textarea, input)") == query["guidance"]
    page.click("#generate")
    page.wait_for_selector("#view figure[data-done=true]")
    assert page.locator("#view figcaption span").first.inner_text() == EVIL
    tab(page, "Take away")
    page.get_by_label("Link").click()
    page.wait_for_function("document.querySelector('#taken .cm-content').innerText.includes('seed=11&steps=2')")
    assert page.title() == "cfglab playground"


def test_an_unknown_method_in_a_link_is_one_line_and_the_page_works(visit: Any) -> None:
    page = visit("?" + urlencode({"guidance": "7.5 | newmethod()"}))
    page.wait_for_selector("#notice .cl-error")
    line = page.locator("#notice").inner_text().strip()
    assert line.startswith("this link cannot be opened: no transform 'newmethod'")
    assert "\n" not in line
    assert page.input_value("#guidance :is(textarea, input)") == "cosine(max=7.5, min=1)"


def test_two_users_at_once_have_their_own_images(visit: Any) -> None:
    pages = [
        visit("?" + urlencode({"prompt": f"a photograph of a {name}", "steps": 12}), user=name)
        for name in ("cat", "dog")
    ]
    for page in pages:
        page.click("#generate")
    images = []
    for page, name in zip(pages, ("cat", "dog"), strict=True):
        page.wait_for_selector("#view figure[data-done=true]")
        assert page.locator("#view figcaption span").first.inner_text() == f"a photograph of a {name}"
        images.append(page.get_attribute("#view img", "src"))
    assert images[0] != images[1]


def test_it_fits_a_phone_in_the_dark(visit: Any) -> None:
    page = visit("?steps=2", size=PHONE, theme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 22)"
    for name in ("Generate", "Compare", "Sweep", "Runs"):
        tab(page, name)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name


def answer(address: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(address, method=method, headers=headers, data=b"x" if method == "POST" else None)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/etc/passwd",
        "gradio_api/file/etc/passwd",
        "gradio_api/file=votes.jsonl",
        "gradio_api//file=/etc/passwd",
        "gradio_api/file%3D/etc/passwd",
        "file=/etc/passwd",
        "gradio_api/proxy=https://example.com/",
        "runs/../votes.jsonl/x",
        "runs/%2e%2e/report.html",
        "runs/secret/report.html",
        "runs/secret/../../votes.jsonl",
        "runs/..%2fsecret/report.html",
        "static/../../../../etc/passwd",
    ],
)
def test_no_file_of_the_server_can_be_read(server: Server, path: str) -> None:
    secret = server.folder / "secret"
    secret.mkdir(exist_ok=True)
    (secret / "results.sqlite").write_text("root:x:0:0")
    status, body = answer(server.address + path)
    assert b"root:" not in body
    assert b"outcome" not in body
    assert status in (400, 403, 404, 405)


def test_uploads_and_other_sites_are_refused(server: Server) -> None:
    assert answer(server.address + "gradio_api/upload", "POST")[0] == 404
    assert answer(server.address, Host="evil.example")[0] == 400
    with urllib.request.urlopen(server.address, timeout=30) as response:
        assert "connect-src 'self'" in response.headers["Content-Security-Policy"]
        assert "script-src 'self'" in response.headers["Content-Security-Policy"]


@pytest.mark.slow
def test_the_space_starts_and_serves_the_page(tmp_path: Path) -> None:
    environment = {"GRADIO_SERVER_PORT": "0", "GRADIO_SERVER_NAME": "127.0.0.1", "CFGLAB_FOLDER": str(tmp_path)}
    code = f"import os, runpy; os.environ.update({environment!r}); runpy.run_path({str(ROOT / 'space' / 'app.py')!r})"
    space = Server(tmp_path, "-c", code)
    try:
        status, body = answer(space.address)
        assert status == 200
        assert b"cfglab playground" in body
    finally:
        space.close()
