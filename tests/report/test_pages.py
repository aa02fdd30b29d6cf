"""Pages of a large run, and the numbers beside it."""

import base64
import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex

from cfglab.errors import InputError
from cfglab.experiments.storage.store import Store
from cfglab.experiments.storage.traces import CellTrace, stored_traces
from cfglab.metrics import Estimate
from cfglab.report import report
from cfglab.report.page import paged_data as pages
from cfglab.report.page.render import assets
from cfglab.report.summary.axis import SHADES
from cfglab.report.summary.tables import build
from tests.report.runs import experiment, make


def content(path: Path) -> tuple[str, int, Any]:
    found = re.fullmatch(r'cfglab\("(\w+)",(\d+),(.*)\)\n', path.read_text(encoding="ascii"), re.DOTALL)
    assert found
    return found[1], int(found[2]), json.loads(found[3])


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    of = experiment(prompts=["a cat", "a dog"], seeds="0..3")
    folder = make(tmp_path_factory.mktemp("runs") / "k", of, fail=(10,), stop=50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PICTURES", 16)
        patch.setattr(pages, "TRACES", 20)
        report(folder, most=10)
    return folder


def test_the_pages_hold_every_cell(large: Path) -> None:
    with Store.open(large) as store:
        results, kept = store.results(), stored_traces(store)
        metrics = [metric.name for metric in build(store).metrics]
    there = large / "report"
    assert not list(large.glob("*.part"))
    assert {path.name for path in there.iterdir()} == {
        *(f"scores-{i}.js" for i in range(7)),
        *(f"pictures-{i}.js" for i in range(4)),
        *(f"traces-{i}.js" for i in range(3)),
    }
    files: list[str | None] = []
    for number in range(4):
        kind, same, page = content(there / f"pictures-{number}.js")
        assert (kind, same) == ("pictures", number)
        assert page["bad"] == ({"10": "RuntimeError: out of memory"} if number == 0 else {})
        files += page["file"]
    traces = np.concatenate([floats(content(there / f"traces-{i}.js")[2]) for i in range(3)]).reshape(56, 5, 50)
    scores = [floats(content(there / f"scores-{i}.js")[2]) for i in range(7)]
    for result in results:
        assert files[result.position] == result.image
        if result.cell in kept:
            np.testing.assert_array_equal(traces[result.position], CellTrace.decode(kept[result.cell]).values[2:])
        for name, column in zip(metrics, scores, strict=True):
            assert column[result.position] == pytest.approx(result.metrics.get(name, np.nan), nan_ok=True)
    assert files[50:] == [None] * 6
    assert np.isnan(traces[[10, 55]]).all()


def test_a_large_page_embeds_nothing_and_reads_no_picture(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfglab.report.page.thumbnails.data_uri", lambda _: pytest.fail("an image was read"))
    text = report(large, most=10).read_text(encoding="utf-8")
    assert "data:image" not in text
    assert "script-src 'unsafe-inline' 'self' file:" in text
    assert '"pages": {"folder": "report", "pictures": 2048, "traces": 1024}' in text
    assert re.search(r'<img alt="" src="images/[0-9a-f]{64}\.png">', text)


def test_a_run_that_became_small_leaves_no_pages(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", experiment(seeds="0..1"))
    report(folder, most=1)
    assert (folder / "report").is_dir()
    report(folder)
    assert not (folder / "report").exists()


def test_what_is_no_page_of_a_report_is_not_touched(tmp_path: Path) -> None:
    make(tmp_path, experiment(seeds="0..1"))
    mine = tmp_path / pages.FOLDER / "notes.md"
    mine.parent.mkdir()
    mine.write_text("mine")
    report(tmp_path)
    with pytest.raises(InputError, match="report: holds other files, and the pages of the report go there; move them"):
        report(tmp_path, most=1)
    assert mine.read_text() == "mine"


def test_the_numbers_beside_the_page(tmp_path: Path) -> None:
    of = experiment(seeds="0..7")
    folder = make(tmp_path / "run", of, fail=(10,))
    with Store.create(folder, of) as store:
        store.record_set_metrics({"constant": {"kid": Estimate(value=0.02, low=0.01, high=0.03, n=16)}})
    report(folder)
    with Store.open(folder) as store:
        tables = build(store)
    with (folder / "report.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [line["setting"] for line in lines] == [row.setting.name for row in tables.rows]
    for line, written, row in zip(lines, document["settings"], tables.rows, strict=True):
        assert float(line["dose"]) == written["dose"] == row.dose
        assert (int(line["done"]), int(line["failed"])) == (row.done, row.failed)
        assert float(line["alignment"]) == written["means"]["alignment"]["value"] == row.means["alignment"].value
        assert written["guidance"] == str(row.setting.guidance)
        difference = row.differences.get("alignment")
        assert line["alignment_p_holm"] == ("" if difference is None else str(difference.p_holm))
        assert written["differences"].get("alignment", {}).get("mean") == (difference and difference.difference)
        assert line["kid_high"] == ("0.03" if row.baseline else "")
    assert document["says"]["shows"]
    assert document["main_metric"] == "alignment"
    assert document["experiment"]["seeds"] == list(range(8))


def test_the_colours_are_viridis() -> None:
    viridis, css = colormaps["viridis"], str(assets(["palette.css"]))
    found = re.findall(r"--v(\d+):(#[0-9a-f]{6})", css)
    ends = ((0.0, 0.86), (0.26, 0.98), (0.26, 0.98))  # light, dark by the system, dark by choice
    expected = [
        (str(place), to_hex(viridis(low + (high - low) * place / (SHADES - 1))))
        for low, high in ends
        for place in range(SHADES)
    ]
    assert found == expected
