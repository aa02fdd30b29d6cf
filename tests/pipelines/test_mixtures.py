"""The schedulers of diffusers on exact mixtures: they sample the class, and ours are theirs."""

import math
from typing import Any

import diffusers
import pytest
import torch

from cfglab.denoising.step_reader import read_steps
from cfglab.errors import InputError
from cfglab.guidance import APG, Guidance
from cfglab.mixtures.noise_paths import Path, noise_steps
from cfglab.mixtures.sampling import integrate
from cfglab.mixtures.toys import modes, two
from cfglab.pipelines.loading.samplers import SAMPLERS, make_sampler
from cfglab.pipelines.mixture_sampling import scheduled
from cfglab.schedules import Cosine

CONFIG = diffusers.DDIMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False
).config
MIXTURE = two(2).mixture
CLASS = MIXTURE.of_class(0)


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"lcm"}))
def test_every_sampler_draws_the_class(name: str) -> None:
    """N((1, 1), 0.25 I), unguided; lcm is not among them, as it wants a distilled model."""
    count = 1000
    x = scheduled(make_sampler(name, CONFIG), CLASS, MIXTURE, 1, 100, range(count), start=CLASS)
    assert ((x.mean(0) - 1).abs() < 4 * 0.5 / math.sqrt(count) + 0.01).all()
    assert ((x.var(0) - 0.25).abs() < 4 * 0.25 * math.sqrt(2 / count) + 0.015).all()


@pytest.mark.parametrize("name", ["ddim", "euler", "euler-a", "ddpm", "heun", "dpm++2m-sde"])
def test_a_sample_is_the_same_in_every_batch(name: str) -> None:
    guidance = Guidance(Cosine(max=6, min=1), [APG(momentum=-0.3)])
    whole = scheduled(make_sampler(name, CONFIG), CLASS, MIXTURE, guidance, 8, range(5))
    alone = scheduled(make_sampler(name, CONFIG), CLASS, MIXTURE, guidance, 8, [3])
    assert torch.allclose(whole[3:4], alone, atol=1e-6)
    assert not torch.allclose(whole[0], whole[1])


@pytest.mark.parametrize(
    ("scheduler", "path", "space"),
    [
        (make_sampler("ddim", CONFIG), "vp", "epsilon"),
        (make_sampler("euler", CONFIG), "ve", "epsilon"),
        (make_sampler("heun", CONFIG), "ve", "epsilon"),
        (diffusers.DDIMScheduler.from_config(CONFIG, prediction_type="v_prediction"), "vp", "v"),
        (diffusers.DDIMScheduler.from_config(CONFIG, prediction_type="sample"), "vp", "x0"),
        (diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), "flow", "flow"),
    ],
    ids=["ddim", "euler", "heun", "v", "x0", "flow"],
)
def test_our_steps_are_theirs(scheduler, path: Path, space: str) -> None:
    """From the same point, with a schedule and a transform, on each path and in each prediction type."""
    guidance = Guidance(Cosine(max=6, min=1, k=0.5), [APG(momentum=-0.3, norm_threshold=0.7)])
    if "Heun" in type(scheduler).__name__:
        guidance = Guidance(
            Cosine(max=6, min=1, k=0.5)
        )  # their second call of a step adds to the momentum, ours does too
    theirs = scheduled(scheduler, CLASS, MIXTURE, guidance, 12, range(6), start=CLASS)
    scheduler.set_timesteps(12)
    read = read_steps(scheduler)
    levels = [*dict.fromkeys(float(step.sigma) for step in read), float(read[-1].next_sigma)]
    steps = noise_steps(levels, path)
    from cfglab.mixtures.noise_paths import noise_of, random_numbers

    a, n = noise_of(steps[0])
    uniform, normal, noise = random_numbers(range(6), 1, 2, 2)
    x = a * CLASS.sample_from(uniform, normal) + n * noise
    method = "heun" if "Heun" in type(scheduler).__name__ else "euler"
    ours = integrate(CLASS, MIXTURE, guidance, steps, x, method, space=space)  # type: ignore[arg-type]
    if levels[-1] > 0:
        assert levels[-1] < 0.05  # DDIM ends at its first level, in the units of alpha there
    assert torch.allclose(theirs.double(), ours, atol=2e-4)


@pytest.mark.parametrize("fields", [{}, {"prediction_type": "v_prediction", "sigma_data": 1.0}])
def test_a_preconditioned_sampler_draws_the_class(fields: dict[str, Any]) -> None:
    """EDM's preconditioning of arXiv:2206.00364, as Playground 2.5 and Stable Audio have it."""
    x = scheduled(diffusers.EDMEulerScheduler(**fields), CLASS, MIXTURE, 1, 100, range(1000), start=CLASS)
    assert torch.allclose(x.mean(0), torch.ones(2, dtype=x.dtype), atol=0.05)
    assert torch.allclose(x.std(0), torch.full((2,), 0.5, dtype=x.dtype), atol=0.05)


def test_guidance_does_to_modes_what_it_does_without_diffusers() -> None:
    """The small mode shrinks and the mean overshoots, as with our own steps."""
    whole = modes()
    given = whole.of_class(0)
    plain, strong = (
        scheduled(make_sampler("euler", CONFIG), given.mixture, whole.mixture, w, 50, range(1500)) for w in (1, 4)
    )
    masses = [given.shares(given.mixture.components(x)).mean(0)[1].item() for x in (plain, strong)]
    assert masses[0] == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 1500))
    assert masses[1] < masses[0] - 0.03
    assert strong[:, 0].mean() > plain[:, 0].mean() + 0.1


def test_what_cannot_be_sampled_is_refused() -> None:
    with pytest.raises(InputError, match="prediction type"):
        scheduled(diffusers.EDMEulerScheduler(prediction_type="v_prediction"), CLASS, MIXTURE, 1, 4, [0])
    with pytest.raises(InputError, match="give dimension="):
        scheduled(make_sampler("ddim", CONFIG), object(), MIXTURE, 1, 4, [0])  # type: ignore[arg-type]
