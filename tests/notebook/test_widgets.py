"""Widgets: their Python side, and their scripts in a real browser with the real Python object behind them."""

import base64
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfglab import Constant, Linear, Table, parse, widgets
from cfglab.errors import InputError
from tests.report.browser import Seen, chromium

pytest.importorskip("anywidget", reason="the extra cfglab[notebook] is not installed")

EVIL = "<img src=x onerror=alert(1)>"
MODEL = """
class Model {
  constructor(state) { this.state = state; this.changes = {}; this.listeners = {}; }
  get(name) { return this.state[name]; }
  set(name, value) { this.state[name] = value; this.changes[name] = value; this.fire(name); }
  on(name, listener) { (this.listeners[name] ??= new Set()).add(listener); }
  off(name, listener) { this.listeners[name]?.delete(listener); }
  fire(name) { this.listeners[`change:${name}`]?.forEach((listener) => listener()); }
  apply(state) { for (const [name, value] of Object.entries(state)) { this.state[name] = value; this.fire(name); } }
  async save_changes() {
    const changes = this.changes;
    this.changes = {};
    const answer = JSON.parse(await window.save(JSON.stringify(changes)));
    this.apply(answer);
  }
}
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (it) => it.charCodeAt(0)).buffer);
const state = JSON.parse(document.getElementById("state").textContent);
for (const name of ["first", "second"]) if (name in state) state[name] = bytes(state[name]);
window.model = new Model(state);
window.stop = widget.render({ model, el: document.getElementById("place") });
"""


# -- the Python side ---------------------------------------------------------------------------------------------------


def test_knots_make_a_schedule_and_a_schedule_makes_knots() -> None:
    widget = widgets.Curve(7.5, steps=4)
    heard: list[Any] = []
    widget.observe(lambda change: heard.append(change["new"]), "schedule")
    widget.knots = [(0, 8), (1, 4)]
    assert widget.schedule == Linear(max=8, min=4)
    assert widget.curve == [8.0, 7.0, 6.0, 5.0]
    widget.knots = [(0, 8), (0.5, 4), (1, 4)]
    assert widget.schedule == Table([8, 6, 4, 4])
    widget.knots = [(0, 3), (1, 3)]
    assert widget.schedule == Constant(3)
    widget.schedule = "linear(max=8, min=4).inverted()"
    assert widget.knots == [[0.0, 4.0], [1.0, 8.0]]
    assert widget.text == "linear(max=8, min=4).inverted()"
    assert heard == [Linear(max=8, min=4), Table([8, 6, 4, 4]), Constant(3), parse(widget.text)]


def test_a_schedule_that_was_set_stays_exact_until_a_knot_moves() -> None:
    cosine = parse("cosine(max=7.5, min=1)")
    widget = widgets.Curve(cosine, steps=20)
    assert widget.schedule == cosine
    assert widget.curve == cosine.values(20)
    assert 3 <= len(widget.knots) <= 9
    close = widgets.curve.schedule_of(widget.knots, 20).values(20)
    assert close == pytest.approx(cosine.values(20), abs=0.3)
    widget.knots = [*widget.knots[:-1], [1.0, 5.0]]
    assert isinstance(widget.schedule, Table)


def test_the_axis_holds_the_curve_and_the_steps_those_of_a_list() -> None:
    assert widgets.Curve([8, 8, 6, 4]).steps == 4
    widget = widgets.Curve(20)
    assert (widget.low, widget.high) == (0.0, 25.0)
    widget.schedule = Linear(max=40, min=-2)
    assert widget.low < 0
    assert widget.high == 40.0


@pytest.mark.parametrize(
    ("knots", "words"),
    [
        ([[0, 1]], "1 knots: a curve has 2 to 40"),
        ([[0, 1], [1, float("nan")]], "finite"),
        ([[0, 1], [0.5, 1, 3], [1, 2]], "each \\(fraction of the run, w\\)"),
        ([[0, 1], [0.6, 2], [0.4, 2], [1, 1]], "they rise from 0 to 1"),
        ([[0.1, 1], [1, 1]], "they rise from 0 to 1"),
        ([[index / 40, 1] for index in range(41)], "41 knots"),
    ],
)
def test_knots_that_make_no_curve_change_nothing(knots: Any, words: str) -> None:
    widget = widgets.Curve("linear(max=8, min=4)", steps=4)
    with pytest.raises(InputError, match=words):
        widget.set_state({"knots": knots})
    assert widget.schedule == Linear(max=8, min=4)


def test_what_is_no_curve_is_refused_in_a_line() -> None:
    with pytest.raises(InputError, match="unknown shape"):
        widgets.Curve("cosinus(max=7)")
    with pytest.raises(InputError, match="0 steps: a curve has 1 to 1000"):
        widgets.Curve(7.5, steps=0)
    with pytest.raises(InputError, match="the axis rises"):
        widgets.Curve(7.5, low=5, high=5)


def solid(value: int, size: tuple[int, int] = (8, 6)) -> Image.Image:
    return Image.new("RGB", size, (value, value, value))


def test_images_of_every_kind_become_the_same_png(tmp_path: Path) -> None:
    solid(255).save(tmp_path / "white.png")
    ones = np.ones((6, 8, 3))
    kinds = [solid(255), ones, (ones * 255).astype(np.uint8), tmp_path / "white.png", str(tmp_path / "white.png")]
    pngs = {widgets.Flicker(kind, solid(0)).first for kind in kinds}
    assert len(pngs) == 1
    assert pngs.pop().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((solid(0), solid(0, (9, 9))), {}, "8 × 6 and 9 × 9 pixels: both lie in one place"),
        ((solid(0), np.zeros((4, 4))), {}, r"shape \(4, 4\)"),
        ((solid(0), "no such file.png"), {}, "no image file"),
        ((solid(0), solid(1)), {"interval": 50}, "interval 50: milliseconds, 200 to 10000"),
        ((solid(0), solid(1)), {"labels": "ab"}, "each image has one"),
    ],
)
def test_what_cannot_flicker_is_refused_in_a_line(arguments: Any, options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        widgets.Flicker(*arguments, **options)


def test_without_anywidget_the_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cfglab.widgets.curve", "cfglab.widgets.Curve"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr(widgets, "Curve", raising=False)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(InputError, match=r"pip install 'cfglab\[notebook\]'"):
        _ = widgets.Curve


# -- the scripts in a browser ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as instance:
        yield instance


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`show(widget)`: a page with the widget's own script and style; what the page saves reaches the Python object."""
    pages: list[Seen] = []

    def open_page(widget: Any, theme: str = "light") -> Any:
        script = str(widget._esm).replace("export default { render };", "const widget = { render };")
        assert "const widget" in script
        state = {name: value for name, value in widget.get_state().items() if not name.startswith("_")}
        texts = {name: base64.b64encode(value).decode() for name, value in state.items() if isinstance(value, bytes)}
        told = json.dumps({**state, **texts}).replace("<", "\\u003c")
        path = tmp_path / "widget.html"
        path.write_text(
            f'<!doctype html><meta charset="utf-8"><style>{widget._css}</style><div id="place"></div>'
            f'<script type="application/json" id="state">{told}</script>'
        )
        seen = Seen(browser, path, theme=theme)

        def save(changes: str) -> str:
            names = ("knots", "curve", "text")
            widget.set_state(json.loads(changes))
            return json.dumps({name: getattr(widget, name) for name in names if hasattr(widget, name)})

        seen.page.expose_function("save", save)
        seen.page.add_script_tag(content=f"{{{script}\n{MODEL}}}")
        pages.append(seen)
        return seen.page

    yield open_page
    for seen in pages:
        assert seen.complaints == []
        assert all(url.startswith(("file:", "blob:")) for url in seen.asked)
        seen.close()


def settled(page: Any, condition: str) -> None:
    page.wait_for_function(condition)


def test_a_dragged_knot_changes_the_schedule(show: Callable[..., Any]) -> None:
    widget = widgets.Curve("linear(max=8, min=4)", steps=20)
    page = show(widget)
    box = page.locator(".knot").nth(1).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 30, y + 40, steps=4)
    page.mouse.up()
    settled(page, "document.querySelector('.text').textContent !== 'linear(max=8, min=4)'")
    (_, first), (end, last) = widget.knots
    assert (first, end) == (8.0, 1.0)  # the ends of the run stay where they are
    assert 0 < last < 3.9
    assert widget.schedule == Linear(max=8, min=last)
    assert page.locator(".text").text_content() == str(widget.schedule)


def test_the_keyboard_moves_adds_and_removes(show: Callable[..., Any]) -> None:
    widget = widgets.Curve("linear(max=8, min=4)", steps=20)
    page = show(widget)
    page.locator(".knot").nth(0).press("ArrowUp")
    settled(page, "model.get('knots')[0][1] === 8.1")
    assert widget.schedule.values(20)[0] == 8.1
    page.locator("svg").dblclick(position={"x": 200, "y": 190})
    settled(page, "document.querySelectorAll('.knot').length === 3")
    assert isinstance(widget.schedule, Table)
    page.locator(".knot").nth(0).press("Delete")  # an end stays
    page.locator(".knot").nth(1).press("Delete")
    settled(page, "document.querySelectorAll('.knot').length === 2")
    assert widget.schedule == Linear(max=8.1, min=4)


def test_a_schedule_set_in_python_is_redrawn(show: Callable[..., Any]) -> None:
    widget = widgets.Curve("linear(max=8, min=4)", steps=20)
    page = show(widget, theme="dark")
    before = page.locator(".line").get_attribute("d")
    widget.schedule = "cosine(max=7.5, min=1)"
    page.evaluate("(state) => model.apply(state)", {name: getattr(widget, name) for name in ("knots", "curve", "text")})
    after = page.locator(".line").get_attribute("d")
    assert after != before
    assert after.count("L") == 20  # one point for each step and the end, not the line through the knots
    assert page.locator(".knot").count() == len(widget.knots)
    page.evaluate("stop()")
    page.evaluate("model.apply({text: 'afterwards'})")
    assert page.locator(".text").text_content() == "cosine(max=7.5, min=1)"  # it no longer listens


def test_two_images_lie_in_one_place_and_the_keys_choose(show: Callable[..., Any]) -> None:
    widget = widgets.Flicker(solid(0), solid(255), labels=(EVIL, "w = 7.5"))
    page = show(widget)  # a browser that asks for reduced motion: at rest
    settled(page, "[...document.images].every((image) => image.naturalWidth === 8)")
    visible = "[...document.images].map((image) => getComputedStyle(image).visibility)"
    assert page.evaluate(visible) == ["visible", "hidden"]
    boxes = [
        page.locator("img").nth(index).evaluate("(it) => JSON.stringify(it.getBoundingClientRect())")
        for index in (0, 1)
    ]
    assert boxes[0] == boxes[1]
    assert page.locator(".bar button").nth(1).text_content() == EVIL
    page.locator(".stage").press("ArrowRight")
    settled(page, f"{visible}[1] === 'visible'")
    assert (widget.shown, widget.playing) == (1, False)
    page.locator(".bar button").nth(1).click()
    assert page.evaluate(visible) == ["visible", "hidden"]
    assert widget.shown == 0


def test_they_take_turns_while_playing(show: Callable[..., Any]) -> None:
    widget = widgets.Flicker(solid(0), solid(255), interval=200)
    page = show(widget)
    page.locator(".stage").click()
    settled(page, "model.get('shown') === 1")
    settled(page, "model.get('shown') === 0")
    assert widget.playing
    assert widget.shown == 0
    page.locator(".stage").click()
    assert page.locator(".bar button").nth(0).text_content() == "play"


def test_the_scripts_ask_for_nothing_and_write_no_html() -> None:
    unsafe = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|import[ (]|fetch\(|https?:(?!//www\.w3\.org/2000/)"
    )
    for widget in (widgets.Curve(), widgets.Flicker(solid(0), solid(1))):
        assert not re.search(unsafe, str(widget._esm))
