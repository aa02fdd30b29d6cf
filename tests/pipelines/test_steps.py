"""The step of every denoiser call in a pipeline: against the loop of the pipeline itself, for every sampler it runs."""

import math
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from cfglab.pipelines import guide
from cfglab.step import Step
from tests.pipelines.families import case

SAMPLERS = [
    "CogVideoXDDIMScheduler",
    "DDIMScheduler",
    "DDPMScheduler",
    "DDIMParallelScheduler",
    "DDPMParallelScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
]
TWO = {
    "DPMSolverSDEScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
}
MORE: dict[str, dict[str, Any]] = {
    "LCMScheduler": {"original_inference_steps": 50},
    "TCDScheduler": {"original_inference_steps": 50},
    "PNDMScheduler": {"skip_prk_steps": True},
}


@pytest.fixture(scope="module")
def text() -> Any:
    return case("StableDiffusionPipeline").build()


@pytest.fixture(scope="module")
def image() -> Any:
    return case("StableDiffusionImg2ImgPipeline").build()


@pytest.fixture(params=SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(pipe: Any, cls: str, **arguments: Any) -> tuple[list[Step], list[float]]:
    """Our steps, and the timesteps that the pipeline's own callback is told."""
    name = type(pipe).__name__
    seen: list[float] = []

    def note(_pipe: Any, _index: int, t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        seen.append(float(t))
        return kwargs

    config = {k: v for k, v in pipe.scheduler.config.items() if k in ("beta_start", "beta_end", "beta_schedule")}
    pipe.scheduler = getattr(diffusers, cls)(**config, **MORE.get(cls, {}))
    with guide(pipe, 3.0) as trace:
        case(name).call(pipe, 5.0, callback=note, **arguments)
    return [record.step for record in trace.steps], seen


def check(cls: str, scheduler: Any, steps: list[Step], seen: list[float]) -> None:
    assert [step.timestep for step in steps] == pytest.approx(seen)
    indices, count = [step.index for step in steps], steps[0].count
    assert indices == sorted(indices)
    assert (indices[0], indices[-1], {step.count for step in steps}) == (0, count - 1, {count})
    if cls in TWO:
        assert indices == [call // 2 for call in range(len(steps))]
    elif cls != "PNDMScheduler":
        assert indices == list(range(len(steps)))
    kept = scheduler.alphas_cumprod.double().numpy()
    curve = np.log(np.sqrt((1 - kept) / kept))
    for step, t in zip(steps, seen, strict=True):
        assert step.sigma is not None
        assert math.isclose(step.sigma, math.exp(np.interp(t, np.arange(len(curve)), curve)), rel_tol=0.02)


def test_from_pure_noise(text: Any, sampler: str) -> None:
    steps, seen = run(text, sampler, steps=4)
    check(sampler, text.scheduler, steps, seen)
    assert steps[0].count == 4


def test_from_a_picture(image: Any, sampler: str) -> None:
    steps, seen = run(image, sampler, steps=5, strength=0.6)
    check(sampler, image.scheduler, steps, seen)
    assert steps[0].count == (4 if sampler == "PNDMScheduler" else 3)  # whose list has its second timestep twice


@pytest.mark.parametrize(
    ("sampler", "given"),
    [
        ("EulerDiscreteScheduler", {"timesteps": [900, 500, 100]}),
        ("EulerDiscreteScheduler", {"sigmas": [10.0, 3.0, 1.0, 0.0]}),
        ("DPMSolverMultistepScheduler", {"timesteps": [900, 500, 100]}),
        ("HeunDiscreteScheduler", {"timesteps": [900, 500, 100]}),
    ],
)
def test_ones_own_timesteps_and_sigmas(text: Any, sampler: str, given: dict[str, Any]) -> None:
    steps, seen = run(text, sampler, num_inference_steps=None, **given)
    check(sampler, text.scheduler, steps, seen)
    assert steps[0].count == 3
    if "sigmas" in given:
        assert [step.sigma for step in steps] == pytest.approx(given["sigmas"][:3])


@pytest.mark.parametrize(
    ("name", "sampler", "more"),
    [
        ("StableDiffusion3Pipeline", "FlowMatchEulerDiscreteScheduler", {}),
        ("StableDiffusion3Pipeline", "FlowMatchHeunDiscreteScheduler", {}),
        ("StableDiffusion3Pipeline", "FlowMatchLCMScheduler", {}),
        ("StableDiffusion3Pipeline", "FlowMapEulerDiscreteScheduler", {}),
        ("WanPipeline", "FlowMatchHeunDiscreteScheduler", {}),
        ("WanPipeline", "UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
        ("WanPipeline", "DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
        ("StableDiffusionPipeline", "EDMEulerScheduler", {}),
        ("StableDiffusionPipeline", "EDMDPMSolverMultistepScheduler", {}),
        ("StableDiffusionPipeline", "IPNDMScheduler", {}),
    ],
)
def test_samplers_of_flows_and_of_edm(name: str, sampler: str, more: dict[str, Any]) -> None:
    made = case(name)
    pipe = made.build()
    pipe.scheduler = getattr(diffusers, sampler)(**more)
    seen: list[float] = []

    def note(_pipe: Any, _index: int, t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        seen.append(float(t))
        return kwargs

    with guide(pipe, 3.0) as trace:
        made.call(pipe, 5.0, steps=4, callback=note)
    steps = [record.step for record in trace.steps]
    assert [step.timestep for step in steps] == pytest.approx(seen)
    assert [step.index for step in steps] == [call // 2 if sampler in TWO else call for call in range(len(seen))]
    assert {step.count for step in steps} == {4}
    if hasattr(pipe.scheduler, "sigmas"):
        assert [step.host_sigma for step in steps] == pytest.approx(pipe.scheduler.sigmas[: len(seen)].tolist())


@pytest.mark.parametrize("name", ["FluxPipeline", "WanPipeline", "StableDiffusion3Pipeline", "FluxPipeline-embedded"])
def test_ones_own_sigmas_of_a_flow(name: str) -> None:
    made = case(name)
    if not made.accepts("sigmas"):
        pytest.skip("takes no sigmas")
    pipe = made.build()
    with guide(pipe, 3.0) as trace:
        made.call(pipe, made.scales[1], sigmas=[1.0, 0.7, 0.2], num_inference_steps=3)
    hosts = [step.host_sigma for step in (record.step for record in trace.steps)]
    assert hosts == pytest.approx(pipe.scheduler.sigmas[:3].tolist())
    assert [record.step.index for record in trace.steps] == [0, 1, 2]


@pytest.mark.parametrize("name", ["StableDiffusionImg2ImgPipeline", "FluxImg2ImgPipeline"])
def test_a_run_that_was_broken_off_before(name: str) -> None:
    made = case(name)
    pipe = made.build()

    def stop(_pipe: Any, index: int, _t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if index == 0:
            raise KeyboardInterrupt
        return kwargs

    def interrupt(pipe: Any, index: int, _t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = index == 0
        return kwargs

    whole = made.call(pipe, 3.0, steps=4)
    with guide(pipe, 3.0) as trace:
        with pytest.raises(KeyboardInterrupt):
            made.call(pipe, 5.0, steps=4, callback=stop)
        made.call(pipe, 5.0, steps=4, callback=interrupt)
        assert torch.equal(made.call(pipe, 5.0, steps=4), whole)
    indices = [(record.run, record.step.index) for record in trace.steps]
    last = [index for run, index in indices if run == 2]
    assert last == list(range(trace.steps[-1].step.count))
    assert [run for run, _ in indices if run < 2] == [0, 1]
