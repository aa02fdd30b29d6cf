"""The bundled model under every sampler that people switch to: it draws what the prompt says."""

import pytest
import torch

from cfglab.pipelines import guide, load
from cfglab.scenes.alignment import prompt_alignment
from cfglab.scenes.classifier import SceneClassifier

PROMPTS = ["a rose", "a cat above a car", "a frog next to a mushroom on a green background", "a moon"]


@pytest.mark.usefixtures("models_read_once")
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "deis", "dpm++2m", "euler", "euler-a", "lms", "pndm", "unipc"])
def test_a_sampler_draws_the_prompts(sampler: str) -> None:
    pipe = load("scenes", device="cpu", sampler=sampler)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(PROMPTS))]
    with guide(pipe, 2.5):
        pictures = pipe(PROMPTS, num_inference_steps=15, generator=generators, output_type="pt").images
    read = SceneClassifier.load(2).classify(pictures * 2 - 1)
    aligned = [prompt_alignment(prompt, one)["alignment"] for prompt, one in zip(PROMPTS, read, strict=True)]
    assert sum(aligned) >= 3
