"""The notebook examples/part4_k_decay.py, executed from its first cell to its last on the bundled model."""

import os
import random
import re
import runpy
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

import cfglab
from cfglab.scenes import folder

NOTEBOOK = Path(__file__).parents[2] / "examples" / "part4_k_decay.py"
FIGURES = {
    *(
        "k_curves",
        "inverse_k_curves",
        "baseline",
        "k_grid",
        "inverse_k_grid",
        "k_and_baseline",
        "inverse_k_and_baseline",
    ),
    *("k_and_baseline_curves", "inverse_k_and_baseline_curves"),
}


def test_it_has_the_fifteen_cells() -> None:
    cells = re.findall(r"^# %%\n# (\d+)\. ", NOTEBOOK.read_text(), flags=re.MULTILINE)
    assert cells == [str(number) for number in range(1, 16)]


@pytest.mark.skipif(not (folder() / "model_index.json").is_file(), reason="the bundled model is not in this checkout")
@pytest.mark.parametrize("steps", [6, pytest.param(50, marks=pytest.mark.slow)])
def test_it_runs(steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells as they are but for the number of steps, which the notebook states in one place."""
    source = NOTEBOOK.read_text(encoding="utf-8")
    assert source.count('"num_steps": 50') == 1
    notebook = tmp_path / "notebook.py"
    notebook.write_text(source.replace('"num_steps": 50', f'"num_steps": {steps}'), encoding="utf-8")
    figures = tmp_path / "figures"
    monkeypatch.setattr(sys, "argv", [str(NOTEBOOK), "scenes", "cpu", "float32", str(figures)])
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", torch.backends.cudnn.deterministic)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    mpl.use("agg")
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        cells = runpy.run_path(str(notebook))
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        plt.close("all")

    k_pictures, inverse_pictures = cells["k_runs"]["images"], cells["inv_k_runs"]["images"]
    everything = [*cells["baseline"]["images"], *k_pictures, *inverse_pictures]
    assert len(cells["baseline_expts"][0]["schedule"]) == steps
    assert {picture.size for picture in everything} == {(128, 128)}
    assert len({picture.tobytes() for picture in everything}) == 21
    assert cells["k_runs"]["titles"][:2] == ["k_decay = 0.1", "k_decay = 0.2"]
    assert cells["inv_k_runs"]["titles"][-1] == "inverse k_decay = 5"

    assert {file.stem for file in figures.glob("*.png")} == FIGURES
    for file in figures.glob("*.png"):
        assert np.asarray(Image.open(file).convert("RGB")).std() > 5, file

    schedule = cfglab.Cosine(max=7.5, min=1, k=0.3)
    again = cells["pipeline"].generate(cells["prompt"], schedule, steps=steps)
    inverted = cells["pipeline"].generate(cells["prompt"], schedule.inverted(), steps=steps)
    for picture, drawn in ((again, k_pictures[2]), (inverted, inverse_pictures[2])):
        assert np.abs(np.asarray(picture, dtype=int) - np.asarray(drawn, dtype=int)).max() <= 1
