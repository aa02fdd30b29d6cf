"""The negative prompt of an experiment reaches the model: in a pipeline as text, in a mixture as a class."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cfglab.experiments.backends.load import load_backend
from cfglab.experiments.execution.run import run
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.png import read_pixels, read_record
from cfglab.pipelines import load

YAML = """
name: negative
prompts: [a cat]
seeds: 3
steps: 2
sampler: ddim
baseline: {name: constant, guidance: 4}
"""


def only_cell(experiment: Experiment) -> Cell:
    ((_, cell),) = experiment.cells()
    return cell


def by_diffusers(pipe: Any, cell: Cell) -> np.ndarray:
    """The image of the untouched pipeline, called as its documentation says; uint8 (h, w, 3)."""
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator("cpu").manual_seed(cell.seed))
    image = pipe(
        prompt=cell.prompt,
        negative_prompt=cell.negative,
        guidance_scale=4.0,
        num_inference_steps=cell.steps,
        latents=noise,
        output_type="pil",
    ).images[0]
    return np.asarray(image)


@pytest.mark.parametrize("negative", ["a dog", ""])
def test_an_image_with_a_negative_prompt_is_the_image_that_diffusers_generates_with_it(
    tiny: Path, tmp_path: Path, negative: str
) -> None:
    experiment = Experiment.from_yaml(YAML, model=str(tiny), negative=negative)
    cell = only_cell(experiment)
    done = run(experiment, tmp_path / "run", "cpu", score=False, quiet=True)
    image = tmp_path / "run" / "images" / f"{cell.id}.png"
    assert (done.drawn, read_record(image).cell.negative) == (1, negative)
    pipe = load(str(tiny), device="cpu", sampler="ddim")
    pipe.set_progress_bar_config(disable=True)
    generated, expected = read_pixels(image).astype(int), by_diffusers(pipe, cell).astype(int)
    assert np.abs(generated - expected).max() <= 1
    opposite = by_diffusers(pipe, cell.model_copy(update={"negative": "a dog" if not negative else ""}))
    assert np.abs(generated - opposite).max() > 1  # so that an ignored negative prompt would be noticed


def test_the_negative_prompt_of_a_mixture_is_the_class_that_guidance_moves_away_from() -> None:
    fields = {"prompts": ["class 0"], "sampler": "euler", "steps": 4, "model": "mixture:tree"}
    backend = load_backend("mixture:tree", device="cpu", dtype="float32", sampler="euler", compiled=False)
    pixels = {
        negative: backend.generate([only_cell(Experiment.from_yaml(YAML, **fields, negative=negative))]).pixels
        for negative in ("", "class 0", "class 1")
    }
    unguided = Experiment.from_yaml(YAML, **fields, set={"baseline.guidance": 1})
    assert np.array_equal(pixels["class 0"], backend.generate([only_cell(unguided)]).pixels)  # cond - uncond is 0
    assert not np.array_equal(pixels["class 1"], pixels[""])
    assert not np.array_equal(pixels["class 1"], pixels["class 0"])
