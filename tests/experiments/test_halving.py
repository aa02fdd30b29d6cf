"""Successive halving on runs whose images are numbers: who survives, what it costs, resuming, and the table."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cfglab.errors import InputError, MachineError
from cfglab.experiments import Experiment, Result, Store
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.results import ResultRow
from cfglab.experiments.tuning.successive_halving import (
    Rung,
    choose,
    means,
    method,
    reported,
    rows_of,
    rows_per_image,
    survivors,
)
from cfglab.guidance import TRANSFORMS, Guidance
from cfglab.schedules.published.cards import CARDS
from tests.small_run import FACTS

ROOT = Path(__file__).parents[2]
YAML = """
name: four
prompts: [a photograph of a cat, a photograph of a dog, a photograph of a frog, a photograph of a horse]
seeds: 0
steps: 10
baseline: {name: plain, guidance: 2}
groups:
  - {name: plain, guidance: "{w}", axes: {w: [1, 3]}}
  - {name: pag, guidance: "{w} | pag(s=1)", axes: {w: [1, 2, 3, 4]}}
  - {name: apg, guidance: "{w} | apg()", axes: {w: [1, 2, 3]}}
"""
GOOD = {
    "plain": 0.5,
    "plain w=1": 0.2,
    "plain w=3": 0.6,
    "pag w=1": 0.9,
    "pag w=2": 0.7,
    "pag w=3": 0.8,
    "pag w=4": 0.1,
}
GOOD |= {"apg w=1": 0.3, "apg w=2": 0.4, "apg w=3": 0.35}
RUNGS = Rung.read("2x1:2,4x2:1")


def drawn(experiment: Experiment, folder: Path, luck: float = 0.0) -> None:
    """A run whose alignment is the setting's, and in the first seed lucky for `pag w=4`."""
    rows = []
    for position, (setting, cell) in enumerate(experiment.cells(FACTS)):
        seed = experiment.seeds[position % len(experiment.seeds)]
        lucky = luck if setting.name == "pag w=4" and seed == 0 else 0.0
        metrics = {"alignment": GOOD[setting.name] + lucky + 0.001 * seed}
        result = Result(
            cell=cell.id,
            position=position,
            setting=setting.name,
            prompt=cell.prompt,
            seed=seed,
            status="done",
            metrics=metrics,
            rows_run=20.0,
        )
        rows.append(ResultRow(result=result, settled=True))
    with Store.create(folder, experiment) as store:
        store.record(rows)


def test_each_method_ends_with_its_best_setting(tmp_path: Path) -> None:
    told: list[str] = []
    best = choose(Experiment.from_yaml(YAML), tmp_path, RUNGS, run=drawn, tell=told.append)
    assert {group: setting.name for group, setting in best.items()} == {
        "plain": "plain w=3",
        "pag": "pag w=1",
        "apg": "apg w=2",
    }
    assert told == ["rung 1: 10 settings, 2 x 1 images each", "rung 2: 6 settings, 4 x 2 images each"]
    with Store.open(tmp_path / "choose-1") as one, Store.open(tmp_path / "choose-2") as two:
        assert one.experiment.prompts == two.experiment.prompts[:2]
        assert (one.experiment.seeds, two.experiment.seeds) == ((0,), (1, 2))
        kept = {setting.name for setting in two.experiment.settings}
    assert kept == {"plain", "plain w=3", "pag w=1", "pag w=3", "apg w=2", "apg w=3"}


def test_luck_on_few_pictures_is_outlived(tmp_path: Path) -> None:
    best = choose(
        Experiment.from_yaml(YAML), tmp_path, RUNGS, run=lambda e, f: drawn(e, f, luck=1.5), tell=lambda _: None
    )
    assert best["pag"].name == "pag w=1"  # 8 of its 10 images say so, by the mean of all


def test_a_setting_of_which_an_image_failed_is_not_chosen(tmp_path: Path) -> None:
    def broken(settled: bool) -> Callable[[Experiment, Path], None]:
        def draw(part: Experiment, folder: Path) -> None:
            drawn(part, folder)
            with Store.create(folder, part) as store:
                row = next((row for row in store.rows() if row.result.setting == "pag w=1"), None)
                update = {"status": "failed", "metrics": {}, "error": "Traceback\nout of memory"}
                if row:
                    store.record([ResultRow(result=row.result.model_copy(update=update), settled=settled)])

        return draw

    best = choose(Experiment.from_yaml(YAML), tmp_path / "a", RUNGS, run=broken(True), tell=lambda _: None)
    assert best["pag"].name == "pag w=3"
    with pytest.raises(MachineError, match=r"choose-1: the model failed in 1 image \(out of memory\); run it again"):
        choose(Experiment.from_yaml(YAML), tmp_path / "b", RUNGS, run=broken(False), tell=lambda _: None)


def test_lower_can_be_better_and_the_choice_repeats(tmp_path: Path) -> None:
    experiment = Experiment.from_yaml(YAML)
    worst = choose(experiment, tmp_path / "a", RUNGS, better="lower", run=drawn, tell=lambda _: None)
    assert worst["pag"].name == "pag w=4"
    calls: list[Path] = []

    def again(part: Experiment, folder: Path) -> None:
        calls.append(folder)
        with Store.open(folder) as store:
            assert store.experiment.settings == part.settings  # the same rung, already drawn

    assert choose(experiment, tmp_path / "a", RUNGS, better="lower", run=again, tell=lambda _: None) == worst
    assert len(calls) == 2


def test_the_budget_of_rows(tmp_path: Path) -> None:
    experiment = Experiment.from_yaml(YAML)
    with pytest.raises(InputError, match=r"rung 1 needs about 440 rows, and 100 of 100 are left; give fewer"):
        choose(experiment, tmp_path / "a", RUNGS, budget=100, run=drawn, tell=lambda _: None)
    with pytest.raises(InputError, match=r"rung 2 needs about 1,040 rows, and 600 of 1,000 are left"):
        choose(experiment, tmp_path / "b", RUNGS, budget=1000, run=drawn, tell=lambda _: None)
    assert (tmp_path / "b" / "choose-1").exists()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("2", 20),
        ("1", 10),
        ("constant(2).inside(progress=(0, 0.5))", 15),
        ("2 | pag()", 30),
        ("1 | pag()", 20),
        ("2 | skip_layers(layers=mid, start=0, stop=0.5)", 25),
        ("2 | icg()", 20),
        ("2 | cads()", 20),
        ("1 | nag(s=2)", 10),
        ("1 | autoguidance(w=2, model=twin)", 20),
        ("2 | cfg_zero_star()", 18),
    ],
)
def test_rows_of_a_picture(text: str, rows: int) -> None:
    assert rows_per_image(Guidance(text), 10) == rows


def test_rows_of_a_picture_are_counted_at_the_noise_levels_of_the_run() -> None:
    """The levels of Stable Diffusion's scheduler with `leading` timesteps, ten steps: eight lie inside."""
    own = [8.391, 5.134, 3.348, 2.293, 1.624, 1.168, 0.836, 0.574, 0.346, 0.041, 0.0]
    interval = Guidance("constant(6).inside(sigma=(0.28, 5.42))")
    assert rows_per_image(interval, 10, own) == 18


def test_the_report_is_of_other_pictures_against_the_best_plain_guidance(tmp_path: Path) -> None:
    experiment = Experiment.from_yaml(YAML)
    best = choose(experiment, tmp_path, RUNGS, run=drawn, tell=lambda _: None)
    last = reported(experiment, best, ["a photograph of a car"], [1000, 1001])
    assert [setting.name for setting in last.settings] == ["plain w=3", "pag w=1", "apg w=2", "plain", "plain w=1"]
    assert [setting.group for setting in last.settings] == ["baseline", "pag", "apg", "plain", "plain"]
    assert last.baseline.name == "plain w=3"
    assert (last.prompts, last.seeds, last.name) == (("a photograph of a car",), (1000, 1001), "four-report")
    assert rows_of(last) == 2 * (20 + 20 + 20 + 20 + 10)
    assert {method(setting) for setting in experiment.settings} == {"plain", "pag", "apg"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("32x1", "rung '32x1': it is prompts x seeds : how many a group go on"),
        ("0x1:1", "rung '0x1:1': it is"),
        ("32x1:2", "the last one keeps one setting a group; write :1 at its end."),
    ],
)
def test_rungs_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        Rung.read(text)
    assert said in str(error.value)


def test_what_cannot_be_chosen_is_said(tmp_path: Path) -> None:
    experiment = Experiment.from_yaml(YAML)
    with pytest.raises(InputError, match="rung 1 asks for 5 prompts, and four has 4"):
        choose(experiment, tmp_path / "a", Rung.read("5x1:1"), run=drawn, tell=lambda _: None)
    with pytest.raises(InputError, match="no image has 'beauty': they have alignment; choose by one of those"):
        choose(experiment, tmp_path / "b", RUNGS, by="beauty", run=drawn, tell=lambda _: None)
    assert survivors(experiment.settings, {}, 1, "higher") == []
    with pytest.raises(
        InputError, match="no setting has 'alignment' of all its images: they failed or were not scored"
    ):
        means([], "alignment")


def test_a_tie_at_the_cut_goes_on_whole() -> None:
    settings = [Setting(name=name, group="one", title=name, guidance=Guidance(1)) for name in "abcde"]
    scores = {"a": 0.5, "b": 0.7, "c": 0.6, "d": 0.6, "e": 0.6}
    assert [one.name for one in survivors(settings, scores, 2, "higher")] == ["b", "c", "d", "e"]
    assert [one.name for one in survivors(settings, scores, 2, "lower")] == ["a", "c", "d", "e"]
    assert [one.name for one in survivors(settings[2:], scores, 1, "higher")] == ["c"]


# -- the presets and the script --------------------------------------------------------------------------------------


def test_the_comparison_has_every_method() -> None:
    experiment = Experiment.preset("methods")
    known = {*TRANSFORMS, *CARDS}
    written = " ".join(f"{setting.group} {setting.guidance}" for setting in experiment.settings)
    missing = {name for name in known - {"constant"} if not re.search(rf"\b{name}\b", written)}
    assert missing == {one.name for one in experiment.left_out}
    sizes: dict[str, int] = {}
    for setting in experiment.settings:
        sizes[method(setting)] = sizes.get(method(setting), 0) + 1
    assert all(2 <= size <= 7 for size in sizes.values())
    assert sizes["plain"] == 7


def test_the_dispute_is_at_equal_maximum_dose_and_rows() -> None:
    experiment = Experiment.preset("dispute")
    groups: dict[str, list[Guidance]] = {}
    for setting in experiment.settings:
        groups.setdefault(setting.group, []).append(setting.guidance)
    levels = [14.6 * (0.03 / 14.6) ** (i / 19) for i in range(20)]
    for name in ("early, dose", "increasing, dose", "increasing line, dose", "middle, dose"):
        for guidance in groups[name]:
            assert guidance.schedule.dose(20, levels) == pytest.approx(4)
    for name in ("early, rows", "increasing, rows", "middle, rows"):
        assert {rows_per_image(guidance, 20) for guidance in groups[name]} == {30}
    for name in ("early, maximum", "middle, maximum"):
        assert {max(guidance.schedule.values(20, levels)) for guidance in groups[name]} == {7}
    for guidance in groups["increasing, maximum"]:  # reached one step after the last
        assert 6.6 < max(guidance.schedule.values(20, levels)) < 7


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("methods_benchmark", ROOT / "benchmarks" / "methods.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_chooses_reports_and_writes_its_table(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(experiment: Experiment, folder: Path, *_: Any, **__: Any) -> Any:
        for setting in experiment.settings:
            GOOD.setdefault(setting.name, 0.2 + 0.01 * len(setting.name))
        if not Path(folder).exists():
            drawn(experiment, Path(folder))
        return script.Run(Path(folder))

    monkeypatch.setattr(script, "run", run)
    words = [
        "--out",
        str(tmp_path),
        "--methods",
        "pag",
        "apg",
        "--rungs",
        "4x1:2,8x1:1",
        "--prompts",
        "8",
        "--set",
        "steps=20",
    ]
    for _ in range(2):  # the second time nothing is left to draw
        assert script.main([*words, "--seeds", "1000..1001"]) == 0
    said = capsys.readouterr().out
    assert "report: 3 settings, 8 x 2 images each" in said
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.startswith("Baseline: plain guidance at its best, `4`. 8 prompts x 2 seeds, 20 steps, euler.")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines] == ["| method", "| plain, the baseline", "| apg", "| pag"]
    assert "<code>4 &#124; apg(norm_threshold=5)</code>" in text
    with Store.open(tmp_path / "report") as store:
        assert not set(store.experiment.prompts) & set(Experiment.preset("methods").prompts)
    assert script.main([*words, "--seeds", "1..2"]) == 2
    assert "the rungs choose with seeds 0 to 1; report with others" in capsys.readouterr().err
    assert script.main(["--out", str(tmp_path), "--methods", "pagg"]) == 2
    assert "pagg: no group of methods; it has plain, cosine" in capsys.readouterr().err
