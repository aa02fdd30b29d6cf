"""The functions of the report's scripts one by one: in node, or where there is none, in the browser."""

import base64
import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import chromium

SCRIPTS = ("base", "cells", "drawing", "grid", "list", "frontier")
"""Those that touch the page only inside functions."""

DATA: dict[str, Any] = {
    "steps": 4,
    "prompts": ["a cat", "a dog"],
    "seeds": [7, "9007199254740993"],
    "baseline": 0,
    "metrics": [
        {"name": "alignment", "title": "Alignment", "kind": "yes", "better": "higher", "main": True, "part": False},
        {"name": "contrast", "title": "Contrast", "kind": "number", "better": None, "main": False, "part": False},
    ],
    "measures": [{"name": "alignment", "title": "Alignment", "kind": "yes", "better": "higher", "of": "image"}],
    "floors": [None],
    "settings": [
        {"title": "base", "group": "baseline", "numbers": [[0.5, 0.4, 0.6]], "values": [3, 3], "dose": 3},
        {"title": "k = 1", "group": "cosine", "numbers": [[0.7, 0.6, 0.8]], "values": [3, 1], "dose": 2},
        {"title": "k = 3", "group": "cosine", "numbers": [None], "values": [3, None], "dose": None},
    ],
    "axes": [
        {"name": "setting", "values": ["k = 1", "k = 3"]},
        {"name": "k", "values": ["1", "3"]},
    ],
    "at": [[-1, -1], [0, 0], [1, 1]],
    "first": {"rows": "prompt", "columns": "k"},
    "trace": {"step": [0, 1], "sigma": [9, 1]},
    "src": [f"data:{index}" for index in range(12)],
    "file": [None if index == 5 else f"images/{index}.png" for index in range(12)],
    "bad": {"6": "boom"},
    "lost": {"8": "images/8.png is missing"},
    "scores": [[1, 0, None, 1, 0, 1, 1, 1, 0, 0, 1, 1], [0.5, 0.1, 0.3, None, 0.2, 0.9, 0.4, 0.6, 0.7, 0.8, 1, 0]],
    "traces": base64.b64encode(struct.pack("<120f", *range(120))).decode(),
}

CASES: dict[str, tuple[str, Any]] = {
    "a position is setting, prompt, seed": ("[at(2, 1, 1), at(0, 0, 0), placeOf(11), placeOf(5)]",
        [11, 0, {"setting": 2, "prompt": 1, "seed": 1}, {"setting": 1, "prompt": 0, "seed": 1}]),
    "positions and places invert each other": (
        "[...Array(12).keys()].every((p) => { const o = placeOf(p); return at(o.setting, o.prompt, o.seed) === p; })",
        True,
    ),
    "a name has the prompt where there are several": ("[nameOf(0), nameOf(7)]",
        ["base (baseline) · a cat · seed 7", "k = 1 · a dog · seed 9007199254740993"]),
    "values are spelled by kind": (
        "[[0.123, 'share'], [1, 'yes'], [0, 'yes'], [null, 'yes'], [-0.5, 'number'], [7.456, 'dose'], [1234.5, 'n'],"
        " [1e30, 'dose']]"
        ".map((it) => spelled(...it))",
        ["12.3\u202f%", "yes", "no", "–", "−0.5", "7.46", "1230", "1.00e+30"],
    ),
    "a mean of yes and no is a share": ("spelledMean(0.625, 'yes')", "62.5\u202f%"),
    "a shell gets one word": ("[quoted('a/b-1.png'), quoted(`it's $HOME`)]", ["a/b-1.png", """'it'"'"'s $HOME'"""]),
    "bytes are little-endian floats": (
        f"[...floats({base64.b64encode(struct.pack('<3f', 1.5, -2, 0.25)).decode()!r})]",
        [1.5, -2, 0.25],
    ),
    "blocks are asked for once each": ("numbersOf([0, 5, 31, 32, 70, 33], 32)", [0, 1, 2]),
    "a cell without an image says why": (
        "[faultOf(6), faultOf(0), sourceOf(6), faultOf(8), sourceOf(8), scoreOf(0, 2), scoreOf(1, 5)]",
        ["failed: boom", "", None, "images/8.png is missing", None, None, 0.9],
    ),
    "a trace has its rows in the order of the columns": (
        "[traceOf(1).w, traceOf(1).saved, traceOf(11).run]", [[10, 11], [18, 19], [116, 117]],
    ),
    "a path is broken where there is no value": (
        "path([1, null, 2, 3], (i) => 10 * i, (v) => v)", "M0.0 1.0M20.0 2.0L30.0 3.0",
    ),
    "ticks are round": ("[ticks(0, 1, 5), ticks(-3, 12, 4)]", [[0, 0.2, 0.4, 0.6, 0.8, 1], [0, 5, 10]]),
    "only yes keeps what is right": (
        "(() => { scoring.metric = 0; scoring.keep = 'yes'; return candidates(); })()", [0, 3, 5, 6, 7, 10, 11],
    ),
    "a span keeps what lies inside, ends too": (
        "(() => { scoring.metric = 1; scoring.least = 0.5; scoring.most = 0.8; return candidates(); })()", [0, 7, 8, 9],
    ),
    "the list is ordered by score, empty ones last": (
        "(() => { scoring.metric = 1; scoring.order = 'highest'; return candidates().slice(0, 3); })()", [10, 5, 9],
    ),
    "a missing score comes last in either order": (
        "['highest', 'lowest'].map((order) => { scoring.order = order; return [null, 1, 3, 2].sort(byScore); })",
        [[3, 2, 1, None], [1, 2, 3, None]],
    ),
    "a grid cell is the setting of its column and the prompt of its row": (
        "(() => { settle(); return [0, 1].map((row) => ['base', 0, 1].map((column) => cellOf(row, column))); })()",
        [[0, 4, 8], [2, 6, 10]],
    ),
    "a place that no setting has is empty": ("settingAt({ k: 0, setting: 1 })", -1),
    "what nothing beats in both is on the front": (
        "undominated([[1, 5], [2, 4], [2, 3], [3, 9], [1, 5]].map(([x, y], setting) => ({ setting, x: [x], y: [y] })),"
        " { better: 'lower' }, { better: 'higher' }).map((point) => point.setting)",
        [0, 3, 4],
    ),
}  # fmt: skip


def source() -> str:
    """The scripts in one function of their own for each expression, with the data and no element on the page."""
    folder = files("cfglab.report") / "templates" / "script"
    scripts = "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    page = f"{{ getElementById: (id) => id === 'data' ? {{ textContent: {json.dumps(json.dumps(DATA))} }} : null }}"
    calls = [f"((document) => {{ {scripts}\nreturn ({code}); }})({page})" for code, _ in CASES.values()]
    return f"JSON.stringify([{', '.join(calls)}])"


def in_node(tmp_path: Path) -> str:
    file = tmp_path / "scripts.js"
    file.write_text(f"process.stdout.write({source()})", encoding="utf-8")
    node = shutil.which("node") or ""
    return subprocess.run([node, file], check=True, capture_output=True, encoding="utf-8", timeout=60).stdout


def in_browser(_: Path) -> str:
    with chromium() as browser:
        return str(browser.new_page().evaluate(source()))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run: Callable[[Path], str] = in_node if shutil.which("node") else in_browser
    return dict(zip(CASES, json.loads(run(tmp_path_factory.mktemp("scripts"))), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_function_of_the_scripts(case: str, results: dict[str, Any]) -> None:
    assert results[case] == CASES[case][1]
