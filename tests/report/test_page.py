"""The page: self-contained, escaped, complete, and made without torch."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from cfglab.errors import InputError
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.store import Store
from cfglab.metrics import Estimate
from cfglab.report import report
from cfglab.report.page.paged_data import Traces
from cfglab.report.page.render import render
from cfglab.report.summary.tables import build
from tests.report.runs import experiment, make

EVIL = """<script>document.title="pwned"</script><img src=x onerror=alert(1)>"'{{7*7}}</script>"""
VOID = {"meta", "img", "br", "input", "link"}


class Page(HTMLParser):
    """The elements of a page with their text; `wrong` lists tags that close nothing."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.wrong: list[str] = []
        self.data: dict = {}
        self._open: list[str] = []
        self.feed(text)
        self.wrong += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self._open[-1:] == [tag]:
            self._open.pop()
        elif tag not in VOID:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][1].get("id") == "data" and data.strip():
            self.data = self.data or json.loads(data)
        elif self._open[-1:] not in (["script"], ["style"]) and data.strip():
            self.texts.append(" ".join(data.split()))

    def all(self, tag: str, kind: str | None = None) -> list[dict[str, str | None]]:
        return [
            it for name, it in self.elements if name == tag and (not kind or kind in str(it.get("class", "")).split())
        ]


def page(folder: Path) -> Page:
    return Page(report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("runs") / "k", experiment(seeds="0..7"), fail=(10,))


@pytest.fixture(scope="module")
def seen(run: Path) -> Page:
    return page(run)


def test_the_page_is_well_formed(seen: Page) -> None:
    assert seen.wrong == []
    ids = [it["id"] for _, it in seen.elements if it.get("id")]
    assert len(ids) == len(set(ids))


def test_nothing_is_asked_of_the_network(run: Path, seen: Page) -> None:
    for tag, attributes in seen.elements:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            address = attributes.get(name)
            beside = address in ("report.csv", "report.json", "results.csv")
            assert address is None or beside or address.startswith(("data:", "#")), (tag, name, address)
        assert tag not in ("link", "iframe", "object")
    text = (run / "report.html").read_text(encoding="utf-8")
    namespaces = r'xmlns(?::xlink)?="http://www\.w3\.org/[^"]*"|"http://www\.w3\.org/2000/svg"'
    assert "http" not in re.sub(namespaces, "", text).replace("http-equiv", "")
    assert "@import" not in text
    assert "url(" not in re.sub(r"url\(#\w+\)", "", text)
    assert any("default-src 'none'" in str(it.get("content")) for it in seen.all("meta"))


def test_every_setting_has_a_picture_titled_as_in_the_experiment(seen: Page) -> None:
    cards = seen.all("article", "card")
    assert cards[0]["data-setting"] == "0"  # the baseline, then the best, then the groups
    assert [card["data-setting"] for card in cards][2:] == [*"123456"]
    for title in ("k = 0.3", "k = 1", "k = 3", "inverted, k = 0.3", "constant, 7.5"):
        assert title in seen.texts
    shown = [it for it in seen.all("img") if it.get("src")]
    assert len(shown) == 8
    assert sum(it["class"] == "curve" for it in seen.all("g", "curve")) == 2 * 4  # three curves and the baseline, twice


def test_the_data_of_every_picture(run: Path, seen: Page) -> None:
    data = seen.data
    with Store.open(run) as store:
        results = store.results()
    assert (data["prompts"], data["seeds"]) == (["a photograph of an astronaut riding a horse"], list(range(8)))
    assert len(data["src"]) == len(data["file"]) == 7 * 8
    for result in results:
        if result.status == "failed":
            continue
        assert data["file"][result.position] == result.image
        assert data["src"][result.position].startswith("data:image/webp;base64,")
        for metric, column in zip(("alignment", "saturation"), (0, 4), strict=True):
            assert data["metrics"][column]["title"].lower() == metric
            assert data["scores"][column][result.position] == pytest.approx(result.metrics[metric], rel=1e-3)
    assert data["settings"][2]["values"][0] == 7.5
    assert data["bad"] == {"10": "RuntimeError: out of memory"}


def test_a_failed_cell_is_shown_with_its_message(seen: Page) -> None:
    assert "Failed" in seen.texts
    assert "RuntimeError: out of memory" in seen.texts
    assert not any("Traceback" in text for text in seen.texts)


def test_the_foot_has_commands_versions_and_the_experiment(run: Path, seen: Page) -> None:
    everything = "\n".join(seen.texts)
    for command in (
        "cfglab run experiment.yaml --out .",
        "cfglab compare . --baseline constant --metric alignment",
        "cfglab report .",
    ):
        assert command in seen.texts
    assert re.search(r"cfglab reproduce images/[0-9a-f]{64}\.png --out copy\.png", everything)
    assert "2.13.0" in seen.texts
    assert "guidance: cosine(max=7.5, min=1, k=0.3)" in everything
    assert Experiment.from_yaml((run / "experiment.yaml").read_text()).name == "k-decay"


def test_the_table_has_doses_intervals_and_corrected_p(run: Path, seen: Page) -> None:
    assert seen.wrong == []  # the page was written
    text = (run / "report.html").read_text(encoding="utf-8")
    table = text[text.index("<h2>Every setting") :]
    assert table.count('<tr class="base">') == 1
    assert re.search(r'data-sort="4\.31(5|49)\d*">4\.32<', table)
    assert "p (Holm)" in table
    assert table.count('class="bar"') == 6


def test_one_picture_says_so_and_gives_no_interval(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", experiment(seeds=4))
    text = report(folder).read_text(encoding="utf-8")
    assert "One image a setting: there are no intervals and no tests." in text
    assert "p (Holm)" not in text
    assert 'class="bar"' not in text
    assert 'class="span"' not in text
    assert "with 95 % intervals" not in text


def test_all_user_text_is_escaped(tmp_path: Path) -> None:
    document = {
        "name": f"n {EVIL}",
        "title": EVIL,
        "question": f"q {EVIL}",
        "prompts": [EVIL, "a cat"],
        "negative": f"negative {EVIL}",
        "seeds": "0..1",
        "steps": 8,
        "baseline": {"name": f"base {EVIL}", "title": f"base {EVIL}", "guidance": "7.5"},
        "settings": [
            {"name": f"s1 {EVIL}", "group": f"group {EVIL}", "title": f"t1 {EVIL}", "guidance": "5"},
            {"name": f"s2 {EVIL}", "group": f"group {EVIL}", "title": f"t2 {EVIL}", "guidance": "6"},
        ],
    }
    folder = make(
        tmp_path / "run", Experiment.from_yaml(yaml.safe_dump(document)), fail=(2,), message=f"boom\nlast {EVIL}"
    )
    (folder / "versions.json").write_text(json.dumps([{f"key {EVIL}": f"value {EVIL}"}]))
    seen = page(folder)
    assert seen.wrong == []
    assert len(seen.all("script")) == 3
    assert not [it for it in seen.all("img") if it.get("src") == "x" or "onerror" in it]
    for words in (
        EVIL,
        f"q {EVIL}",
        f"negative {EVIL}",
        f"t1 {EVIL}",
        f"group {EVIL}",
        f"last {EVIL}",
        f"value {EVIL}",
    ):
        assert words in seen.texts
    assert seen.data["prompts"] == [EVIL, "a cat"]
    assert seen.data["bad"] == {"2": f"last {EVIL}"}


def test_set_metrics_are_shown_with_their_floor(tmp_path: Path) -> None:
    small = experiment(seeds=0)
    folder = make(tmp_path / "run", small)
    assert "Sets of images" not in page(folder).texts
    with Store.create(folder, small) as store:
        store.record_set_metrics(
            {"constant": {"kid": Estimate(value=0.0213, n=16)}, "real": {"kid": Estimate(value=0.0017, n=16)}}
        )
    texts = page(folder).texts
    assert texts[texts.index("Sets of images") :].count("0.0213") == 1
    assert texts.index("Floor") < texts.index("0.0017")


def test_beyond_the_budget_the_first_seeds_are_inside(run: Path) -> None:
    with Store.open(run) as store:
        sources = Page(render(build(store), run, Traces.of(store), budget=20_000)).data["src"]
    inside = [index % 8 for index, source in enumerate(sources) if source and source.startswith("data:")]
    assert set(inside) == {0}
    linked = [source for source in sources if source and not source.startswith("data:")]
    assert len(linked) == 55 - len(inside)
    assert all((run / source).is_file() for source in linked)


def test_pictures_that_are_gone_are_said(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", experiment(seeds=0))
    image = next((folder / "images").iterdir())
    image.unlink()
    assert f"images/{image.name} is missing" in page(folder).texts


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_an_unfinished_run_has_a_report(tmp_path: Path, stop: int) -> None:
    seen = page(make(tmp_path / "run", experiment(seeds="0..1"), stop=stop))
    assert seen.wrong == []
    assert f"{stop} of 14" in seen.texts


@pytest.mark.parametrize("guidance", ["7.5 | prediction_norm()", "cosine(max=7.5, min=1).inside(sigma=(0.3, 5))"])
def test_any_guidance_has_a_report(tmp_path: Path, guidance: str) -> None:
    document = {"name": "x", "prompts": ["a cat"], "baseline": {"guidance": "5"}}
    document["settings"] = [{"name": "only", "group": "others", "guidance": guidance}]
    seen = page(make(tmp_path / "run", Experiment.from_yaml(yaml.safe_dump(document))))
    assert seen.wrong == []
    assert "only" in seen.texts


def test_the_same_run_gives_the_same_page(run: Path, seen: Page) -> None:
    assert seen.data
    first = (run / "report.html").read_bytes()
    assert report(run).read_bytes() == first


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_report_loads_no_torch_and_no_matplotlib(run: Path) -> None:
    code = (
        "import sys, cfglab.report, cfglab.report.summary.tables\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'matplotlib', 'jinja2'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        f"cfglab.report.report({str(run)!r})\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert 'jinja2' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
