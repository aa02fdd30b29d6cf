"""The Step of every denoiser call, on every sampler that runs with Stable Diffusion."""

import math
from functools import cache
from itertools import pairwise
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from cfglab.denoising.step_reader import StepReader, prediction_of, read_steps
from cfglab.errors import InputError
from cfglab.guidance.parameterization import convert
from cfglab.step import Step

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
N = 6
ONE = [0, 1, 2, 3, 4, 5]
TWO = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
CASES: dict[str, tuple[str, dict[str, Any], list[int]]] = {
    "ddim": ("DDIMScheduler", {"steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}, ONE),
    "ddim trailing": ("DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}, ONE),
    "ddpm": ("DDPMScheduler", {}, ONE),
    "deis": ("DEISMultistepScheduler", {}, ONE),
    "dpm++2m": ("DPMSolverMultistepScheduler", {}, ONE),
    "dpm++2m karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, ONE),
    "dpm++2m sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, ONE),
    "dpm++2m to sigma_min": ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min"}, ONE),
    "dpm++ single": ("DPMSolverSinglestepScheduler", {}, ONE),
    "euler": ("EulerDiscreteScheduler", {}, ONE),
    "euler karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, ONE),
    "euler ancestral": ("EulerAncestralDiscreteScheduler", {}, ONE),
    "heun": ("HeunDiscreteScheduler", {}, TWO),
    "heun karras": ("HeunDiscreteScheduler", {"use_karras_sigmas": True}, TWO),
    "kdpm2": ("KDPM2DiscreteScheduler", {}, TWO),
    "kdpm2 ancestral": ("KDPM2AncestralDiscreteScheduler", {}, TWO),
    "lcm": ("LCMScheduler", {"original_inference_steps": 50}, ONE),
    "lms": ("LMSDiscreteScheduler", {}, ONE),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}, [0, 0, 1, 2, 3, 4, 5]),
    "pndm with its Runge-Kutta start": ("PNDMScheduler", {}, [0] * 4 + [1] * 4 + [2] * 4 + [3, 4, 5]),
    "sa-solver": ("SASolverScheduler", {}, ONE),
    "tcd": ("TCDScheduler", {"original_inference_steps": 50}, ONE),
    "unipc": ("UniPCMultistepScheduler", {}, ONE),
}


def make(case: str) -> Any:
    name, settings, _ = CASES[case]
    return getattr(diffusers, name)(**SD, **settings)


@cache
def sample(case: str) -> tuple[Any, list[tuple[Step, float, torch.Tensor, torch.Tensor]]]:
    """Run a loop as StableDiffusionPipeline does; for each call its Step, the timestep, and the latents it was at
    before and after `scale_model_input`. The model is exact for data that are all 0: epsilon = x / (alpha sigma)."""
    scheduler = make(case)
    scheduler.set_timesteps(N)
    reader, seen = StepReader(scheduler), []
    generator = torch.Generator().manual_seed(0)
    latents = torch.full((1, 4, 2, 2), 0.5) * scheduler.init_noise_sigma
    kwargs = {"generator": generator} if "generator" in scheduler.step.__code__.co_varnames else {}
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, t)
        step = reader.next()
        seen.append((step, float(t), latents, scaled))
        noise = scaled / max(1e-6, (step.alpha or 1) * (step.sigma or 1))
        latents = scheduler.step(noise, t, latents, **kwargs, return_dict=False)[0]
    return scheduler, seen


@pytest.mark.parametrize("case", CASES)
def test_index_sigma_and_alpha_of_every_call(case: str) -> None:
    scheduler, seen = sample(case)
    kept = scheduler.alphas_cumprod.double().numpy()
    curve = np.sqrt((1 - kept) / kept)
    assert [step.index for step, *_ in seen] == CASES[case][2]
    for step, t, latents, scaled in seen:
        assert step.count == N
        assert step.timestep == t
        assert step.sigma is not None
        expected = np.exp(np.interp(t, np.arange(len(curve)), np.log(curve)))  # noise over signal at this timestep
        exact = "karras" not in case  # those round the timestep, not sigma
        assert math.isclose(step.sigma, expected, rel_tol=0.02 if exact else 0.3), (step, expected)
        assert step.alpha is not None
        assert math.isclose(step.alpha, 1 / math.sqrt(1 + step.sigma**2), rel_tol=1e-6)
        if not torch.equal(scaled, latents):  # the sampler works on x / alpha: it divides by the sigma of the call
            torch.testing.assert_close(scaled, latents * step.alpha, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_next_sigma_is_where_the_next_interval_starts(case: str) -> None:
    scheduler, seen = sample(case)
    steps = [step for step, *_ in seen]
    starts = {step.index: step.sigma for step in reversed(steps)}
    for step in steps:
        if step.index + 1 < N:
            assert step.next_sigma == pytest.approx(starts[step.index + 1], rel=1e-6)
    final = getattr(scheduler, "final_alpha_cumprod", torch.tensor(1.0)).item()
    last = steps[-1].next_sigma
    if case in ("dpm++2m to sigma_min", "deis", "sa-solver"):
        assert last == pytest.approx(math.sqrt((1 - 0.99915) / 0.99915), rel=1e-3)
    else:
        assert last == pytest.approx(math.sqrt((1 - final) / final), rel=1e-5)


@pytest.mark.parametrize(
    "case",
    [
        "ddim",
        "deis",
        "dpm++2m",
        "dpm++2m karras",
        "dpm++ single",
        "euler",
        "euler karras",
        "heun",
        "kdpm2",
        "lms",
        "unipc",
    ],
)
def test_noise_falls_as_the_sampler_says(case: str) -> None:
    """With data that are all 0 the latents are pure noise, so a deterministic sampler scales them (over alpha) by
    next_sigma / sigma in every interval: an independent look at where an interval starts and ends."""
    scheduler, every = sample(case)
    seen = [one for position, one in enumerate(every) if scheduler.order == 1 or position % 2 == 0]
    for (now, _, before, scaled), (_, _, after, _) in pairwise(seen):
        then = now.next_sigma or 0
        works_on_x = torch.equal(before, scaled)  # else on x / alpha
        kept = math.sqrt((1 + (now.sigma or 0) ** 2) / (1 + then**2)) if works_on_x else 1.0
        assert (after / before).mean().item() == pytest.approx(then / (now.sigma or 1) * kept, rel=0.01)


def test_a_second_run_starts_again_even_after_an_interrupted_one() -> None:
    scheduler = make("heun")
    reader = StepReader(scheduler)
    scheduler.set_timesteps(N)
    assert [reader.next().index for _ in range(5)] == TWO[:5]
    scheduler.set_timesteps(3)
    assert [reader.next().index for _ in range(5)] == [0, 0, 1, 1, 2]
    assert reader.call == 4
    scheduler.set_timesteps(3)
    assert reader.next().count == 3


def test_one_call_too_many_is_said() -> None:
    scheduler = make("euler")
    scheduler.set_timesteps(2)
    reader = StepReader(scheduler)
    reader.next()
    reader.next()
    with pytest.raises(InputError, match=r"denoiser call 3 of a run of 2 calls: .*set_timesteps"):
        reader.next()


@pytest.mark.parametrize(("case", "begin", "indices"), [("euler", 2, [0, 1, 2, 3]), ("heun", 4, [0, 0, 1, 1, 2, 2, 3])])
def test_a_run_that_begins_later_is_a_shorter_run(case: str, begin: int, indices: list[int]) -> None:
    scheduler = make(case)
    scheduler.set_timesteps(N)
    whole = read_steps(scheduler)
    scheduler.set_begin_index(begin)
    steps = read_steps(scheduler)
    assert [step.index for step in steps] == indices
    assert {step.count for step in steps} == {4}
    assert [step.sigma for step in steps] == [step.sigma for step in whole[begin:]]


def test_flow_matching_is_turned_into_noise_over_signal() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    steps = read_steps(scheduler)
    t = [float(s) for s in scheduler.sigmas]
    assert [step.host_sigma for step in steps] == pytest.approx(t[:4])
    assert steps[0].sigma == math.inf
    assert [step.sigma for step in steps[1:]] == pytest.approx([s / (1 - s) for s in t[1:4]])
    assert [step.alpha for step in steps] == pytest.approx([1 - s for s in t[:4]])
    assert steps[-1].next_sigma == 0


def test_edm_samplers_scale_by_sigma_data() -> None:
    scheduler = diffusers.EDMEulerScheduler(sigma_data=0.5)
    scheduler.set_timesteps(4)
    reader = StepReader(scheduler)
    ones = torch.ones(1)
    for t in scheduler.timesteps[:1]:
        step = reader.next()
        assert step.alpha == pytest.approx(scheduler.scale_model_input(ones, t).item(), rel=1e-5)
    assert prediction_of(scheduler) == "edm"


PRECONDITIONED = [
    (diffusers.CosineDPMSolverMultistepScheduler, 1.0, "v_prediction", "v"),  # Stable Audio Open
    (diffusers.CosineDPMSolverMultistepScheduler, 1.0, "epsilon", "edm"),
    (diffusers.EDMDPMSolverMultistepScheduler, 0.5, "epsilon", "edm"),  # Playground 2.5
    (diffusers.EDMDPMSolverMultistepScheduler, 1.0, "v_prediction", "v"),
    (diffusers.EDMEulerScheduler, 0.5, "epsilon", "edm"),  # Cosmos 1
    (diffusers.EDMEulerScheduler, 2.0, "epsilon", "edm"),
]


@pytest.mark.parametrize(("kind", "data", "prediction_type", "space"), PRECONDITIONED)
def test_the_clean_image_of_a_preconditioned_network_is_that_of_its_scheduler(
    kind: Any, data: float, prediction_type: str, space: Any
) -> None:
    scheduler = kind(sigma_data=data, prediction_type=prediction_type)
    assert prediction_of(scheduler) == space
    scheduler.set_timesteps(6)
    reader, generator = StepReader(scheduler), torch.Generator().manual_seed(0)
    for index, t in enumerate(scheduler.timesteps):
        sample, output = (torch.randn(2, 3, 4, generator=generator) for _ in range(2))
        sample, sigma = sample * scheduler.sigmas[index], scheduler.sigmas[index]
        scheduler._step_index = index
        step, model_input = reader.next(), scheduler.scale_model_input(sample, t)
        expected = scheduler.precondition_outputs(sample, output, sigma)
        if hasattr(scheduler, "convert_model_output"):
            assert torch.equal(scheduler.convert_model_output(output, sample), expected)
        got = convert(output, model_input, step, space, "x0")
        torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4 * float(expected.abs().max()))
        back = convert(got.double(), model_input.double(), step, "x0", space)
        torch.testing.assert_close(back, output.double(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.EDMDPMSolverMultistepScheduler(sigma_data=0.5, prediction_type="v_prediction"),
        diffusers.EDMDPMSolverMultistepScheduler(sigma_data=0.5, prediction_type="sample"),
        diffusers.SCMScheduler(),
    ],
)
def test_other_predictions_beside_sigma_data_are_not_guessed(scheduler: Any) -> None:
    assert prediction_of(scheduler) == "model"


@pytest.mark.parametrize(
    ("scheduler", "prediction"),
    [
        (diffusers.DDIMScheduler(), "epsilon"),
        (diffusers.DDIMScheduler(prediction_type="v_prediction"), "v"),
        (diffusers.DDIMScheduler(prediction_type="sample"), "x0"),
        (diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True), "flow"),
        (diffusers.FlowMatchEulerDiscreteScheduler(), "flow"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_prediction_of(scheduler: Any, prediction: str) -> None:
    assert prediction_of(scheduler) == prediction
