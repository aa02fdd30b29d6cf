"""Runs, images and a tuned guidance that earlier versions made: later ones open, compare, report and reproduce them.

`tests/kept` was made with `cfglab run tests/kept/kept.yaml` by the last commit of 0.1 (`run-0.1`: all prompts share the
starting noises of a seed) and by the last one before the layout of 0.2 (`run-0.2`: every prompt has its own), and with
`cfglab tune` by that of 0.1. What can be made again was left out.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cfglab as cl
from cfglab import cli
from cfglab.experiments.analysis.compare import compare

KEPT = Path(__file__).parents[1] / "kept"
RUNS = ("run-0.1", "run-0.2")


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


def test_a_kept_run_is_compared_by_the_means_of_its_results(run: Path) -> None:
    comparison = compare(cl.Store.open(run).results(), "saturation", baseline="constant")
    values: dict[str, list[float]] = {}
    for row in rows(run):
        values.setdefault(row["setting"], []).append(float(row["saturation"]))
    assert {line.setting: line.mean for line in comparison.rows} == {
        setting: pytest.approx(np.mean(of)) for setting, of in values.items() if setting != "constant"
    }


def test_the_same_command_finds_a_kept_run_finished_and_writes_its_report(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in (run / "images").iterdir()}
    assert cli.call(["run", str(KEPT / "kept.yaml"), "--out", str(run), "-q"]) == 0
    assert capsys.readouterr().out.startswith("0 ")
    assert {path.name: path.read_bytes() for path in (run / "images").iterdir()} == before
    page = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert (run / "report.html").stat().st_size > 100_000
    assert len(page["settings"]) == 4


def test_an_image_of_a_kept_run_is_reproduced(run: Path, tmp_path: Path) -> None:
    row = rows(run)[-1]  # a transform, and the second prompt
    made = cl.reproduce(run / row["image"], tmp_path / "again.png")
    assert made.torch_seed == int(row.get("torch_seed", row["seed"]))
    then, now = (np.asarray(Image.open(path), dtype=np.int16) for path in (run / row["image"], tmp_path / "again.png"))
    assert np.abs(now - then).max() <= 2, "another processor may round in another way, no more"


def test_a_kept_tuned_guidance_is_what_its_text_says() -> None:
    guidance = cl.Guidance.from_json((KEPT / "tuned.json").read_text(encoding="utf-8"))
    assert str(guidance) == "cosine(max=5.744, min=1, k=1.165) | apg()"
