"""Tuning on runs whose images are numbers: pairing, resuming, what is cut short, what is held out, and the report."""

import json
import sys
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import numpy as np
import pytest

from cfglab.cli import call
from cfglab.errors import InputError, MachineError
from cfglab.experiments import Experiment, Result, Store
from cfglab.experiments.analysis.comparison import ComparisonRow
from cfglab.experiments.analysis.paired import paired
from cfglab.experiments.storage.results import ResultRow
from cfglab.experiments.tuning.objective import WORSE, Objective
from cfglab.experiments.tuning.search import SEARCH, Search
from cfglab.experiments.tuning.verdict import MeasuredPoint, Tuned, TuningVerdict, corrected, evenly_spaced, opponent
from cfglab.guidance import Guidance
from cfglab.integrations.optuna import tune
from cfglab.metrics.estimate import Estimate
from cfglab.report.tuning_markdown import markdown, write
from tests.small_run import FACTS

PROMPTS = [f"a photograph of animal {number}" for number in range(40)]
SHORT = 12
"""Trials of a search of which only its course matters: two more than the ten that Optuna makes at random."""
GAPS = "cosine(max={max:1..6}, min={min:0..2}, k={k:0.1..5:log})"


class Stub:
    """Draws numbers. Best: w falls from 4 to 1. A prompt is as hard as its number, and its images have their luck."""

    def __init__(self) -> None:
        self.folders: list[Path] = []
        self.stop_at = 0
        self.broken = ""

    def __call__(self, experiment: Experiment, folder: Path) -> None:
        if (folder / "results.sqlite").exists():
            return
        self.folders.append(folder)
        if len(self.folders) == self.stop_at:
            raise KeyboardInterrupt
        rows = []
        for position, (setting, cell) in enumerate(experiment.cells(FACTS)):
            levels = [14.6 * 0.5**step for step in range(experiment.steps)]
            w = setting.guidance.schedule.values(experiment.steps, levels)
            miss = float(np.abs(np.array(w) - np.linspace(4, 1, experiment.steps)).mean())
            hard = int(cell.prompt.split()[-1]) / 100
            luck = np.random.default_rng([cell.seed, int(cell.prompt.split()[-1])]).normal(0, 0.02)
            own = np.random.default_rng(int(cell.id[:8], 16)).normal(0, 0.02)
            metrics = {"alignment": 1 - miss / 5 - hard + luck + own, "clipped_share": max(w) / 10 + own}
            failed = self.broken and max(w) > 5
            result = Result(
                cell=cell.id,
                position=position,
                setting=setting.name,
                prompt=cell.prompt,
                seed=experiment.seeds[position % len(experiment.seeds)],
                status="failed" if failed else "done",
                error=f"Traceback\n{self.broken}" if failed else None,
                metrics={} if failed else metrics,
                rows_run=20.0,
            )
            rows.append(ResultRow(result=result, settled=self.broken != "out of memory"))
        with Store.create(folder, experiment) as store:
            store.record(rows)
            sizes = {it.name: float(max(it.guidance.schedule.values(experiment.steps))) for it in experiment.settings}
            estimates = {name: {"kid": Estimate(value=w / 10, n=128)} for name, w in sizes.items()}
            store.record_set_metrics(estimates)


def searched(metrics: tuple[str, ...] = ("alignment",), guidance: str = GAPS, **options: Any) -> Search:
    return Search.of(guidance, metrics, PROMPTS, steps=5, **options)


def quietly(search: Search, folder: Path, draw: Stub, trials: int = 12, **options: Any) -> Tuned:
    return tune(search, folder, trials=trials, draw=draw, quiet=True, tell=lambda _: None, **options)


@pytest.fixture(scope="module")
def stub() -> Stub:
    return Stub()


@pytest.fixture(scope="module")
def done(stub: Stub, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """One search, finished; its folder is two above the run of its held-out images."""
    folder = tmp_path_factory.mktemp("tuned") / "whole"
    told: list[str] = []
    found = tune(searched(), folder, trials=25, draw=stub, quiet=True, tell=told.append)
    assert told[-1] == "held out: 20 prompts x 4 seeds"
    assert told[0].startswith("constant, trial 1: alignment 0.")
    return found


def chunks(folder: Path) -> dict[str, list[Experiment]]:
    """Guidance -> its chunks in order."""
    found: dict[str, list[Experiment]] = {}
    for place in sorted(folder.glob("trials/*/*")):
        with Store.open(place) as store:
            found.setdefault(str(store.experiment.baseline.guidance), []).append(store.experiment)
    return found


def test_it_finds_what_is_better_and_says_so_on_other_pictures(done: Tuned) -> None:
    verdict = done.verdicts[0].rows[0]
    tuned = done.tuned.points[0].guidance.schedule.values(5)
    assert max(abs(np.array(tuned) - np.linspace(4, 1, 5))) < 1
    assert 2 < done.constant.points[0].guidance.schedule.values(5)[0] < 3
    assert verdict.difference is not None
    assert verdict.low is not None
    assert 0 < verdict.low < verdict.difference
    assert (verdict.n, verdict.n_prompts) == (80, 20)


def test_every_trial_draws_the_same_prompts_and_seeds(done: Tuned, stub: Stub) -> None:
    drawn = chunks(done.run.parents[1])
    assert len(drawn) == 50
    whole = [[experiment.prompts for experiment in parts] for parts in drawn.values() if len(parts) == 4]
    assert all(parts == whole[0] for parts in whole)
    for parts in drawn.values():
        assert [experiment.prompts for experiment in parts] == whole[0][: len(parts)]
        assert {experiment.seeds for experiment in parts} == {(0,)}
    assert len(whole) == done.constant.full + done.tuned.full
    assert len(set(stub.folders)) == len(stub.folders)


def test_what_is_cut_short_was_worse_on_shared_pictures_and_what_goes_on_was_not(done: Tuned) -> None:
    folder = done.run.parents[1]
    objective = Objective(done.search, folder, Stub())
    drawn = chunks(folder)
    assert done.constant.cut > 5
    assert done.tuned.cut > 5
    best: dict[str, float] = {}
    for side in (done.constant, done.tuned):
        mean = side.points[0].values[0]
        best[str(side.points[0].guidance)] = mean
    constants = [text for text in drawn if "cosine" not in text]
    for text in constants:
        cut = len(drawn[text]) < 4
        mine = [objective.measure(Guidance(text), chunk).by_image for chunk in range(len(drawn[text]))]
        merged = {key: value for part in mine for key, value in part.items()}
        assert len(merged) == 5 * len(drawn[text])
        if cut:
            others = [it for it in constants if len(drawn[it]) == 4]
            gaps = []
            for other in others:
                theirs = [objective.measure(Guidance(other), chunk).by_image for chunk in range(len(drawn[text]))]
                gaps.append(paired(merged, {key: value for part in theirs for key, value in part.items()}))
            assert any(gap.difference is not None and gap.difference < 0 and (gap.p or 1) < WORSE for gap in gaps)
    assert {text for text in best if "cosine" not in text} == {
        max((it for it in constants if len(drawn[it]) == 4), key=lambda it: _mean(objective, it))
    }


def _mean(objective: Objective, text: str) -> float:
    values = [value for chunk in range(4) for value in objective.measure(Guidance(text), chunk).by_image.values()]
    return float(np.mean(values))


def test_held_out_pictures_tuned_nothing(done: Tuned) -> None:
    with Store.open(done.run) as store:
        held = store.experiment
    assert [setting.name for setting in held.settings] == ["constant", "tuned"]
    for parts in chunks(done.run.parents[1]).values():
        for part in parts:
            assert not set(part.prompts) & set(held.prompts)
            assert not set(part.seeds) & set(held.seeds)
    assert sorted((*done.search.base.prompts, *held.prompts)) == sorted(PROMPTS)


def test_the_tuned_guidance_is_written_as_json(done: Tuned) -> None:
    text = (done.run.parents[1] / "tuned.json").read_text(encoding="utf-8")
    assert Guidance.model_validate_json(text) == done.tuned.points[0].guidance


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tuned, int]:
    """A short search that ran from its beginning to its end, and how many runs it has."""
    draw = Stub()
    return quietly(searched(), tmp_path_factory.mktemp("tuned") / "short", draw, SHORT), len(draw.folders)


@pytest.mark.parametrize("stop_at", [1, 4, 27, 48])
def test_a_search_that_was_stopped_goes_on_to_the_same_end(
    never_stopped: tuple[Tuned, int], tmp_path: Path, stop_at: int
) -> None:
    whole, runs = never_stopped
    stopped = Stub()
    stopped.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        quietly(searched(), tmp_path / "run", stopped, SHORT)
    again = quietly(searched(), tmp_path / "run", stopped, SHORT)
    assert again == whole.model_copy(update={"run": again.run})
    assert again.run.name == whole.run.name
    assert len(stopped.folders) == runs + 1  # the one that was stopped is drawn anew
    finished = Stub()
    assert quietly(searched(), tmp_path / "run", finished, SHORT) == again
    assert finished.folders == []


def test_more_trials_go_on_and_a_second_look_is_counted(never_stopped: tuple[Tuned, int], tmp_path: Path) -> None:
    draw, whole = Stub(), never_stopped[0]
    first = quietly(searched(), tmp_path / "run", draw, trials=2)
    assert (first.looks, first.tuned.full + first.tuned.cut) == (1, 2)
    more = quietly(searched(), tmp_path / "run", draw, SHORT)
    assert (more.looks, more.tuned.full + more.tuned.cut) == (2, SHORT)
    assert more.tuned.points[0].values[0] > first.tuned.points[0].values[0]
    assert whole.tuned == more.tuned
    assert "looked at 2 times in this folder" in markdown(more)
    assert "looked at" not in markdown(first)


def test_lower_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    found = quietly(searched(("clipped_share",), "constant({w:1..6})"), tmp_path / "run", Stub())
    assert found.tuned.points[0].guidance.schedule.values(1)[0] < 2
    assert found.tuned.cut > 3


def test_a_metric_of_sets_is_tuned_on_whole_sets(tmp_path: Path) -> None:
    search = searched(("kid",), seeds=range(7), held_seeds=range(10, 17))
    found = quietly(search, tmp_path / "run", Stub(), trials=4)
    assert found.constant.cut == found.tuned.cut == 0
    assert all(len(parts) == 1 for parts in chunks(tmp_path / "run").values())
    assert "KID" in markdown(found)
    with pytest.raises(InputError, match="'kid' needs 128 images, and 20 are tuned on; give more prompts or seeds"):
        searched(("kid",))


def test_two_metrics_give_a_frontier(tmp_path: Path) -> None:
    found = quietly(searched(("alignment", "clipped_share")), tmp_path / "run", Stub(), trials=20)
    assert found.constant.cut == found.tuned.cut == 0
    for side in (found.constant, found.tuned):
        assert 2 <= len(side.points) <= 6
        values = np.array([point.values for point in side.points])
        assert (np.diff(values[:, 0]) > 0).all()
        assert (np.diff(values[:, 1]) > 0).all()  # better aligned, and more clipped
    files = sorted(path.name for path in (tmp_path / "run").glob("tuned*.json"))
    assert files == [f"tuned-{i + 1}.json" for i in range(len(found.tuned.points))]
    for verdict, point in zip(found.verdicts, found.tuned.points, strict=True):
        assert verdict.setting == point.name
        assert verdict.against == opponent(point, found.constant.points).name
        assert len(verdict.rows) == 2
        for row in verdict.rows:
            assert row.p is not None
            assert row.p_holm is not None
            assert row.p_holm >= row.p
    assert markdown(found).count("Held out, tuned ") == len(found.verdicts)
    for stale in ("tuned.json", "tuned-99.json"):  # of a frontier with other points
        (tmp_path / "run" / stale).write_text("{}", encoding="utf-8")
    (tmp_path / "run" / "tuned-by-hand.json").write_text("{}", encoding="utf-8")
    quietly(searched(("alignment", "clipped_share")), tmp_path / "run", Stub(), trials=20)
    assert sorted(path.name for path in (tmp_path / "run").glob("tuned*.json")) == [*files, "tuned-by-hand.json"]


def test_a_comparison_without_p_stays_in_the_family() -> None:
    difference = paired({("a", 0): 1.0, ("a", 1): 0.5}, {("a", 0): 0.0, ("a", 1): 0.0})
    verdicts = [
        TuningVerdict(
            setting=name,
            against="constant",
            rows=(ComparisonRow.of(name, None, difference.model_copy(update={"p": p})),),
        )
        for name, p in (("one", 0.01), ("two", None), ("three", 0.5))
    ]
    assert [verdict.rows[0].p_holm for verdict in corrected(verdicts, 1)] == [pytest.approx(0.03), None, 1.0]


def test_a_frontier_keeps_its_ends_and_meets_its_neighbours() -> None:
    points = [MeasuredPoint(name=f"p {i}", guidance=Guidance(i + 1), values=(i / 10, 0.0)) for i in range(20)]
    kept = evenly_spaced(points, 6)
    assert [point.name for point in kept] == ["p 0", "p 4", "p 8", "p 11", "p 15", "p 19"]
    assert evenly_spaced(points[:3], 6) == points[:3]
    assert opponent(points[9], kept).name == "p 8"


def test_rows_are_a_budget(tmp_path: Path) -> None:
    told: list[str] = []
    whole = 20 * 20  # rows of a trial that goes to its end
    found = tune(searched(), tmp_path / "run", trials=40, rows=6 * whole, draw=Stub(), quiet=True, tell=told.append)
    for side in (found.constant, found.tuned):
        assert 3 * whole <= side.rows < 4 * whole
    assert any(line.startswith("constant: half of the rows are spent after ") for line in told)
    more = quietly(searched(), tmp_path / "run", Stub(), trials=40, rows=10 * whole)
    assert 5 * whole <= more.tuned.rows < 6 * whole


def test_pictures_that_are_not_finite_refuse_a_guidance(tmp_path: Path) -> None:
    draw = Stub()
    draw.broken = "the image has values that are not finite"
    found = quietly(searched(), tmp_path / "run", draw)
    assert found.constant.refused > 0
    assert max(found.tuned.points[0].guidance.schedule.values(5)) <= 5
    with pytest.raises(InputError, match=r"none of 2 trials could be measured \(the image has values"):
        quietly(searched(constant="6..8"), tmp_path / "all", draw, trials=2)


def test_a_model_that_fails_ends_the_search_and_it_goes_on(tmp_path: Path) -> None:
    draw = Stub()
    draw.broken = "out of memory"
    with pytest.raises(
        MachineError, match=r"the model failed in \d+ images \(out of memory\); run it again to continue"
    ):
        quietly(searched(), tmp_path / "run", draw)


def test_a_model_that_fails_on_held_out_pictures_gives_no_verdict(tmp_path: Path) -> None:
    class Late(Stub):
        def __call__(self, experiment: Experiment, folder: Path) -> None:
            self.broken = "out of memory" if experiment.name == "held-out" else ""
            super().__call__(experiment, folder)

    search = searched(guidance="constant({w:6..9})")
    with pytest.raises(MachineError, match=r"held-out.*: the model failed in \d+ images"):
        quietly(search, tmp_path / "run", Late(), trials=3)


def test_a_search_that_was_killed_as_it_began_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for left in (".lock", f".{SEARCH}.a1b2.tmp"):
        (folder / left).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cfglab.integrations.optuna._storage", stopped)
        with pytest.raises(KeyboardInterrupt):
            quietly(searched(), folder, Stub(), trials=2)
    assert {it.name for it in folder.iterdir()} == {".lock", SEARCH}
    assert quietly(searched(), folder, Stub(), trials=2).verdicts


def stopped(_: Path) -> Any:
    raise KeyboardInterrupt


def test_a_guidance_that_cannot_be_is_refused(tmp_path: Path) -> None:
    search = searched(guidance="constant(2).inside(progress=({a:0..0.9}, {b:0.1..1}))")
    found = quietly(search, tmp_path / "run", Stub())
    assert found.tuned.refused > 0
    assert found.tuned.full > 0


# -- what is written ---------------------------------------------------------------------------------------------------


def test_the_report(done: Tuned) -> None:
    folder = done.run.parents[1]
    text = write(done, folder)
    assert (folder / "tuned.md").read_text(encoding="utf-8") == text
    lines = text.splitlines()
    assert lines[0] == "# Tuned by Alignment"
    assert lines[2] == "|  | guidance | Alignment, tuned on | Alignment, held out |"
    assert lines[4].startswith(f"| constant | `{done.constant.points[0].guidance}` | ")
    verdict = done.verdicts[0].rows[0]
    assert verdict.difference is not None
    said = next(line for line in lines if line.startswith("Held out, tuned less constant: **alignment +"))
    assert f"+{verdict.difference * 100:.0f}" in said or f"+{verdict.difference * 100:.1f}" in said
    assert "p < 0.001; 20 prompts, 80 pairs; detectable from" in said
    assert f"| constant: `{{w:1..8}}` | 25 | {done.constant.full} | {done.constant.cut} | 0 | " in text
    spent = round(done.constant.rows + done.tuned.rows)
    assert f"Denoiser rows: {spent:,} to tune, {2 * 80 * 20:,} to judge." in text
    assert "judged on 20 other prompts x 4 other seeds (1000..1003)" in text


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrics": ("alinment",)}, "metric 'alinment' is unknown; did you mean alignment?"),
        ({"metrics": ("saturation",)}, "'saturation' has no better direction, so it cannot be tuned"),
        ({"metrics": ("fd_dinov2",)}, "'fd_dinov2' is measured by cfglab score alone; tune clip_score, alignment"),
        ({"metrics": ("alignment", "alignment")}, "one is tuned, two different ones give a frontier"),
        ({"metrics": ()}, "metrics none: one is tuned"),
        ({"guidance": "cosine(max=3, min=1)"}, "has no placeholder, so there is nothing to tune"),
        ({"constant": "8..1"}, "a range runs upwards; write {w:1..8}"),
        ({"tune_on": 39}, "40 prompts, 39 to tune on: at least 2 are tuned on and 2 held out"),
        ({"seeds": (0, 1), "held_seeds": (1, 2)}, "seed 1: is tuned on and held out; give other seeds to hold out"),
    ],
)
def test_what_is_no_search(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as refused:
        searched(**change)
    assert words in str(refused.value)


def test_one_prompt_is_too_few_to_tune_on() -> None:
    with pytest.raises(InputError, match=r"^1 prompt, 0 to tune on: at least 2 are tuned on and 2 held out; give more"):
        Search.of(GAPS, ["alignment"], PROMPTS[:1], steps=5)


def test_a_metric_that_the_pictures_do_not_have(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'alignment_a': these images do not have it, they have alignment, clipped"):
        quietly(searched(("alignment_a",)), tmp_path / "run", Stub())


def test_a_folder_with_something_else_is_left_alone(done: Tuned, tmp_path: Path) -> None:
    folder = done.run.parents[1]
    before = sorted(folder.rglob("*.json"))
    for search, words in (
        (searched(guidance="constant({w:1..6})"), f"holds another search, guidance {GAPS[:60]}, not constant"),
        (searched(seeds=[7]), "holds another search, the experiment 'tune' with seeds 0, not 7; choose another --out."),
        (searched(("clipped_share",)), "holds another search, metrics alignment, not clipped_share; choose"),
    ):
        with pytest.raises(InputError) as refused:
            quietly(search, folder, Stub())
        assert words in str(refused.value)
    assert sorted(folder.rglob("*.json")) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files and no search; choose another --out"):
        quietly(searched(), tmp_path / "mine", Stub())
    with pytest.raises(InputError, match="a search is a folder, but this is a file"):
        quietly(searched(), tmp_path / "mine" / "notes.txt", Stub())
    (tmp_path / "mine" / "search.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read, another version wrote it"):
        quietly(searched(), tmp_path / "mine", Stub())
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "search.json").write_text(searched().model_dump_json())
    (tmp_path / "damaged" / "trials.sqlite").write_text("no database, but text of some length" * 100)
    with pytest.raises(MachineError, match=r"trials.sqlite: cannot be read or written"):
        quietly(searched(), tmp_path / "damaged", Stub())


def test_without_optuna_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        InputError, match=r"^tuning needs Optuna, which is not installed; pip install 'cfglab\[tune\]'$"
    ):
        quietly(searched(), tmp_path / "run", Stub())
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    with pytest.raises(InputError, match="trials 0: at least one is needed"):
        quietly(searched(), tmp_path / "run", Stub(), trials=0)


def dashboard(folder: Path, path: str) -> Any:
    """What optuna-dashboard answers about the trials of a folder."""
    module = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed: make setup")
    from optuna.storages import RDBStorage

    storage, status = RDBStorage(f"sqlite:///{folder / 'trials.sqlite'}"), list[str]()
    environment: dict[str, Any] = {"PATH_INFO": path}
    setup_testing_defaults(environment)
    try:
        body = b"".join(module.wsgi(storage)(environment, lambda line, *_: status.append(line)))
    finally:
        storage.remove_session()
        storage.engine.dispose()
    assert status == ["200 OK"]
    return json.loads(body)


def test_optuna_dashboard_shows_the_trials_with_parameters_and_named_values(done: Tuned) -> None:
    folder = done.run.parents[1]
    studies = dashboard(folder, "/api/studies")["study_summaries"]
    assert [(study["study_name"], study["directions"]) for study in studies] == [
        ("constant", ["maximize"]),
        ("tuned", ["maximize"]),
    ]
    study = dashboard(folder, f"/api/studies/{studies[1]['study_id']}")
    assert study["objective_names"] == ["alignment"]
    assert len(study["trials"]) == 25
    finished = [trial for trial in study["trials"] if trial["state"] == "Complete"]
    assert len(finished) == done.tuned.full
    best = max(finished, key=lambda trial: trial["values"][0])
    assert best["values"] == list(done.tuned.points[0].values)
    assert {parameter["name"] for parameter in best["params"]} == {"max", "min", "k"}
    attributes = {attribute["key"]: attribute["value"] for attribute in best["user_attrs"]}
    assert attributes["guidance"] == str(done.tuned.points[0].guidance)


# -- a real model ------------------------------------------------------------------------------------------------------


def test_a_tiny_model_is_tuned_from_the_command_line_and_loaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cfglab import pipelines
    from tests.tiny import tiny_pipeline

    model, loads = tiny_pipeline(tmp_path / "model", factor=4), []
    real = pipelines.load
    monkeypatch.setattr(pipelines, "load", lambda *args, **options: (loads.append(args), real(*args, **options))[1])
    monkeypatch.chdir(tmp_path)
    command = ["tune", "constant({w:1..6})", "--metric", "clipped_share", "--model", str(model), "--out", "tuned"]
    command += ["--prompts", "a", "--prompts", "b", "--prompts", "c", "--prompts", "d", "--held-seeds", "5"]
    command += ["--steps", "2", "--trials", "2", "--sampler", "euler", "--device", "cpu", "--quiet"]
    long = ["--prompts", "too long " * 40]
    assert call([*command, *long]) == 2
    assert "would be lost; shorten it" in capsys.readouterr().err
    assert not Path("tuned").exists()
    loads.clear()
    assert call(command) == 0
    first = capsys.readouterr()
    assert first.err == ""
    assert len(loads) == 1
    assert Guidance.model_validate_json(Path("tuned/tuned.json").read_text()).schedule.values(1)[0] <= 6
    assert "2 steps, euler, float32" in Path("tuned/tuned.md").read_text()
    assert call(command) == 0
    assert len(loads) == 1  # all is known
    assert capsys.readouterr().out.splitlines()[-3:] == first.out.splitlines()[-3:]
