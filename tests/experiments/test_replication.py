"""Plans: the choice, the verdicts, the page, and what a plan may not say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from cfglab.cli import call
from cfglab.errors import InputError
from cfglab.experiments import Experiment, Store
from cfglab.experiments.analysis.paired import paired
from cfglab.experiments.replication.plan import Plan
from cfglab.experiments.replication.replicate import RESULT, Replication, equivalence_p, replicate
from cfglab.experiments.spec.experiment import preset_names
from cfglab.report.replication_markdown import PAGE
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
