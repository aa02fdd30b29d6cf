"""Runs, images and a tuned guidance that earlier versions made: later ones open, compare and report them.

`tests/kept` was made with `cfglab run tests/kept/kept.yaml` by the last commit of 0.1 (`run-0.1`: all prompts share the
starting noises of a seed) and by the last one before the layout of 0.2 (`run-0.2`: every prompt has its own), and with
`cfglab tune` by that of 0.1. What can be made again was left out. Both runs were drawn by an older `scenes`, at 64×64:
its weights are in no later version, which adds no image to them and reproduces none.
"""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import cfglab as cl
from cfglab import cli
from cfglab.experiments.analysis.compare import compare
from cfglab.experiments.spec.models import model_facts
from tests.quick_run import contents

KEPT = Path(__file__).parents[1] / "kept"
RUNS = ("run-0.1", "run-0.2")
WEIGHTS = "02e040bf2639"
"""The first digits of the hash of the weights that drew them."""


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a kept run, which a test may change."""
    return Path(shutil.copytree(KEPT / request.param, tmp_path / request.param))


def rows(run: Path) -> list[dict[str, str]]:
    """The results as the version that made the run wrote them for people."""
    with (KEPT / run.name / "results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_kept_run_opens_with_its_cells_metrics_and_seeds(run: Path) -> None:
    store = cl.Store.open(run)
    results = store.results()
    assert [(result.cell, result.setting, result.prompt, str(result.seed)) for result in results] == [
        (row["cell"], row["setting"], row["prompt"], row["seed"]) for row in rows(run)
    ]
    for result, row in zip(results, rows(run), strict=True):
        assert result.metrics["saturation"] == pytest.approx(float(row["saturation"]), rel=1e-12)
        assert result.torch_seed == int(row.get("torch_seed", row["seed"]))
    assert store.experiment.noise == ("crossed" if run.name == "run-0.1" else "nested")


@pytest.mark.parametrize("metric", ["saturation", "alignment"])
def test_a_kept_run_is_compared_by_the_means_of_its_results(run: Path, metric: str) -> None:
    comparison = compare(cl.Store.open(run).results(), metric, baseline="constant")
    values: dict[str, list[float]] = {}
    for row in rows(run):
        values.setdefault(row["setting"], []).append(float(row[metric]))
    assert {line.setting: line.mean for line in comparison.rows} == {
        setting: pytest.approx(np.mean(of)) for setting, of in values.items() if setting != "constant"
    }
    assert cli.call(["compare", str(run), "--metric", metric]) == 0


def test_a_kept_run_has_its_report(run: Path) -> None:
    images = contents(run / "images")
    assert cli.call(["report", str(run)]) == 0
    assert contents(run / "images") == images
    page = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert len(page["settings"]) == 4
    html = (run / "report.html").read_text(encoding="utf-8")
    assert len(set(re.findall(r"data:image/webp;base64,[\w+/=]+", html))) == len(images) == 16


def test_no_image_of_other_weights_is_added_to_a_kept_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, here = contents(run), model_facts("scenes").weights[:12]
    assert cli.call(["run", str(KEPT / "kept.yaml"), "--out", str(run), "-q"]) == 2
    assert capsys.readouterr().err == (
        f"cfglab: {run}: was drawn with weights {WEIGHTS}, but the model here has {here}; choose another --out.\n"
    )
    after = contents(run)
    del before["experiment.yaml"], after["experiment.yaml"]  # it is written again in the form of this version
    assert after == before


def test_an_image_of_a_kept_run_is_not_reproduced_with_other_weights(run: Path, tmp_path: Path) -> None:
    image, copy = run / rows(run)[-1]["image"], tmp_path / "again.png"
    here = model_facts("scenes").weights[:12]
    with pytest.raises(cl.InputError) as refused:
        cl.reproduce(image, copy)
    assert str(refused.value).startswith(
        f"{image}: was drawn with weights {WEIGHTS} of scenes, but the ones here are {here}; install the version that "
        "drew it (cfglab 0.1.0, "
    )
    assert "\n" not in str(refused.value)
    assert not copy.exists()


def test_a_kept_tuned_guidance_is_what_its_text_says() -> None:
    guidance = cl.Guidance.from_json((KEPT / "tuned.json").read_text(encoding="utf-8"))
    assert str(guidance) == "cosine(max=5.744, min=1, k=1.165) | apg()"
