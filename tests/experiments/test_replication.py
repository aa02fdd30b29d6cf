"""Plans: the choice, the verdicts, the page, and what a plan may not say."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from cfglab.cli import call
from cfglab.errors import InputError, MachineError, NotFinite
from cfglab.experiments import Experiment, Store
from cfglab.experiments.analysis.compare import compare
from cfglab.experiments.analysis.paired import paired
from cfglab.experiments.backends.base import BatchResult
from cfglab.experiments.backends.mixture import MixtureBackend
from cfglab.experiments.execution.run import Run, run
from cfglab.experiments.replication.plan import Plan
from cfglab.experiments.replication.replicate import RESULT, Replication, equivalence_p, replicate
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.experiment import preset_names
from cfglab.guidance import Guidance
from cfglab.report.replication_markdown import PAGE, markdown
from cfglab.scenes.vocabulary import read_caption
from tests.tiny import tiny_pipeline

SMALL = """
name: small
title: A small plan
metric: sliced_wasserstein
shared: {model: "mixture:modes", steps: 6, sampler: euler}
choose:
  prompts: [class 0]
  seeds: 0..1
  baseline: {name: plain w=8, guidance: "8"}
  groups:
    - {name: plain, guidance: "{w}", axes: {w: [1.5, 6]}}
    - {name: falling, guidance: "cosine(max={w}, min=1)", axes: {w: [3, 9]}}
report:
  prompts: [class 1]
  seeds: 10..21
  groups:
    - {name: far, guidance: "12"}
    - {name: near, guidance: "{best} * 1.0001"}
    - {name: impossible, guidance: "linear(max=1.2, min=1).matched_to({best})"}
hypotheses:
  - {id: H1, statement: "Far <b>scales</b> | are worse.", setting: far, expected: worse}
  - {id: H2, statement: "Far scales are better.", setting: far, expected: better}
  - {id: H3, statement: "Nearly the same scale is equal.", setting: near, expected: equal, margin: 0.05}
  - {id: H4, statement: "A far scale is equal.", setting: far, expected: equal, margin: 0.01}
  - {id: H5, statement: "The chosen cosine differs.", setting: best falling, baseline: far, expected: different}
"""


def plan(**changes: Any) -> Plan:
    return Plan.of(yaml.safe_load(SMALL) | changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Replication, Path]:
    folder = tmp_path_factory.mktemp("small")
    return replicate(plan(), folder), folder


def test_the_best_of_each_group_is_chosen_where_lower_is_better(done: tuple[Replication, Path]) -> None:
    replication, folder = done
    with Store.open(folder / "choose") as store:
        scores: dict[str, list[float]] = {}
        for result in store.results():
            scores.setdefault(result.setting, []).append(result.metrics["sliced_wasserstein"])
    best = min(("plain w=8", "plain w=1.5", "plain w=6"), key=lambda name: np.mean(scores[name]))
    assert replication.chosen["plain"] == best.removeprefix("plain w=")
    cosines = ("falling w=3", "falling w=9")
    top = min(cosines, key=lambda name: np.mean(scores[name])).removeprefix("falling w=")
    assert replication.chosen["falling"] == f"cosine(max={top}, min=1)"
    assert str(replication.experiment.baseline.guidance) == replication.chosen["plain"]


def test_a_verdict_is_what_was_expected_before(done: tuple[Replication, Path]) -> None:
    verdicts = {finding.hypothesis.id: finding.verdict for finding in done[0].findings}
    assert verdicts == {
        "H1": "supported",
        "H2": "contradicted",
        "H3": "supported",
        "H4": "contradicted",
        "H5": "supported",
    }
    p_values = [finding.p for finding in done[0].findings]
    assert all(p is not None for p in p_values)
    assert min(float(p or 1) for p in p_values) * len(p_values) == pytest.approx(
        min(float(finding.p_holm or 1) for finding in done[0].findings)
    )


def test_the_same_call_again_draws_nothing_and_writes_the_same(done: tuple[Replication, Path]) -> None:
    replication, folder = done
    before = (folder / RESULT).read_bytes()

    def refuse(experiment: Experiment, target: Path) -> Any:
        with Store.open(target) as store:
            assert store.experiment == experiment

    assert replicate(plan(), folder, run_experiment=refuse) == replication
    assert (folder / RESULT).read_bytes() == before
    assert Replication.model_validate_json(before) == replication


def test_the_equality_is_that_of_two_one_sided_t_tests() -> None:
    values = np.random.default_rng(0).normal(0.01, 0.05, 40)
    pairs = {("a", seed): float(value) for seed, value in enumerate(values)}
    difference = paired(pairs, dict.fromkeys(pairs, 0.0))
    for margin in (0.005, 0.02, 0.05):
        expected = max(
            stats.ttest_1samp(values, -margin, alternative="greater").pvalue,
            stats.ttest_1samp(values, margin, alternative="less").pvalue,
        )
        assert equivalence_p(difference, margin) == pytest.approx(expected)


def test_a_shape_that_the_chosen_scale_rules_out_is_not_run(tmp_path: Path) -> None:
    document = yaml.safe_load(SMALL)
    document["choose"]["groups"] = []
    document["choose"]["baseline"] = {"name": "plain w=14", "guidance": "14"}
    document["report"]["groups"] = [{"name": "scaled", "guidance": "linear(max=4, min=1).matched_to({best})"}]
    document["report"]["seeds"] = "10..11"
    document["hypotheses"] = [{"id": "H1", "statement": "s", "setting": "scaled", "expected": "better"}]
    (finding,) = replicate(Plan.of(document), tmp_path).findings
    assert finding.verdict == "not run"
    assert finding.difference is None


def missing(tmp_path: Path) -> tuple[Replication, Path]:
    """A replication of one prompt in which H2 has no p, for its pairs are all alike, and H3 was not run."""
    document = yaml.safe_load(SMALL)
    document["choose"]["groups"] = []
    document["choose"]["baseline"] = {"name": "plain w=14", "guidance": "14"}
    document["report"]["groups"] = [
        {"name": "far", "guidance": "1.5"},
        {"name": "same", "guidance": "{best}"},
        {"name": "impossible", "guidance": "linear(max=4, min=1).matched_to({best})"},
    ]
    document["hypotheses"] = [
        {"id": "H1", "statement": "s", "setting": "far", "expected": "better"},
        {"id": "H2", "statement": "s", "setting": "same", "expected": "equal", "margin": 0.05},
        {"id": "H3", "statement": "s", "setting": "impossible", "expected": "worse"},
    ]
    return replicate(Plan.of(document), tmp_path), tmp_path


def test_a_hypothesis_without_p_stays_in_the_family(tmp_path: Path) -> None:
    done, folder = missing(tmp_path)
    far, same, impossible = done.findings
    assert (same.p, same.p_holm, same.verdict) == (None, None, "not shown")
    assert (impossible.p, impossible.verdict) == (None, "not run")
    assert far.p is not None
    assert far.p_holm == pytest.approx(3 * far.p)
    page = markdown(done)
    assert "Holm's correction is over all 3 hypotheses, of which 2 without a p count as p = 1." in page
    assert "lies outside of the margin" in page
    with Store.open(folder / "report") as store:
        note = compare(store, done.metric, "best constant").note
    only = "For this prompt only: seeds are taken as a random sample, and nothing is said about other prompts."
    assert only in note
    assert only in page
    assert "at most 12 pairs of 1 prompt. " in page
    assert "other prompts and other noises" not in page


def test_intervals_hold_for_what_was_sampled(done: tuple[Replication, Path]) -> None:
    replication = done[0]
    first = replication.findings[0]
    assert first.difference is not None

    def page(resampled: str | None, dropped: int = 0, **fields: Any) -> str:
        difference = first.difference and first.difference.model_copy(
            update={"resampled": resampled, "dropped": dropped}
        )
        finding = first.model_copy(update={"difference": difference})
        experiment = replication.experiment.model_copy(update={"prompts": ("class 1", "class 0"), **fields})
        return markdown(replication.model_copy(update={"findings": (finding,), "experiment": experiment}))

    several = page("prompts")
    assert "at most 12 pairs of 2 prompts; intervals hold for other prompts and other noises of this model." in several
    assert "Of 1 hypothesis: " in several
    assert "One hypothesis needs no correction." in several
    assert "For this one starting noise only" in page("prompts", noise="crossed", seeds=(10,))
    assert "other noises of this model" not in page("prompts", noise="crossed", seeds=(10,))
    assert "With one pair there is no interval" in page(None)
    assert "A line lacks up to 1 pair, because one side failed." in page("prompts", dropped=1)


def test_findings_by_another_metric_or_of_other_hypotheses_are_kept(
    done: tuple[Replication, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(done[1], folder)
    before = (folder / RESULT).read_bytes()
    other = plan(hypotheses=[yaml.safe_load(SMALL)["hypotheses"][1]])
    for refused, message in (
        (lambda: replicate(plan(), folder, metric="mode_distance"), "holds findings by sliced_wasserstein, not 'mode_"),
        (lambda: replicate(other, folder), "holds findings of other hypotheses"),
    ):
        with pytest.raises(InputError, match=message) as raised:
            refused()
        assert "\n" not in str(raised.value)
    assert (folder / RESULT).read_bytes() == before
    (folder / RESULT).write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"findings\.json: cannot be read, another version wrote it"):
        replicate(plan(), folder)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / PAGE).write_text("notes", encoding="utf-8")
    with pytest.raises(InputError, match="holds other files and no plan; choose another --out"):
        replicate(plan(), tmp_path)
    with pytest.raises(InputError, match="findings are a folder, but this is a file"):
        replicate(plan(), tmp_path / PAGE)
    assert (tmp_path / PAGE).read_text(encoding="utf-8") == "notes"


def failing(fails: Callable[[Cell], Exception | None]) -> Callable[[Experiment, Path], Run]:
    """Run an experiment with a mixture that fails in some cells."""

    class Failing(MixtureBackend):
        def generate(self, batch: Sequence[Cell]) -> BatchResult:
            for cell in batch:
                if error := fails(cell):
                    raise error
            return super().generate(batch)

    return lambda experiment, folder: run(experiment, folder, quiet=True, load=lambda _: Failing(experiment.model))


def test_nothing_is_chosen_or_said_while_an_image_may_still_be_drawn(tmp_path: Path) -> None:
    def at(scale: float, seed: int) -> Callable[[Experiment, Path], Run]:
        def fails(cell: Cell) -> Exception | None:
            return RuntimeError("out of memory") if (cell.guidance, cell.seed) == (Guidance(scale), seed) else None

        return failing(fails)

    crossed = plan(shared={**yaml.safe_load(SMALL)["shared"], "noise": "crossed"})
    for scale, seed, part in ((6, 1, "choose"), (12, 10, "report")):
        with pytest.raises(
            MachineError, match=rf"{part}: the model failed in 1 image \(.*out of memory\); run it again"
        ):
            replicate(crossed, tmp_path, run_experiment=at(scale, seed))
        assert not (tmp_path / RESULT).exists()
    assert replicate(crossed, tmp_path).findings  # the next attempt draws them


@pytest.mark.parametrize("error", [InputError("layer 'x': this network has none; name another."), NotFinite("nan")])
def test_a_setting_without_all_of_its_images_is_not_chosen(error: Exception, tmp_path: Path) -> None:
    best = replicate(plan(), tmp_path / "whole").chosen["plain"]
    crossed = plan(shared={**yaml.safe_load(SMALL)["shared"], "noise": "crossed"})

    def refuse_best(cell: Cell) -> Exception | None:
        cosine = "cosine" in str(cell.guidance)
        return error if cosine or (str(cell.guidance) == best and cell.seed == 1) else None

    done = replicate(crossed, tmp_path / "refused", run_experiment=failing(refuse_best))
    assert done.chosen["plain"] != best
    assert "falling" not in done.chosen
    assert [finding.verdict for finding in done.findings][-1] == "not run"


def test_without_a_constant_scale_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^small: no constant scale was chosen, for an image of each failed"
    ) as raised:
        plan().reporting({})
    assert "\n" not in str(raised.value)
    plain = failing(lambda cell: None if "cosine" in str(cell.guidance) else NotFinite("nan"))
    with pytest.raises(InputError, match=r"^small: no constant scale was chosen"):
        replicate(plan(), tmp_path / "plain", run_experiment=plain)
    with pytest.raises(InputError, match=r"^no setting has 'sliced_wasserstein' of all its images: they failed or"):
        replicate(plan(), tmp_path / "all", run_experiment=failing(lambda _: NotFinite("nan")))


def test_a_setting_whose_images_all_failed_is_on_the_page(tmp_path: Path) -> None:
    done = replicate(
        plan(), tmp_path, run_experiment=failing(lambda c: NotFinite("n") if c.guidance == Guidance(12) else None)
    )
    assert done.findings[0].verdict == "not shown"
    assert "A line lacks up to 12 pairs, because one side failed." in markdown(done)


def test_the_page_has_every_hypothesis_and_escapes_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "small.yaml"
    source.write_text(SMALL, encoding="utf-8")
    words = ["replicate", str(source), "--out", str(tmp_path / "out"), "--quiet", "--seeds", "10..13"]
    assert call([*words, "--model", "mixture:modes"]) == 0
    assert "page: " in capsys.readouterr().out
    page = (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
    assert "Far &lt;b&gt;scales&lt;/b&gt; &#124; are worse." in page
    assert [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| H")] == [
        f"H{number}" for number in range(1, 6)
    ]
    assert json.loads((tmp_path / "out" / RESULT).read_text())["plan"] == "small"


def test_a_folder_of_a_diffusers_model_runs_a_plan_with_a_metric_that_fits_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_pipeline(tmp_path / "model")
    document = yaml.safe_load(SMALL)
    document["shared"] = {"steps": 2, "sampler": "euler"}
    document["metric"] = "alignment"
    document["choose"] |= {"prompts": ["abc"], "seeds": 0}
    document["report"] |= {"prompts": ["de"], "seeds": "3..4"}
    source = tmp_path / "tiny.yaml"
    source.write_text(yaml.safe_dump(document), encoding="utf-8")
    words = ["replicate", str(source), "--model", str(model), "--out", str(tmp_path / "out"), "--quiet"]
    assert call(words) == 2
    assert "alignment is a classifier for scenes; give --metric pick_score" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for metric, problem in (
        ("contrast", "no better direction"),
        ("nope", "is unknown"),
        ("outliers", "is of samples of a mixture, and the model is"),
        ("alignment_whole", "no prompt of small-choose is one"),
    ):
        assert call([*words, "--metric", metric]) == 2
        assert problem in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert call([*words, "--metric", "clipped_share"]) == 0
    assert "Metric: clipped_share." in (tmp_path / "out" / PAGE).read_text(encoding="utf-8")


def with_part(part: str, **fields: Any) -> Callable[[], Plan]:
    return lambda: plan(**{part: yaml.safe_load(SMALL)[part] | fields})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (with_part("report", prompts=["class 0"]), r"^prompt 'class 0': it chooses and reports;"),
        (with_part("report", seeds="1..4"), r"^seed 1: it chooses and reports;"),
        (
            with_part("choose", groups=[{"name": "plain", "guidance": "cosine(max=3)"}]),
            r"^choose: 'plain' is no constant scale",
        ),
        (
            lambda: plan(hypotheses=[{"id": "H1", "statement": "s", "setting": "fat", "expected": "worse"}]),
            r"^'fat' is no setting of small-report: did you mean far",
        ),
        (
            lambda: plan(hypotheses=[{"id": "H1", "statement": "s", "setting": "far", "expected": "equal"}]),
            r"^hypothesis H1: a margin above 0 belongs to",
        ),
        (
            lambda: plan(hypotheses=[{"id": "H1", "statement": "s", "setting": "far", "expected": "worse"}] * 2),
            r"^hypothesis H1: two have this id",
        ),
        (lambda: plan(colour=3), r"^colour: there is no field 'colour'"),
        (lambda: Plan.read("plam"), r"^'plam' is no plan; there are plan; did you mean plan"),
        (
            lambda: plan(
                hypotheses=[
                    {"id": "H1", "statement": "s", "setting": "best constant", "expected": "equal", "margin": 1}
                ]
            ),
            r"^hypothesis H1: 'best constant' against itself; name another baseline",
        ),
        (lambda: replicate(plan(), Path("unused"), metric="fid"), r"^metric 'fid': a plan compares single images"),
    ],
)
def test_what_a_plan_may_not_say_is_one_line(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        wrong()
    assert "\n" not in str(raised.value)


def test_the_prompts_of_the_plan_were_used_nowhere_and_half_of_them_were_never_shown() -> None:
    whole = Plan.read("plan")
    choosing, reporting = whole.choosing(), Experiment.from_yaml(yaml.safe_dump(_document(whole)))
    used = {prompt for name in preset_names() for prompt in Experiment.preset(name).prompts}
    assert not used & {*choosing.prompts, *reporting.prompts}
    unknown = [prompt for prompt in (*choosing.prompts, *reporting.prompts) if read_caption(prompt) is None]
    assert unknown == [], "they are no sentences of the world of scenes"
    scenes = [read_caption(prompt) for prompt in reporting.prompts]
    assert len(scenes) == 64
    assert sum(scene is not None and scene.held_out for scene in scenes) == 32
    assert len(reporting.seeds) == 8
    assert reporting.noise == "nested"
    assert reporting.steps >= 25


def _document(whole: Plan) -> dict[str, Any]:
    """The experiment that reports, with the constant 4 as the best."""
    return {
        **whole.shared,
        **whole.report,
        "name": "report",
        "constants": {"best": 4},
        "baseline": {"name": "best constant", "guidance": "4"},
    }
