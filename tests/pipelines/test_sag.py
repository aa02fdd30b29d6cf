"""SAG through guide() against diffusers' own pipeline of it, whole runs; and the rows it counts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.pipelines.deprecated.stable_diffusion_sag.pipeline_stable_diffusion_sag import StableDiffusionSAGPipeline

from cfglab.pipelines import guide, load


@pytest.fixture(scope="module")
def pipe(tiny_folder: Path) -> Any:
    pipe = load(str(tiny_folder), sampler="ddim")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, **given: Any) -> torch.Tensor:
    generator = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    return pipe(["a cat", "a dog"], num_inference_steps=3, generator=generator, output_type="latent", **given).images


@pytest.mark.parametrize("w", [5.0, 1.0])
def test_a_run_is_the_run_of_diffusers(pipe: Any, w: float) -> None:
    theirs = StableDiffusionSAGPipeline(**pipe.components)
    theirs.set_progress_bar_config(disable=True)
    assert isinstance(theirs.scheduler, DDIMScheduler)
    expected = draw(theirs, guidance_scale=w, sag_scale=2.0)
    assert (draw(theirs, guidance_scale=w, sag_scale=0.0) - expected).abs().max() > 1e-3
    with guide(pipe, f"{w} | sag(s=2, of={'uncond' if w > 1 else 'cond'})") as trace:
        got = draw(pipe, guidance_scale=5.0)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    assert [one.rows_run for one in trace.steps] == [8 if w > 1 else 6] * 3  # of two images
    assert [one.rows_varied for one in trace.steps] == [4] * 3
    assert [sum(run for run, _ in one.shares) for one in trace.steps] == [one.rows_run for one in trace.steps]
    assert [one.rows_saved for one in trace.steps] == [0 if w > 1 else 2] * 3
