"""Exact metrics of samples: against closed forms, the mixture's own law, and samples that are known to be wrong."""

import math

import pytest
import torch
from scipy.stats import norm

from cfglab.metrics.registry import METRICS
from cfglab.mixtures.metrics import ExactMetrics
from cfglab.mixtures.toys import ToyProblem, modes, tree, two


@pytest.mark.parametrize("toy", [two(), two(3), modes(), tree()], ids=["two", "three dimensions", "modes", "tree"])
def test_exact_samples_are_what_they_should_be(toy: ToyProblem) -> None:
    judge, count = ExactMetrics(toy, 0), 4000
    found = judge.measure(toy.mixture.of_class(0).sample(range(count)))
    assert set(found) <= METRICS.keys()
    assert found["outliers"] == pytest.approx(0.01, abs=4 * math.sqrt(0.01 / count) + 4 * math.sqrt(0.01 / 10_000))
    assert found["spread"] == pytest.approx(1, abs=0.04)
    assert found["mode_distance"] < 0.04
    assert found["modes_found"] == 1
    assert found["sliced_wasserstein"] < 0.05
    given = toy.mixture.of_class(0)
    entropy = given.log_density(given.sample(range(9000, 19_000))).mean().item()
    assert found["log_density"] == pytest.approx(entropy, abs=0.1)


def test_wasserstein_of_a_shifted_and_widened_gaussian() -> None:
    """W2² = (difference of means)² + (difference of standard deviations)²; quantiles stand for samples."""
    places = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    x = torch.from_numpy(norm(1.7, 0.8).ppf(places.numpy()))[:, None]  # the class is N(1, 0.5²)
    found = ExactMetrics(two(), 0).measure(x)
    assert found["sliced_wasserstein"] == pytest.approx(math.hypot(0.7, 0.3), rel=2e-3)
    assert found["spread"] == pytest.approx(1.6, rel=2e-3)


def test_sliced_distance_is_the_same_however_the_plane_is_turned() -> None:
    """A shift by d in the plane: along a direction at angle t it is d cos t, and the mean of cos² is a half."""
    one = modes().of_class(0).mixture
    x = one.sample(range(20_000)) + torch.tensor([0.3, 0.4], dtype=torch.float64)
    assert ExactMetrics(modes(), 0).measure(x)["sliced_wasserstein"] == pytest.approx(0.5 / math.sqrt(2), rel=0.02)


def test_a_lost_mode_and_outliers_are_seen() -> None:
    judge = ExactMetrics(modes(), 0)
    large = modes().mixture.sample(range(4000))
    only = large[(large[:, 0] > 0.5) & (large[:, 1] > 0)]
    found = judge.measure(only)
    assert found["mode_distance"] == pytest.approx(0.3, abs=0.005)
    assert found["modes_found"] == 0.5
    far = judge.measure(only + 2)
    assert far["outliers"] == 1
    assert far["modes_found"] == 0
    other = judge.measure(modes().mixture.of_class(1).sample(range(1000)))
    assert other["class_confidence"] < 0.05
