"""The models that are known by name: where they are, how large they are, what is set for them, and what they draw."""

import math
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline

import cfglab
from cfglab import scenes
from cfglab.errors import InputError
from cfglab.experiments import Experiment, run
from cfglab.experiments.storage.store import Store
from cfglab.pipelines.loading.model_folder import locate, weights_hash
from cfglab.pipelines.loading.weak_twin import twin
from cfglab.report.terminal.listing import models
from cfglab.scenes.renderer import draw_scenes
from cfglab.scenes.vocabulary import OBJECTS, Scene

PROMPT = "a red car next to a blue balloon"
TWO = f"""
name: two
model: scenes-flow
sampler: euler
steps: 2
prompts: [{PROMPT}]
baseline: {{name: plain, guidance: 3}}
"""


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where cfglab-models is not installed."""
    monkeypatch.setattr(scenes, "find_spec", lambda _: None)


@pytest.fixture(scope="module")
def flow() -> StableDiffusion3Pipeline:
    pipe = cfglab.load("scenes-flow", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.usefixtures("alone")
def test_a_model_that_is_not_installed_is_named_with_its_distribution() -> None:
    with pytest.raises(InputError, match="scenes-flow: it is in the distribution cfglab-models"):
        locate("scenes-flow")
    assert locate("scenes") == scenes.folder()


@pytest.mark.usefixtures("alone")
def test_models_that_are_not_installed_are_not_listed() -> None:
    assert [name for name, _ in models()][:2] == ["scenes", "FOLDER"]


def test_installed_models_are_listed() -> None:
    assert [name for name, _ in models()][:2] == ["scenes", "scenes-flow"]


@pytest.mark.parametrize("name", scenes.MODELS)
def test_a_model_with_its_twin_has_at_most_40_mb(name: str) -> None:
    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert size(scenes.folder(name)) + size(scenes.twin_folder(name)) < 40e6


def test_the_models_differ_in_weights() -> None:
    assert weights_hash(scenes.folder("scenes")) != weights_hash(scenes.folder("scenes-flow"))


def test_one_token_of_the_third_encoder_is_what_an_experiment_asks_for(tmp_path: Path) -> None:
    experiment = Experiment.from_yaml(TWO)
    (_, cell), *_ = experiment.cells()
    assert cell.arguments == {"max_sequence_length": 1}
    run(experiment, tmp_path, device="cpu", quiet=True)
    with Store.open(tmp_path) as store:
        (result,) = store.results()
    assert result.metrics["alignment"] in (0, 1)
    (_, stated), *_ = Experiment.from_yaml(TWO, arguments={"max_sequence_length": 7}).cells()
    assert stated.arguments == {"max_sequence_length": 7}


def test_scenes_flow_draws_what_is_asked_for(flow: StableDiffusion3Pipeline) -> None:
    """The whole image, and colours at the places of the objects' kind; alignment over many is in docs/classifier.md."""
    with cfglab.guide(flow, 4):
        images = flow(
            ["a rose on a blue background"] * 4,
            num_inference_steps=12,
            max_sequence_length=1,
            generator=[noise(seed) for seed in range(4)],
            output_type="np",
        ).images
    assert images.shape == (4, 128, 128, 3)
    border = np.concatenate([images[:, :4].reshape(4, -1, 3), images[:, -4:].reshape(4, -1, 3)], 1).mean((0, 1))
    assert border[2] > border[0] + 0.1, "blue around the object"


def test_the_twin_of_scenes_flow_is_a_smaller_transformer(flow: StableDiffusion3Pipeline) -> None:
    weak = twin(flow.transformer)
    assert isinstance(weak, SD3Transformer2DModel)
    assert weak.num_parameters() < flow.transformer.num_parameters() / 2
    with cfglab.guide(flow, "1 | autoguidance(w=2, model=twin)") as trace:
        flow(PROMPT, num_inference_steps=2, max_sequence_length=1, generator=noise())
    assert [record.rows_run for record in trace.steps] == [2, 2]


@pytest.mark.parametrize("name", ["scenes", "scenes-flow"])
def test_the_autoencoder_gives_scenes_back_in_their_own_colours(name: str) -> None:
    """A decoder that expects latents of another scale gives more contrast than there was."""
    random = Random(5)
    stated = [Scene(a, "and", b) for a, b in zip(OBJECTS[:12], OBJECTS[12:24], strict=True)]
    pixels = draw_scenes(stated, random).float() / 127.5 - 1
    vae = AutoencoderKL.from_pretrained(scenes.folder(name) / "vae").eval()
    with torch.no_grad():
        rebuilt = vae.decode(vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
    contrast = ((pixels - pixels.mean()) * (rebuilt - rebuilt.mean())).mean() / pixels.var()
    assert float(contrast) == pytest.approx(1, abs=0.03)
    error = float((rebuilt - pixels).square().mean())
    assert 10 * math.log10(4 / error) > 30
