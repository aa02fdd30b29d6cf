"""Objects in a notebook: text first, then HTML with well-formed, escaped figures, without libraries."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import cfglab
from cfglab import Constant, Curves, Function, Guidance, Linear, Run, curves, parse
from cfglab.denoising.trace import Trace
from cfglab.errors import InputError
from cfglab.experiments.spec.experiment import Experiment
from tests.notebook.objects import comparison, experiment, objects, trace

NAMES = (
    "schedule",
    "schedule that reads sigma",
    "curves",
    "guidance",
    "trace",
    "comparison",
    "experiment",
    "run",
)
VOID = {"img", "br", "meta", "input"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return objects(tmp_path_factory.mktemp("runs"))


def html(thing: Any) -> str:
    return thing._repr_mimebundle_()["text/html"]


def figures(page: str) -> list[ElementTree.Element]:
    """Every svg element of the page, read by an XML parser."""
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.S)]


class Tags(HTMLParser):
    """The tags that a browser sees, which must close in order, and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


@pytest.mark.parametrize("name", NAMES)
def test_every_object_gives_text_first_then_well_formed_html_with_figures(shown: dict[str, Any], name: str) -> None:
    bundle = shown[name]._repr_mimebundle_()
    assert [*bundle] == ["text/plain", "text/html"]
    assert bundle["text/plain"].strip()
    assert "<" not in bundle["text/plain"] or "<script>" in bundle["text/plain"]  # text is text, HTML is not in it
    page = Tags(bundle["text/html"])
    assert page.open == []
    assert figures(bundle["text/html"])


@pytest.mark.parametrize("name", NAMES)
def test_no_object_brings_a_script_or_an_element_of_a_users_text(shown: dict[str, Any], name: str) -> None:
    page = html(shown[name])
    tags = Tags(page)
    assert "<script" not in page
    assert not tags.names & {"script", "img", "iframe", "object", "link", "foreignobject"}
    assert not [attribute for attribute in tags.attributes if attribute.startswith("on")]
    assert not re.search(r"(?:src|href)=[\"']?(?:javascript|data|file):", page)


@pytest.mark.parametrize("name", ["comparison", "experiment", "run"])
def test_a_users_text_is_shown_as_it_is_written(shown: dict[str, Any], name: str) -> None:
    assert "<script>alert(1)</script>" in "".join(Tags(html(shown[name])).words)


@pytest.mark.parametrize("name", NAMES)
def test_every_object_has_colours_for_light_and_dark_and_follows_the_notebook(shown: dict[str, Any], name: str) -> None:
    page = html(shown[name])
    for rule in ("prefers-color-scheme:dark", "[data-jp-theme-light=false] .cfglab", ".vscode-dark .cfglab"):
        assert rule in page
    used = set(re.findall(r"var\((--\w+)\)", page))
    assert used == {variable for variable in used if page.count(f"{variable}:") >= 4}


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_is_kilobytes(shown: dict[str, Any], name: str) -> None:
    assert sum(map(len, shown[name]._repr_mimebundle_().values())) < 60_000


def test_include_and_exclude_choose_the_types() -> None:
    schedule = Constant(7.5)
    assert [*schedule._repr_mimebundle_(include=["text/plain"])] == ["text/plain"]
    assert [*schedule._repr_mimebundle_(exclude={"text/html"})] == ["text/plain"]


def points(figure: ElementTree.Element) -> list[tuple[float, float]]:
    """The points of the widest curve of a figure, in its own units."""
    paths = [path for path in figure.iter(f"{SVG}path") if "stroke-width: 2;" in path.get("style", "")]
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", paths[0].get("d", ""))]


def test_the_curve_of_a_schedule_is_its_values_over_50_steps() -> None:
    schedule = parse("cosine(max=7.5, min=1, k=0.3)")
    (figure,) = figures(html(schedule))
    drawn, values = points(figure), schedule.values(50)
    assert len(drawn) == 50
    (_, top), (_, bottom) = drawn[0], drawn[-1]
    scale = (bottom - top) / (values[0] - values[-1])
    assert [y for _, y in drawn] == pytest.approx([top + (values[0] - w) * scale for w in values], abs=0.02)


def test_a_list_of_scales_is_shown_over_its_own_steps() -> None:
    assert len(points(figures(html(cfglab.Table([8.0] * 70 + [2.0])))[0])) == 71
    assert "4 steps" in html(cfglab.Table([8, 8, 6, 4]))
    assert "4 steps" in html(curves([7.5, [8, 8, 6, 4]]))


def test_a_schedule_that_reads_sigma_is_shown_over_sigma_too() -> None:
    assert len(figures(html(Constant(7.5).inside(sigma=(0.5, 6))))) == 2
    assert len(figures(html(Constant(7.5).inside(progress=(0.5, 1))))) == 1
    assert len(figures(html(curves([7.5], sigmas=[10, 5, 1])))) == 2


def test_what_cannot_be_drawn_says_why_and_raises_nothing() -> None:
    def broken(step: Any) -> float:
        raise RuntimeError(f"no <b>scale</b> at {step.index}")

    page = html(Function(broken))
    assert "no &lt;b&gt;scale&lt;/b&gt; at 0" in page
    assert figures(page) == []
    assert [*Function(broken)._repr_mimebundle_()] == ["text/plain", "text/html"]
    assert [*Run(Path("there is none"))._repr_mimebundle_()] == ["text/plain"]


def test_a_guidance_shows_formula_paper_and_settings_of_each_method() -> None:
    words = "".join(Tags(html(Guidance("7.5 | rescale(strength=0.5) | pag(s=2)"))).words)
    for text in ("phi g std(c) / std(g) + (1 - phi) g", "arXiv:2305.08891", "strength 0.5", "arXiv:2403.17377", "s 2"):
        assert text in words


def test_a_trace_shows_w_difference_cosine_and_nfe() -> None:
    words = " | ".join(Tags(html(trace())).words)
    assert "w | w over the steps | 7 | 4 | 4 to 7" in words
    assert "‖cond − uncond‖ | ‖cond − uncond‖ over the steps | 6 | 3 | 3 to 6" in words
    assert "cosine | cosine over the steps | 0.28 | 0.82 | 0.28 to 0.82" in words  # 1 - 36/50 and 1 - 9/50
    assert "NFE per image | NFE per image over the steps | 2 | 2 | 2 | 8" in words
    assert "no denoiser call yet" in html(Trace())


def test_the_bars_of_a_comparison_share_one_scale() -> None:
    bars = figures(html(comparison()))
    assert len(bars) == 2
    dots = [float(bar.find(f"{SVG}circle").get("cx")) for bar in bars]
    zero = [
        float(re.search(r"M([\d.]+) 1L", path.get("d")).group(1))
        for path in bars[0].iter(f"{SVG}path")
        if "L" in path.get("d") and re.search(r"M[\d.]+ 1L", path.get("d"))
    ]
    assert dots[0] - zero[0] == pytest.approx(zero[0] - dots[1], abs=0.02)  # +0.25 and -0.25
    assert "var(--c2)" in ElementTree.tostring(bars[0]).decode()  # significant and better
    assert "var(--soft)" in ElementTree.tostring(bars[1]).decode().split("<ns0:circle")[1]


def test_an_experiment_shows_each_configuration_in_its_grid_and_its_cost() -> None:
    page = html(experiment())
    assert len(figures(page)) == 7  # the baseline and 2 × 3 settings
    words = " | ".join(Tags(page).words)
    assert "k ↓ w → | 3 | 7.5" in words
    assert "28 images, 1,120 NFE" in words  # 7 settings × 4 seeds, × 20 steps × 2


def test_a_grid_that_is_too_wide_is_a_list() -> None:
    wide = Experiment.from_yaml(
        "name: wide\nprompts: [a]\nseeds: 0\nbaseline: {name: b, guidance: 3}\n"
        "groups: [{name: g, guidance: '{w}', axes: {w: [" + ", ".join(map(str, range(1, 61))) + "]}}]\n"
    )
    page = html(wide)
    assert "and 20 more rows" in page
    assert len(figures(page)) == 41


def test_a_run_links_its_report_only_once_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.notebook.objects import run

    monkeypatch.chdir(tmp_path)
    stored = run(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert ".report()" in html(stored)
    assert sorted(path for path in tmp_path.rglob("*") if not path.name.endswith(("-shm", "-wal"))) == before
    stored.report()
    link = re.search(r'href="([^"]+)"', html(stored))[1]
    assert link == "./run%20%3Cscript%3Ealert%281%29%3C/report.html"


def test_curves_take_whatever_stands_for_a_schedule_and_refuse_too_many() -> None:
    assert curves(7.5) == Curves((Constant(7.5),))
    assert curves("linear(max=8, min=4)").schedules == (Linear(max=8, min=4),)
    with pytest.raises(InputError, match="25 curves: common axes hold 1 to 24"):
        curves([7.5] * 25)
    with pytest.raises(InputError, match="0 curves"):
        curves([])
    with pytest.raises(InputError, match="0 steps"):
        curves([7.5], steps=0)


def test_objects_draw_themselves_without_plotting_library_or_templates(tmp_path: Path) -> None:
    code = (
        "import sys, json\nfrom pathlib import Path\nfrom tests.notebook.objects import objects\n"
        "for name, thing in objects(Path(sys.argv[1])).items():\n"
        "    assert len(thing._repr_mimebundle_()) >= 2, name\n"
        "print(json.dumps([name for name in ('matplotlib', 'jinja2', 'torch', 'IPython') if name in sys.modules]))\n"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}:{Path(cfglab.__file__).parents[1]}", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
