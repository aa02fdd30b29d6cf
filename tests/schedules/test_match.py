"""Doses, against the published numbers and the exact law they come from; and the same shape at another dose."""

import itertools
import math

import numpy as np
import pytest

from cfglab.errors import InputError, NotMatchable
from cfglab.schedules import Constant, Cosine, Linear, Table, as_schedule, step_weights


def stable_diffusion(n=50):
    """The n + 1 levels of Stable Diffusion 1.x's Euler sampler: scaled-linear betas, timesteps 999 to 0."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    sigmas = np.sqrt((1 - alphas) / alphas)
    return [*np.interp(np.linspace(999, 0, n), np.arange(1000), sigmas).tolist(), 0.0]


SIGMAS = stable_diffusion()
PUBLISHED = {  # s: the effective doses for k = 0.1, 0.5, 1, 2, 5, decreasing and inverted
    1.0: ((1.23, 2.85, 4.36, 5.83, 6.96), (7.27, 5.66, 4.14, 2.68, 1.54)),
    0.3: ((1.08, 1.72, 2.49, 3.58, 5.22), (7.42, 6.79, 6.01, 4.92, 3.28)),
}


def test_the_levels_are_those_of_the_publication():
    assert [SIGMAS[i] for i in (0, 10, 25, 40, 49)] == pytest.approx([14.61, 5.00, 1.56, 0.533, 0.029], rel=6e-3)


@pytest.mark.parametrize(
    ("s", "shares"), [(1.0, (0.13, 0.22, 0.26, 0.22, 0.12)), (0.3, (0.04, 0.07, 0.13, 0.23, 0.51))]
)
def test_shares_of_ten_steps(s, shares):
    covered = 1 - s / math.hypot(s, SIGMAS[0])
    weights = step_weights(SIGMAS, s)
    assert [covered * sum(weights[i : i + 10]) for i in range(0, 50, 10)] == pytest.approx(shares, abs=0.0105)
    assert math.fsum(weights) == pytest.approx(1)


@pytest.mark.parametrize("s", PUBLISHED)
def test_effective_doses_of_the_k_sweep(s):
    falling = [Cosine(k=k).effective_dose(SIGMAS, s) for k in (0.1, 0.5, 1, 2, 5)]
    rising = [Cosine(k=k).inverted().effective_dose(SIGMAS, s) for k in (0.1, 0.5, 1, 2, 5)]
    assert falling == pytest.approx(PUBLISHED[s][0], abs=0.011)
    assert rising == pytest.approx(PUBLISHED[s][1], abs=0.011)
    assert Constant(7.5).effective_dose(SIGMAS, s) == pytest.approx(7.5)


@pytest.mark.parametrize(
    "schedule", [Cosine(k=0.3), Cosine(k=3).inverted(), Linear(max=9, min=-2), Cosine().inside(sigma=(0.3, 2.0))]
)
@pytest.mark.parametrize("s", [0.4, 1.0])
def test_the_effective_dose_is_where_the_flow_ends(schedule, s):
    """Gaussians N(m, s²): the probability-flow ODE, integrated finely, ends at m_u + (covered) W (m_c - m_u)."""
    levels = [10 * 0.8**i for i in range(20)] + [0.0]
    m_u, m_c, x = 0.7, 2.0, 0.7
    for w, start, end in zip(schedule.values(20, levels), levels, levels[1:], strict=False):
        grid = np.linspace(start, end, 401)
        for a, b in itertools.pairwise(grid):  # Runge's midpoint rule
            mean = m_u + w * (m_c - m_u)
            middle = x + (b - a) / 2 * a * (x - mean) / (s**2 + a**2)
            x += (b - a) * (a + b) / 2 * (middle - mean) / (s**2 + ((a + b) / 2) ** 2)
    covered = 1 - s / math.hypot(s, levels[0])
    assert x == pytest.approx(m_u + covered * schedule.effective_dose(levels, s) * (m_c - m_u), abs=1e-4)


def test_a_run_may_begin_at_pure_noise_and_end_above_zero():
    assert step_weights([math.inf, 1.0, 0.0]) == pytest.approx([1 / math.sqrt(2), 1 - 1 / math.sqrt(2)])
    assert math.fsum(step_weights([2.0, 1.0, 0.5])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("sigmas", "s", "message"),
    [
        ([1.0], 1.0, r"^1 sigmas: n steps have n \+ 1 levels, .* add the end, often 0\.$"),
        ([1.0, 0.0], 0, r"^s = 0: the size of structure is above 0"),
        ([1.0, 0.0], math.nan, r"^s = nan"),
        ([1.0, 1.0], 1.0, r"^sigmas from 1 to 1: the noise has to fall"),
        ([0.0, 1.0], 1.0, "falls from step to step"),
    ],
)
def test_bad_levels(sigmas, s, message):
    with pytest.raises(InputError, match=message):
        step_weights(sigmas, s)


@pytest.mark.parametrize("n", [3, 10, 50])
@pytest.mark.parametrize("k", [0.1, 0.3, 1, 5])
@pytest.mark.parametrize("dose", [0.0, 1.5, 3.0, 4.0])
def test_a_matched_schedule_has_the_dose_whatever_the_steps(n, k, dose):
    base = Cosine(max=4, min=1, k=k)
    if dose < 1:
        with pytest.raises(NotMatchable, match="is on the other side of 1"):
            base.matched_to(dose).values(n)
        return
    matched = base.matched_to(dose, limit=100)
    assert matched.dose(n) == pytest.approx(dose)
    shape = [(w - 1) / (v - 1) for w, v in zip(matched.values(n), base.values(n), strict=True)]
    assert shape == pytest.approx([shape[0]] * n)  # the same shape: every w - 1 by one factor


def test_the_effective_dose_is_matched_once_for_a_run():
    for base in (Cosine(k=0.3), Cosine(k=0.3).inverted(), Cosine().inside(sigma=(0.3, 3.0))):
        matched = base.matched_to(3, weight="effective", sigmas=SIGMAS, s=0.5, limit=30)
        assert matched.effective_dose(SIGMAS, 0.5) == pytest.approx(3)
        assert as_schedule(str(matched)) == matched
    windowed = Cosine().inside(sigma=(0.3, 3.0)).matched_to(2, sigmas=SIGMAS)
    assert windowed.dose(50, SIGMAS) == pytest.approx(2)


def test_dose_one_is_no_guidance():
    assert Cosine().matched_to(1).values(5) == [1] * 5
    assert Constant(1).matched_to(1).values(2) == [1, 1]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Cosine(k=0.1).matched_to(4), r"cosine\(max=7.5, min=1, k=0.1\) to dose 4: it would reach w = 5.*the limit 15"),
        (
            Cosine().matched_to(0.5),
            r"its own dose 4\.315 is on the other side of 1, .*choose another dose or invert it",
        ),
        (Table([0.5, 1.5] * 25).matched_to(3), "its own dose is 1, no guidance, which no factor changes"),
        (Constant(1).matched_to(3), "its own dose is 1"),
    ],
)
def test_what_cannot_be_matched_says_so(schedule, message):
    with pytest.raises(NotMatchable, match=message):
        schedule.values(50)


def test_negative_scales_count_against_the_limit():
    with pytest.raises(NotMatchable, match=r"it would reach w = -11.5, beyond the limit 11;"):
        Table([3] * 9 + [-9]).matched_to(2, limit=11).values(10)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            {"weight": "effective"},
            r"without sigmas: it depends on the run's noise levels; give sigmas=, n \+ 1 of them",
        ),
        ({"weight": "sum"}, r"^weight 'sum': a dose weighs 'steps' equally or by their 'effective' share"),
        ({"limit": 0}, r"^matched\(limit=0\): the largest scale allowed is above 0"),
        ({"dose": math.nan}, r"^matched\(target=nan\): a finite number"),
    ],
)
def test_bad_requests(ask, message):
    with pytest.raises(InputError, match=message):
        Cosine().matched_to(**{"dose": 3, **ask})


def test_a_sigma_window_cannot_be_matched_without_sigmas():
    with pytest.raises(InputError, match="without sigmas"):
        Cosine().inside(sigma=(0.1, 2)).matched_to(3)
