"""The steps of a list of sigmas: the noise levels of each path, and the Step of a call wherever a sampler evaluates."""

import math

import pytest
import torch

import cfglab as cl
from cfglab.errors import InputError
from cfglab.hosts import SigmaSteps

GRID = [14.6146, 5.0, 2.0, 0.5, 0.0]


def test_a_vp_network_sees_unit_variance_where_the_host_keeps_the_noise_on_top() -> None:
    run, x0, noise = SigmaSteps(GRID), torch.full((1, 4), 2.0), torch.full((1, 4), -1.0)
    step = run.at(5.0)
    x = x0 + 5.0 * noise
    seen = run.network_input(x, step)
    assert torch.allclose(seen, (x0 + 5.0 * noise) / math.sqrt(26))
    assert torch.allclose(cl.convert(x0, seen, step, "x0", "epsilon"), noise)


def test_a_flow_is_at_pure_noise_where_its_time_is_1() -> None:
    run = SigmaSteps([1.0, 0.75, 0.5, 0.0], "flow")
    assert [step.sigma for step in run.steps] == [math.inf, 3.0, 1.0]
    assert [step.alpha for step in run.steps] == [0.0, 0.25, 0.5]
    assert [step.host_sigma for step in run.steps] == [1.0, 0.75, 0.5]
    x0, noise, step = torch.full((1, 4), 2.0), torch.full((1, 4), -1.0), run.at(0.75)
    x = 0.25 * x0 + 0.75 * noise
    assert run.network_input(x, step) is x
    assert torch.allclose(cl.convert(x0, x, step, "x0", "flow"), noise - x0)


def test_a_flow_whose_host_keeps_the_noise_on_top_is_scaled_as_the_network_sees_it() -> None:
    """Cosmos in ComfyUI: x = x0 + s n outside, (1 - t) x0 + t n inside, t = s / (1 + s)."""
    run, x0, noise = SigmaSteps([80.0, 3.0, 0.0], "flow", "sigma"), torch.full((1, 4), 2.0), torch.full((1, 4), -1.0)
    seen = run.network_input(x0 + 3.0 * noise, run.at(3.0))
    assert torch.allclose(seen, 0.25 * x0 + 0.75 * noise)


def test_an_edm_model_has_its_own_standard_deviation() -> None:
    assert SigmaSteps(GRID, sigma_data=0.5).at(2.0).alpha == pytest.approx(1 / math.hypot(0.5, 2.0))


@pytest.mark.parametrize(
    ("sampler", "sigmas", "indices"),
    [
        ("Euler", [14.6146, 5.0, 2.0, 0.5], [0, 1, 2, 3]),
        (
            "DPM++ SDE, with the midpoints it computes",
            [14.6146, 8.5, 5.000001, 3.16, 1.999999, 1.0],
            [0, 0, 1, 1, 2, 2],
        ),
        ("a step past the last level above 0", [0.5, 0.1, 0.0], [3, 3, 3]),
        ("more noise than at the start", [20.0], [0]),
    ],
)
def test_all_calls_of_a_step_share_its_index(sampler: str, sigmas: list[float], indices: list[int]) -> None:
    run = SigmaSteps(GRID)
    read = [run.at(sigma) for sigma in sigmas]
    assert [step.index for step in read] == indices, sampler
    assert [step.sigma for step in read] == sigmas
    assert [step.next_sigma for step in read] == [GRID[index + 1] for index in indices]


def test_the_second_call_of_heun_belongs_to_the_interval_that_it_ends() -> None:
    run = SigmaSteps(GRID)
    calls = [(14.6146, False), (5.0, True), (5.0, False), (2.000001, True), (2.0, False), (0.5, True), (0.5, False)]
    assert [run.at(sigma, ending=ending).index for sigma, ending in calls] == [0, 0, 1, 1, 2, 2, 3]


def test_a_call_that_looks_ahead_belongs_to_the_step_that_the_host_names() -> None:
    step = SigmaSteps(GRID).evaluated(0, 1.0)
    assert (step.index, step.sigma, step.next_sigma) == (0, 1.0, GRID[1])


def test_a_level_of_the_grid_is_the_same_step_at_every_call() -> None:
    run = SigmaSteps(GRID, timestep=lambda sigma: 100 * sigma)
    assert run.at(2.0) is run.at(2.0) is run.steps[2]
    assert (run.at(2.0).timestep, run.at(1.0).timestep) == (200.0, 100.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SigmaSteps([1.0]), "1 sigmas: a run of n steps has n + 1"),
        (lambda: SigmaSteps([1.0, 2.0, 0.0]), "falls from step to step"),
        (lambda: SigmaSteps([14.6, 0.0], "flow"), "t 14.6: the time of a flow is between 0 and 1"),
        (lambda: SigmaSteps(GRID, "cosine"), "path 'cosine': there are ve, vp, flow"),
        (lambda: SigmaSteps(GRID).at(math.nan), "sigma nan: a noise level is a number"),
    ],
)
def test_levels_that_are_no_run_are_refused_in_one_line(make: object, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("+", r"\+")) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_x0_from_the_host_gives_what_the_networks_own_prediction_gives() -> None:
    """A transform in the model's own parameterization, on a host that gives x0 of a network that predicts v."""
    guidance, run = cl.Guidance("5 | rescale(space='model')"), SigmaSteps(GRID)
    step = run.at(2.0)
    x = 3 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = run.network_input(x, step)
    v = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direct = guidance.start("v").combine(v[0], v[1], step, seen)
    x0 = [cl.convert(each, seen, step, "v", "x0") for each in v]
    hosted = guidance.start("x0", "v").combine(*x0, step, seen)
    assert torch.allclose(cl.convert(hosted, seen, step, "x0", "v"), direct, atol=1e-9)
    wrong = guidance.start("x0").combine(*x0, step, seen)
    assert not torch.allclose(wrong, hosted, atol=1e-3)
