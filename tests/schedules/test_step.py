"""Steps of a run without a model."""

import math

import pytest

from cfglab.errors import InputError
from cfglab.step import Step, steps


def test_a_run_counts_its_steps():
    run = steps(4)
    assert [step.index for step in run] == [0, 1, 2, 3]
    assert [step.progress for step in run] == [0, 0.25, 0.5, 0.75]
    assert all(step.count == 4 and step.sigma is None for step in run)


@pytest.mark.parametrize("sigmas", [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0, 0.0]])
def test_sigmas_with_and_without_the_end(sigmas):
    assert [(step.sigma, step.next_sigma) for step in steps(3, sigmas)] == [(3, 2), (2, 1), (1, 0)]


def test_the_end_need_not_be_zero_and_the_start_may_be_pure_noise():
    assert steps(2, [math.inf, 1.0, 0.5])[-1] == Step(1, 2, sigma=1.0, next_sigma=0.5)


@pytest.mark.parametrize("count", [0, -3, 2.5, True, "4", None])
def test_a_run_has_at_least_one_step(count):
    with pytest.raises(InputError, match=r"steps: a run has at least one step, a whole number; ask for 1 or more\."):
        steps(count)


@pytest.mark.parametrize("sigmas", [[], [1.0], [5, 4, 3, 2, 1]])
def test_a_wrong_number_of_sigmas(sigmas):
    with pytest.raises(InputError, match=rf"{len(sigmas)} sigmas for 3 steps: .* give 3 of them, or 4 with the end"):
        steps(3, sigmas)


@pytest.mark.parametrize("sigmas", [[1.0, 2.0], [1.0, -1.0], [math.nan, 1.0], [1.0, math.nan]])
def test_sigmas_that_are_no_falling_noise(sigmas):
    with pytest.raises(InputError, match="noise over signal is a number, not negative, and falls"):
        steps(2, sigmas)
