"""The report in a real browser: what is clicked, sorted, filtered and drawn, and that nothing foreign runs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.store import Result, Store
from cfglab.experiments.storage.traces import CellTrace, stored_traces
from cfglab.metrics import Estimate
from cfglab.report import report
from cfglab.report.page import paged_data as pages
from tests.report.browser import DESK, PHONE, Seen, chromium, until
from tests.report.runs import dose_of, experiment, make

EVIL = """<script>document.title="pwned"</script><img src=x onerror=alert(1)>"'{{7*7}}</script>javascript:alert(1)"""
THREE = """
name: three
prompts: [a cat, a dog]
seeds: 0..1
steps: 50
baseline: {name: constant, title: constant 3, guidance: 3}
groups:
  - {name: cosine, guidance: "cosine(max={w}, min={m}, k={k})", axes: {w: [3, 7.5], m: [0, 1], k: [0.3, 1, 3]}}
  - {name: linear, guidance: "linear(max={w}, min={m})", axes: {w: [3, 7.5], m: [0, 1]}}
"""
Open = Callable[..., Seen]


def finished(folder: Path, of: Experiment, **options: Any) -> Path:
    """A run with set metrics; FID and KID fall and rise with the dose."""
    make(folder, of, **options)
    with Store.create(folder, of) as store:
        sets = {}
        for setting in of.settings:
            kid = 0.004 + 0.001 * (dose_of(setting) - 3) ** 2
            sets[setting.name] = {"kid": Estimate(value=kid, low=kid - 0.001, high=kid + 0.001, n=16)}
        store.record_set_metrics(sets | {"real": {"kid": Estimate(value=0.001, n=16)}})
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def see(browser: Any) -> Iterator[Open]:
    """`see(path, size=, theme=)`: a page, which must ask nothing of the network and complain of nothing."""
    seen: list[Seen] = []

    def look(path: Path, **options: Any) -> Seen:
        seen.append(Seen(browser, path, **options))
        return seen[-1]

    yield look
    for one in seen:
        one.close()
        assert one.complaints == []
        assert all(url.startswith(("file:", "data:")) for url in one.asked)


@pytest.fixture(scope="module")
def k_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = finished(tmp_path_factory.mktemp("runs") / "k", experiment(seeds="0..7"), fail=(10,))
    return report(folder)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(finished(tmp_path_factory.mktemp("runs") / "three", Experiment.from_yaml(THREE)))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run as a large one, in pages of 32 images and 16 traces."""
    folder = finished(tmp_path_factory.mktemp("runs") / "large", Experiment.from_yaml(THREE), fail=(9,))
    with pytest.MonkeyPatch.context() as patch:
        for module in (pages, __import__("cfglab.report.page.render", fromlist=["html"])):
            patch.setattr(module, "PICTURES", 32)
            patch.setattr(module, "TRACES", 16)
        return report(folder, most=10)


def results(path: Path) -> dict[int, Result]:
    with Store.open(path.parent) as store:
        return {result.position: result for result in store.results()}


@pytest.mark.parametrize(("size", "theme"), [(DESK, "light"), (PHONE, "dark")])
def test_one_file_asks_for_nothing_and_fits_the_window(see: Open, k_run: Path, size: Any, theme: str) -> None:
    seen = see(k_run, size=size, theme=theme)
    assert [url for url in seen.asked if not url.startswith("data:")] == [k_run.as_uri()]
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    dark = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == {"light": "rgb(251, 250, 247)", "dark": "rgb(19, 20, 22)"}[theme]
    seen.page.click("#theme")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def test_groups_down_and_k_across_with_their_curves_above(see: Open, k_run: Path) -> None:
    seen = see(k_run)
    assert seen.heads() == ["baseline", "0.3", "1", "3"]
    assert seen.tiles() == [[0, 8, 16, 24], [0, 32, 40, 48]]  # settings × 8 seeds; the first seed is shown
    curves = "(it) => [...it.children].map((path) => path.getAttribute('d'))"
    paths = seen.page.evaluate(f"[...document.querySelectorAll('.pivot thead .spark')].map({curves})")
    data = seen.page.evaluate("data.settings.map((it) => it.path)")
    assert paths == [[data[0]], *([data[0], data[k], data[k + 3]] for k in (1, 2, 3))]
    seen.page.click('[data-step="1"]')
    assert seen.tiles() == [[1, 9, 17, 25], [1, 33, 41, 49]]


def test_any_axes_down_and_across(see: Open, three: Path) -> None:
    seen = see(three)
    page, of = seen.page, Experiment.from_yaml(THREE)
    assert [page.input_value(f"#{name}") for name in ("rows", "columns")] == ["w", "k"]  # linear has no k
    page.select_option("#rows", "m")
    page.select_option("#columns", "w")
    page.locator("#rest label", has_text="k").locator("select").select_option("1")
    page.locator("#rest label", has_text="group").locator("select").select_option("0")
    for row, m in zip(seen.tiles(), (0, 1), strict=True):
        for position, w in zip(row[1:], (3, 7.5), strict=True):
            setting = of.settings[(position or 0) // 4]
            assert setting.name == f"cosine w={w:g}, m={m}, k=1"
    page.locator("#rest label", has_text="group").locator("select").select_option("1")
    assert [[of.settings[(it or 0) // 4].name for it in row[1:]] for row in seen.tiles()] == [
        [f"linear w={w:g}, m={m}" for w in (3, 7.5)] for m in (0, 1)
    ]
    page.click("#swap")
    assert seen.heads() == ["baseline", "0", "1"]
    page.select_option("#columns", "prompt")
    page.select_option("#rows", "seed")
    assert seen.heads() == ["a cat", "a dog"]
    page.locator("#rest select").select_option("4")  # now the one setting is chosen
    assert seen.tiles() == [[20, 22], [21, 23]]


def test_many_columns_are_paged(see: Open, three: Path) -> None:
    seen = see(three)
    seen.page.select_option("#columns", "setting")
    assert len(seen.heads()) == 1 + 12
    assert "setting 1 to 12 of 16" in seen.page.locator("#pager-columns").inner_text()
    seen.page.get_by_label("later columns").click()
    assert len(seen.heads()) == 1 + 4
    assert seen.page.get_by_label("later columns").is_disabled()


def test_columns_are_ordered_by_their_mean(see: Open, k_run: Path) -> None:
    seen = see(k_run)
    seen.page.select_option("#metric", label="Contrast")
    seen.page.select_option("#order", "lowest")
    found = results(k_run)

    def mean(settings: tuple[int, int]) -> float:
        return float(
            np.mean(
                [
                    np.mean([found[s * 8 + q].metrics["contrast"] for q in range(8) if found[s * 8 + q].metrics])
                    for s in settings
                ]
            )
        )

    means = {"0.3": mean((1, 4)), "1": mean((2, 5)), "3": mean((3, 6))}
    assert seen.heads() == ["baseline", *sorted(means, key=means.__getitem__)]


def test_pictures_are_listed_by_score_and_filtered(see: Open, k_run: Path) -> None:
    seen, found = see(k_run), results(k_run)
    scores = {place: float(f"{it.metrics['saturation']:.4g}") for place, it in found.items() if it.metrics}
    seen.page.click('[data-view="list"]')
    seen.page.select_option("#metric", label="Saturation")
    seen.page.select_option("#order", "highest")
    best = sorted(scores, key=lambda place: -scores[place])
    assert seen.tiles() == [best[:48]]
    seen.page.get_by_label("later images").click()
    assert seen.tiles() == [best[48:]]
    low, high = (round(float(np.quantile(list(scores.values()), part)), 3) for part in (0.3, 0.5))
    seen.page.fill("#least", str(low))
    seen.page.fill("#most", str(high))
    assert seen.tiles() == [[place for place in best if low <= scores[place] <= high]]
    seen.page.select_option("#metric", label="Alignment")
    seen.page.select_option("#order", "designed")
    seen.page.select_option("#keep", "no")
    assert seen.tiles() == [[place for place in sorted(scores) if found[place].metrics["alignment"] == 0][:48]]
    seen.page.click('[data-view="grid"]')
    faded = seen.page.evaluate("[...document.querySelectorAll('.tile.out')].map((it) => +it.dataset.position)")
    shown = [place for row in seen.tiles() for place in row if place is not None]
    assert faded == [place for place in shown if found[place].metrics["alignment"] == 1]


def test_two_clicks_flicker(see: Open, k_run: Path) -> None:
    seen = see(k_run)
    page = seen.page
    seen.pick(8, 48)
    assert page.locator("#flicker").is_visible()
    sources = page.evaluate("[...document.querySelectorAll('#flicker .frame img')].map((it) => it.src)")
    assert sources == page.evaluate("[data.src[8], data.src[48]]")

    def visible() -> list[bool]:
        return [page.locator("#flicker .frame .picture").nth(index).is_visible() for index in (0, 1)]

    assert visible() == [True, False]
    assert page.locator("#flicker-play").inner_text() == "play"  # less motion was asked for, so nothing moves yet
    page.keyboard.press("ArrowRight")
    assert visible() == [False, True]
    assert "inverted, k = 3" in page.locator("#flicker-name").inner_text()
    page.click("#flicker-play")
    page.wait_for_selector('#flicker[data-shown="A"]')
    page.wait_for_selector('#flicker[data-shown="B"]')
    page.click('button[data-mode="side"]')
    assert visible() == [True, True]
    assert page.locator("#flicker-play").inner_text() == "play"
    page.keyboard.press("Escape")
    assert page.locator("#flicker").is_hidden()
    assert page.locator("#tray").is_hidden()


def test_where_motion_is_welcome_it_starts_by_itself(browser: Any, k_run: Path) -> None:
    seen = Seen(browser, k_run)
    seen.page.emulate_media(reduced_motion="no-preference")
    seen.pick(8, 48)
    seen.page.wait_for_selector('#flicker[data-shown="B"]')
    assert float(seen.page.locator("#flicker-speed").get_attribute("max")) <= 3  # changes a second
    seen.close()


def test_the_same_picture_twice_opens_large_with_its_trace(see: Open, k_run: Path) -> None:
    seen = see(k_run)
    page = seen.page
    seen.pick(16, 16)
    assert page.locator("#box-title").inner_text() == "k = 1"
    titles = page.locator("#box-traces figcaption").all_text_contents()
    assert titles == ["scale w", "‖cond − uncond‖", "cosine of cond and uncond", "rows saved: 1.2 of 100"]
    assert page.locator("#box-traces svg path").count() == 2 * 4  # its own and the baseline's
    with Store.open(k_run.parent) as store:
        kept = CellTrace.decode(stored_traces(store)[results(k_run)[16].cell])
    told = page.evaluate("traceOf(16)")
    for name, column in {
        "w": "w",
        "difference": "difference",
        "cosine": "cosine",
        "run": "rows_run",
        "saved": "rows_saved",
    }.items():
        assert told[name] == pytest.approx(kept.column(column))
    assert "cfglab reproduce images/" in page.locator("#box-command").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#box-title").inner_text() == "k = 3"
    page.click("#box-flicker")
    assert page.evaluate("pair") == [0, 24]


def test_a_failed_picture_says_why(see: Open, k_run: Path) -> None:
    seen = see(k_run)
    seen.page.select_option("#seed", "2")
    seen.pick(10, 10)
    assert seen.page.locator("#box-fault").inner_text() == "failed: RuntimeError: out of memory"
    assert "No trace" in seen.page.locator("#box-traces").inner_text()


def test_the_frontier_is_what_no_other_beats_in_both(see: Open, k_run: Path) -> None:
    seen = see(k_run)
    page = seen.page
    assert [page.input_value(f"#frontier-{name}") for name in "xy"] == ["7", "0"]  # KID across, alignment up
    assert page.locator(".mark").count() == 7
    spans = page.evaluate(
        "data.settings.flatMap((it) => [it.numbers[0], it.numbers[7]]).filter((it) => it[1] !== null)"
    )
    assert page.locator(".mark line").count() == len(spans) > 7
    assert page.locator(".scatter .floor").count() == 1
    numbers = page.evaluate("data.settings.map((it) => [it.title, it.numbers[0][0], it.numbers[7][0]])")
    best = [
        title
        for title, y, x in sorted(numbers, key=lambda it: it[2])
        if not any(b >= y and a <= x and (b > y or a < x) for _, b, a in numbers)
    ]
    assert page.locator("#frontier-best").inner_text() == f"Beaten by no other in both: {'; '.join(best)}."
    page.select_option("#frontier-x", label="Saturation")
    assert "no better direction" in page.locator("#frontier-best").inner_text()
    page.locator(".mark").nth(2).focus()
    assert page.locator("#frontier-say").inner_text().startswith("k = 3: Alignment")
    page.keyboard.press("Enter")
    assert page.locator("#box-title").inner_text() == "k = 3"


def test_a_large_run_loads_what_is_looked_at(see: Open, large: Path) -> None:
    seen, found = see(large), results(large)
    page = seen.page
    page.wait_for_selector(".tile img[src]")

    def loaded(kind: str) -> set[str]:
        return {url.rsplit("/", 1)[1] for url in seen.asked if f"/report/{kind}-" in url}

    assert loaded("pictures") <= {"pictures-0.js", "pictures-1.js", "pictures-2.js"}
    assert loaded("traces") == set()
    before = loaded("pictures")
    page.click('[data-view="list"]')
    page.select_option("#metric", label="Contrast")
    page.select_option("#order", "highest")
    page.wait_for_selector(".listed .tile img[src]")
    scores = {place: it.metrics["contrast"] for place, it in found.items() if it.metrics}
    best = sorted(scores, key=lambda place: (-np.float32(scores[place]), place))
    assert seen.tiles() == [best[:48]]
    assert before <= loaded("pictures") == {"pictures-0.js", "pictures-1.js", "pictures-2.js"}
    seen.pick(best[0], best[0])
    page.wait_for_selector("#box-traces figure:nth-child(4)")
    assert loaded("traces") <= {f"traces-{place // 16}.js" for place in (best[0], best[0] % 4)}
    with Store.open(large.parent) as store:
        kept = CellTrace.decode(stored_traces(store)[found[best[0]].cell])
    assert page.evaluate(f"traceOf({best[0]})")["difference"] == pytest.approx(kept.column("difference"))
    assert page.locator("#box-picture").get_attribute("src") == found[best[0]].image
    assert page.evaluate("document.getElementById('box-picture').naturalWidth") == 64
    page.keyboard.press("Escape")
    page.select_option("#prompt", "0")
    page.click('[data-view="grid"]')
    assert page.evaluate("data.bad") == {"9": "RuntimeError: out of memory"}


@pytest.mark.parametrize("most", [1000, 1], ids=["one file", "pages"])
def test_no_script_of_a_prompt_runs(see: Open, tmp_path: Path, most: int) -> None:
    document = {
        "name": f"n {EVIL}",
        "title": f"title {EVIL}",
        "question": EVIL,
        "prompts": [EVIL, f"a cat {EVIL}"],
        "negative": EVIL,
        "seeds": "0..1",
        "steps": 50,
        "baseline": {"name": f"base {EVIL}", "title": f"base {EVIL}", "guidance": "7.5"},
        "groups": [{"name": f"group {EVIL}", "guidance": "{x}", "title": f"x {EVIL}", "axes": {"x": [5, 6]}}],
        "settings": [{"name": f"s {EVIL}", "group": f"other {EVIL}", "title": f"t {EVIL}", "guidance": "4"}],
    }
    folder = finished(
        tmp_path / "run", Experiment.from_yaml(yaml.safe_dump(document)), fail=(6,), message=f"boom\nlast {EVIL}"
    )
    seen = see(report(folder, most=most))
    page = seen.page
    page.wait_for_selector(".tile img[src]")
    page.select_option("#rows", "prompt")
    page.select_option("#columns", "setting")
    page.wait_for_selector(".tile img[src]")
    page.click('[data-view="list"]')
    page.wait_for_selector(".listed .tile img[src]")
    first, second = [place for row in seen.tiles() for place in row if place is not None][:2]
    seen.pick(first, second)
    page.click('button[data-mode="side"]')
    page.keyboard.press("Escape")
    page.click('[data-view="grid"]')
    page.wait_for_selector(".pivot .tile.failed, .pivot .tile img[src]")
    seen.pick(4, 4)
    page.wait_for_selector("#box[open]")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert page.title() == f"title {EVIL} · cfglab"
    assert page.locator("img[onerror], img[src=x], a[href^=javascript]").count() == 0
    assert page.locator("h1").inner_text() == f"title {EVIL}"
    assert page.locator("#box-where").inner_text().startswith(EVIL)


def test_a_card_names_the_missing_parts_only_and_a_setting_stays_in_one_line(see: Open, tmp_path: Path) -> None:
    scores = {"alignment": 0.0, "alignment_a": 1.0, "alignment_relation": 0.0, "alignment_unseen": 0.0}
    drawn = experiment(seeds=0)
    page = see(report(make(tmp_path / "run", drawn, score=lambda *_: scores, traced=False))).page
    assert {it.split("saturation")[0].strip() for it in page.locator(".own .no").all_text_contents()} == {"✗ relation"}
    rows = page.locator(".sortable").first.locator("tbody tr")
    tall = rows.evaluate_all("them => Math.max(...them.map((it) => it.getBoundingClientRect().height))")
    assert tall < 48


def test_what_is_hidden_cannot_be_seen(see: Open, k_run: Path, tmp_path: Path) -> None:
    """Also where a style gives the part a display of its own."""
    page = see(k_run).page
    page.evaluate("openLarge(10)")  # an image that failed
    assert page.locator("#box").is_visible()
    assert page.locator("#box-command").is_hidden()
    page = see(report(finished(tmp_path, experiment(prompts=["a cat", "a dog"], seeds="0")))).page
    assert page.locator("#picker").is_visible()
    assert [part.is_visible() for part in page.locator(".seed").all()] == [False] * page.locator(".seed").count()


def test_a_place_that_no_setting_has_stays_empty(see: Open, three: Path) -> None:
    """The linear group has no k: with rows over it and columns over k, nothing of the other group stands in its row."""
    seen = see(three)
    seen.page.select_option("#rows", "group")
    seen.page.select_option("#columns", "k")
    data = seen.page.evaluate("data.settings.map((it) => it.group)")
    per_setting = 4
    for row, group in zip(seen.tiles()[-2:], ("cosine", "linear"), strict=True):
        assert {data[it // per_setting] for it in row[1:] if it is not None} <= {group}
    assert seen.tiles()[-1][1:] == [None] * 3


def test_the_keyboard_stays_where_it_was(see: Open, three: Path, k_run: Path) -> None:
    page = see(three).page
    page.select_option("#rows", "w")
    page.select_option("#columns", "k")
    page.locator("#rest select").first.focus()
    page.evaluate("document.activeElement.dispatchEvent(new Event('change'))")
    assert page.evaluate("document.activeElement.closest('#rest') !== null")
    page = see(k_run).page
    page.evaluate("openFlicker(0, 1)")
    page.focus('#flicker [data-mode="side"]')
    page.keyboard.press("Space")
    assert page.locator("#flicker").get_attribute("data-mode") == "side"
    page.keyboard.press("Escape")
    page.locator("#frontier .mark").first.focus()
    page.keyboard.press("Space")
    assert page.locator("#box").is_visible()


def test_a_large_page_without_its_folder_says_so(browser: Any, large: Path, tmp_path: Path) -> None:
    alone = tmp_path / "report.html"
    alone.write_bytes(large.read_bytes())
    seen = Seen(browser, alone)
    until(seen.page, "lost() !== ''")
    seen.page.evaluate("explore()")
    until(seen.page, "document.querySelector('.tile')?.dataset.fault.includes('is not beside this page')")
    seen.close()


def test_the_latest_look_wins(see: Open, large: Path) -> None:
    """Cells that come late are of a look that is over."""
    page = see(large).page
    page.wait_for_selector(".tile img[src]")
    page.evaluate(
        """() => {
            const now = withCells, late = [];
            globalThis.late = late;
            withCells = (positions, then) => { late.push(then); };
            showList();
            showGrid();
            withCells = now;
            late.reverse().forEach((then) => then());
        }"""
    )
    page.wait_for_selector("#pictures table.pivot")
    assert page.locator("#pictures .listed").count() == 0


def test_a_click_on_the_image_of_any_card_opens_that_image(see: Open, k_run: Path) -> None:
    """Where a person clicks: in the middle of the image, which lies over its button."""
    seen, found = see(k_run), results(k_run)
    page = seen.page
    page.select_option("#seed", "3")
    cards = page.locator(".card")
    settings = [int(setting or -1) for setting in cards.evaluate_all("them => them.map((it) => it.dataset.setting)")]
    assert sorted(set(settings)) == list(range(7))
    for index, setting in enumerate(settings):
        cards.nth(index).locator(".picture img").click()
        assert page.locator("#box").is_visible()
        assert page.evaluate("opened") == setting * 8 + 3
        assert page.locator("#box-picture").get_attribute("src") == page.evaluate(f"data.src[{setting * 8 + 3}]")
        assert found[setting * 8 + 3].image in page.locator("#box-command").inner_text()
        page.keyboard.press("Escape")
        assert page.locator("#box").is_hidden()


def test_a_card_opens_by_the_keyboard_and_a_failed_one_says_why(see: Open, k_run: Path) -> None:
    page = see(k_run).page
    page.select_option("#seed", "2")
    failed = page.locator('.card[data-setting="1"] .picture').first
    assert failed.get_attribute("data-fault") == "failed: RuntimeError: out of memory"
    failed.focus()
    page.keyboard.press("Enter")
    assert page.locator("#box-fault").inner_text() == "failed: RuntimeError: out of memory"
    assert page.locator("#box-command").is_hidden()


def test_the_pointer_on_a_setting_lights_its_curve_alone(see: Open, k_run: Path) -> None:
    page = see(k_run).page
    group = page.locator(".group").first
    lit = "them => them.map((it) => it.dataset.setting)"
    group.locator('.chip[data-setting="2"]').hover()
    assert group.locator(".curve.lit").evaluate_all(lit) == ["2"]
    until(page, "getComputedStyle(document.querySelector('.group .curve[data-setting=\"1\"]')).opacity < 0.2")
    page.locator("h1").hover()
    assert group.locator(".curve.lit").count() == 0


def test_figures_follow_the_theme_and_keep_inside_the_page(see: Open, k_run: Path) -> None:
    page = see(k_run, size=PHONE).page
    stroke = "it => getComputedStyle(it.querySelector('.curve path')).stroke"
    figure = page.locator("figure svg").first
    light = figure.evaluate(stroke)
    page.click("#theme")
    assert figure.evaluate(stroke) != light
    spill = """them => them.flatMap((svg) => {
        const box = svg.getBoundingClientRect();
        return [...svg.querySelectorAll("text")].map((text) => text.getBoundingClientRect())
            .filter((it) => it.left < box.left - 1 || it.right > box.right + 1 || it.bottom > box.bottom + 1).length;
    })"""
    assert page.locator("figure svg").evaluate_all(spill) == [0] * page.locator("figure svg").count()
    assert page.locator("figure svg").count() == 5
