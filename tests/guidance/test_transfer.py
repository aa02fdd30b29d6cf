"""A guidance on other noise levels: the curve over sigma and the effective mean scale stay, exactly on Gaussians."""

import math
from typing import Any

import pytest
import torch

import cfglab as cl
from cfglab import Guidance, levels
from cfglab.errors import InputError
from cfglab.guidance import as_guidance
from cfglab.guidance.names import Space
from cfglab.mixtures.mixture import Mixture
from cfglab.mixtures.noise_paths import flow_levels, karras, noise_steps
from cfglab.mixtures.sampling import integrate
from cfglab.schedules.transfer import integration_weights
from cfglab.step import Step, step_weights

COND, UNCOND = (Mixture([1.0], [[mean]], 1.0) for mean in (1.0, 0.0))
FALL = "linear(max=9, min=1)"


def mean_end(guidance: Any, run: list[Step], method: Any = "euler") -> float:
    """The mean of guided samples of N(0, 1) towards N(1, 1): samples in pairs of opposite noise, so without chance."""
    step = run[0]
    noise = 1.0 if math.isinf(float(step.sigma or 0.0)) else float(step.sigma or 0.0) * float(step.alpha or 0.0)
    start = torch.tensor([[1.3], [-1.3]], dtype=torch.float64) * noise
    space: Space = "flow" if math.isinf(float(step.sigma or 0.0)) else "epsilon"
    return float(integrate(COND, UNCOND, as_guidance(guidance), run, start, method, space=space).mean())


RUNS = {
    "flow": lambda n: noise_steps(flow_levels(n), "flow"),
    "karras": lambda n: noise_steps(karras(n), "vp"),
}


@pytest.mark.parametrize("source", RUNS)
@pytest.mark.parametrize("target", RUNS)
@pytest.mark.parametrize("steps", [3, 8, 12, 25, 50])
def test_the_guided_mean_over_the_conditional_mean_stays_exactly_after_a_transfer(
    source: str, target: str, steps: int
) -> None:
    before, after = RUNS[source](25), RUNS[target](steps)
    moved = Guidance(FALL).transferred(before, after)
    ratios = [mean_end(g, run) / mean_end(1.0, run) for g, run in ((Guidance(FALL), before), (moved, after))]
    assert ratios[1] == pytest.approx(ratios[0], rel=1e-8)


@pytest.mark.parametrize("target", RUNS)
def test_the_result_itself_equals_to_the_integration_error(target: str) -> None:
    before, after = RUNS["karras"](100), RUNS[target](50)
    moved = Guidance(FALL).transferred(before, after)
    error = abs(mean_end(1.0, after) - mean_end(1.0, before))
    change = abs(mean_end(moved, after) - mean_end(FALL, before))
    assert change <= 1.01 * error * mean_end(FALL, before) / mean_end(1.0, before)


def test_without_a_transfer_another_shift_of_sigma_moves_the_result() -> None:
    before = noise_steps(flow_levels(25), "flow")
    shifted = [7 * t / (1 + 6 * t) for t in (1 - index / 25 for index in range(25))]
    sigmas = [math.inf if t == 1 else t / (1 - t) for t in shifted]
    after = noise_steps([*sigmas, 0.0], "flow")
    moved = Guidance(FALL).transferred(before, after)
    assert abs(mean_end(FALL, after) - mean_end(FALL, before)) > 0.5
    assert mean_end(moved, after) == pytest.approx(mean_end(FALL, before), rel=1e-8)


def test_with_samplers_of_second_order_the_exact_weights_leave_their_small_error() -> None:
    before, after = RUNS["karras"](50), RUNS["karras"](20)
    moved = Guidance(FALL).transferred(before, after, integration="exact")
    assert mean_end(moved, after, "heun") == pytest.approx(mean_end(FALL, before, "heun"), rel=0.02)


@pytest.mark.parametrize("integration", ["euler", "exact"])
def test_the_weights_are_the_derivatives_of_a_run_and_tend_to_the_integral(integration: Any) -> None:
    run = RUNS["karras"](2000)
    assert integration_weights(run, 1.0, integration)[::100] == pytest.approx(
        step_weights([*(float(step.sigma or 0) for step in run), 0.0])[::100], rel=0.05, abs=1e-5
    )
    few = RUNS["karras"](6)
    weights = integration_weights(few)
    base = mean_end(cl.Table([1.0] * 6), few)
    for index in range(6):
        bumped = [1.0] * 6
        bumped[index] = 2.0
        assert (mean_end(cl.Table(bumped), few) - base) / base == pytest.approx(weights[index], abs=1e-9)


def test_the_ancestral_weights_are_the_derivatives_of_the_mean_of_an_ancestral_run() -> None:
    few = RUNS["karras"](6)
    x, noise = torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 6, 1, dtype=torch.float64)
    ends = []
    for scales in [[1.0] * 6, *([1.0 + (index == k) for index in range(6)] for k in range(6))]:
        guidance = Guidance(cl.Table(scales))
        ends.append(float(integrate(COND, UNCOND, guidance, few, x, "ancestral", noise=noise)))
    derivatives = [(end - ends[0]) / ends[0] for end in ends[1:]]
    assert integration_weights(few, integration="ancestral") == pytest.approx(derivatives, abs=1e-9)


def test_the_same_levels_leave_every_scale_as_it_is() -> None:
    run = levels("sd", 20)
    assert Guidance(FALL).transferred(run, run).schedule.values(20) == pytest.approx(cl.parse(FALL).values(20))


def test_the_curve_over_sigma_stays() -> None:
    before, after = levels("sd", 40), levels("edm", 30)
    curve = {float(step.sigma or 0): w for step, w in zip(before.steps, cl.parse(FALL).values(40), strict=True)}
    moved = Guidance(FALL).transferred(before, after).schedule.values(30)
    for step, w in zip(after.steps, moved, strict=True):
        if 0.1 < float(step.sigma or 0) < 10:
            nearest = min(curve, key=lambda sigma: abs(math.log(sigma / float(step.sigma or 1))))
            assert w == pytest.approx(curve[nearest], abs=0.6)


def test_a_constant_and_the_transforms_stay_themselves() -> None:
    guidance = Guidance("7.5 | apg() | rescale(strength=0.7)")
    assert guidance.transferred(levels("flow", 50), levels("sd", 8)) == guidance


def test_a_window_keeps_its_place_over_sigma_and_stays_a_window() -> None:
    moved = Guidance("constant(5).inside(progress=(0.2, 0.6)) | apg()").transferred(levels("sd", 50), levels("sd", 10))
    on = [moved.schedule.is_on(step) for step in levels("sd", 10).steps]
    sigmas = [float(step.sigma or 0) for step, flag in zip(levels("sd", 10).steps, on, strict=True) if flag]
    window = levels("sd", 50).steps[10:30]
    assert max(sigmas) <= 1.5 * float(window[0].sigma or 0)
    assert min(sigmas) >= float(window[-1].sigma or 0) / 1.5
    assert not on[0]
    assert not on[-1]
    assert ".inside(steps=(2, " in str(moved)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Guidance(FALL).transferred(3, levels("flow", 4)), "from_levels 3: they are the levels of a run"),
        (lambda: Guidance(FALL).transferred(levels("flow", 4), cl.steps(4)), "to_levels: its steps have no sigma"),
        (lambda: Guidance(FALL).transferred([3, 5, 0], levels("flow", 4)), "from_levels: sigma 3.0 followed by 5.0"),
        (lambda: Guidance([5, 4, 3]).transferred(levels("flow", 8), levels("flow", 4)), "a list of 3 scales"),
        (lambda: Guidance(FALL).transferred(levels("flow", 8), levels("flow", 4), s=0), "s = 0"),
        (
            lambda: Guidance(FALL).transferred(levels("flow", 8), levels("flow", 4), integration="eulr"),  # type: ignore[arg-type]
            "did you mean euler?",
        ),
        (
            lambda: Guidance("constant(5).inside(sigma=(90, 99))").transferred(levels("sd", 8), levels("sd", 4)),
            "is off at every step of from_levels",
        ),
    ],
)
def test_levels_that_do_not_fit_are_one_line(call: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
