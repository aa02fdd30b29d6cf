"""SAG through guide() against diffusers' own pipeline of it, whole runs; and the rows it counts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.pipelines.deprecated.stable_diffusion_sag.pipeline_stable_diffusion_sag import StableDiffusionSAGPipeline

from cfglab.guidance.perturbations.blurred_sample import BlurredSample, _attended
from cfglab.pipelines import guide, load
from cfglab.step import Step
from tests.pipelines.families import case
from tests.pipelines.test_builders import shared


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


WIDER = [
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionXLInstructPix2PixPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionDepth2ImgPipeline",
    "StableDiffusionUpscalePipeline",
]
"""Their UNets are given an image or a mask in channels behind those that they predict."""


class Inside(torch.nn.Module):
    """A UNet that puts such channels behind its sample itself."""

    def __init__(self, unet: Any, beside: torch.Tensor) -> None:
        super().__init__()
        self.unet, self.beside = unet, beside

    def forward(self, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.unet(torch.cat([sample, self.beside], 1), *args, **kwargs)


@pytest.mark.parametrize("name", WIDER)
def test_channels_beside_the_predicted_ones_stay_as_they_are(name: str) -> None:
    made, calls = case(name), list[Any]()
    pipe = shared(made)
    with guide(pipe, "3"):
        plain = made.call(pipe, 5.0, steps=2)
    hook = pipe.unet.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    with guide(pipe, "3 | sag(s=2)", share_rows=True):  # the hook mixes none
        got = made.call(pipe, 5.0, steps=2)
    hook.remove()
    assert (got - plain).abs().max() > 1e-3
    args, kwargs = calls[0]
    channels = pipe.unet.config.out_channels
    sample, beside = args[0][:, :channels], args[0][:, channels:]
    assert beside.shape[1] > 0
    step = Step(2, 5, timestep=500.0, sigma=1.0, alpha=0.7)
    blurred = BlurredSample("uncond", step, 1.0, "epsilon")
    with torch.no_grad(), blurred.applied(pipe.unet) as unet:
        theirs = unet(*args, **kwargs)[0]
    with torch.no_grad(), blurred.applied(Inside(pipe.unet, beside)) as inside:
        expected = inside(sample, *args[1:], **kwargs)[0]
    torch.testing.assert_close(theirs, expected, rtol=1e-5, atol=1e-6)


def test_the_attention_of_grouped_heads_is_that_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """DreamLite: fewer heads of keys than of queries, both normalized."""
    made = case("DreamLitePipeline")
    pipe, products, found = shared(made), list[Any](), list[Any]()
    product = torch.nn.functional.scaled_dot_product_attention
    name, attention = next(
        (name, part) for name, part in pipe.unet.named_modules() if "mid_block" in name and name.endswith("attn1")
    )
    assert attention.to_k.out_features < attention.to_q.out_features, name
    assert attention.norm_q is not None

    def recorded(query: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        products.append((query, key))
        return product(query, key, *args, **kwargs)

    def attended(*given: Any) -> Any:
        found.append(_attended(*given))
        return found[-1]

    monkeypatch.setattr("cfglab.guidance.perturbations.blurred_sample._attended", attended)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recorded)
    expected = list[Any]()

    def note(*_: Any) -> None:
        query, key = products[-1]
        weights = (query @ key.transpose(2, 3) * query.shape[-1] ** -0.5).softmax(-1)
        expected.append((weights.mean(1).sum(1) > 1).float())

    handle = attention.register_forward_hook(note)
    with guide(pipe, "3 | sag(s=2)", share_rows=True):  # the hook mixes none
        made.call(pipe, 5.0, steps=2)
    handle.remove()
    assert len(found) == 1  # at pure noise, the first step, there is no image to blur
    assert any(torch.equal(found[0], one) for one in expected)
    assert 0 < found[0].mean() < 1
