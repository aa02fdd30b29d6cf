"""Set metrics: naive loops, scipy's sqrtm and closed forms are the oracles."""

import re
import tracemalloc

import numpy as np
import pytest

from cfglab.errors import InputError
from cfglab.metrics import distances
from cfglab.metrics.sets import density_coverage, fid, frechet, kid, mean_pairwise_distance, precision_recall, vendi
from tests.metrics import naive


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(31, 4)) + 3.0, 0.7 * random.normal(size=(24, 4)) + 3.4


def test_against_plain_loops(sides: tuple[np.ndarray, np.ndarray]) -> None:
    real, fake = sides
    assert kid(real, fake) == pytest.approx(naive.kid(real, fake), rel=1e-9)
    assert fid(real, fake) == pytest.approx(naive.fid(real, fake), rel=1e-7)
    for k in (1, 3, 5):
        assert precision_recall(real, fake, k) == pytest.approx(naive.precision_recall(real, fake, k), abs=1e-12)
        assert density_coverage(real, fake, k) == pytest.approx(naive.density_coverage(real, fake, k), abs=1e-12)
    pairs = [naive.distance(x, y) for i, x in enumerate(fake) for y in fake[:i]]
    assert mean_pairwise_distance(fake) == pytest.approx(np.mean(pairs), rel=1e-9)


def test_small_blocks_change_nothing(sides: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = sides

    def everything() -> list[float]:
        pair = (*precision_recall(real, fake), *density_coverage(real, fake))
        return [kid(real, fake), mean_pairwise_distance(fake), *pair]

    whole = everything()
    monkeypatch.setattr(distances, "BLOCK_BYTES", 8 * len(fake) * 5)
    assert len(list(distances.row_blocks(len(real), len(fake)))) == 7
    assert everything() == pytest.approx(whole, rel=1e-12)


def test_memory_stays_far_below_the_full_matrix() -> None:
    rows = np.random.default_rng(1).normal(size=(4000, 8))
    tracemalloc.start()
    distances.squared_radii(rows, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * distances.BLOCK_BYTES  # at 10,000 x 10,000 as here: blocks do not grow with the rows


def test_kid_is_unbiased() -> None:
    random = np.random.default_rng(2)
    same = [kid(random.normal(size=(20, 3)), random.normal(size=(15, 3))) for _ in range(400)]
    assert min(same) < 0
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(len(same))
    # E k over independent rows x ~ N(a, I), y ~ N(b, I), d = 1: E (xy + 1)^3 with E x^2 = 1 + a^2, E x^3 = a^3 + 3a
    shift = 0.8
    moments = (1.0, shift, 1 + shift**2, shift**3 + 3 * shift)
    zero = (1.0, 0.0, 1.0, 0.0)
    binomial = (1, 3, 3, 1)

    def mean_kernel(x: tuple[float, ...], y: tuple[float, ...]) -> float:
        return sum(c * p * q for c, p, q in zip(binomial, x, y, strict=True))

    truth = mean_kernel(moments, moments) + mean_kernel(zero, zero) - 2 * mean_kernel(moments, zero)
    apart = [kid(random.normal(size=(20, 1)), random.normal(size=(20, 1)) + shift) for _ in range(800)]
    assert abs(np.mean(apart) - truth) < 4 * np.std(apart) / np.sqrt(len(apart))


def test_frechet_closed_forms() -> None:
    # diagonal covariances commute: sum of (sqrt a - sqrt b)^2 + |gap|^2
    a, b, gap = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.25]), np.array([1.0, 0.0, -2.0])
    assert frechet(gap, np.diag(a), np.zeros(3), np.diag(b)) == pytest.approx(5.0 + 4.0 + 1.0)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turned = frechet(turn @ gap, turn @ np.diag(a) @ turn.T, np.zeros(3), turn @ np.diag(b) @ turn.T)
    assert turned == pytest.approx(10.0)
    assert frechet(gap, np.diag(a), gap, np.diag(a)) == pytest.approx(0.0, abs=1e-12)


def test_fid_of_two_gaussian_samples_is_near_the_truth_and_bias_falls_with_n() -> None:
    random = np.random.default_rng(4)
    found = {}
    for n in (200, 4000):
        real = random.normal(size=(n, 8))
        found[n] = fid(real, 1.5 * random.normal(size=(n, 8)) + 1.0)
    truth = 8 * (1.0 + 0.25)
    assert found[4000] == pytest.approx(truth, rel=0.03)
    assert fid(random.normal(size=(4000, 8)), random.normal(size=(4000, 8))) < 0.05
    assert fid(random.normal(size=(100, 8)), random.normal(size=(100, 8))) > 0.3


def test_fid_of_fewer_pictures_than_dimensions_is_real() -> None:
    random = np.random.default_rng(5)
    real, fake = random.normal(size=(10, 64)), random.normal(size=(12, 64))
    assert fid(real, real) == pytest.approx(0.0, abs=1e-6)
    assert fid(real, fake) == pytest.approx(fid(fake, real), rel=1e-6)


def test_neighbour_metrics_tell_lost_variety_from_spoilt_pictures() -> None:
    random = np.random.default_rng(6)
    real = random.normal(size=(400, 4))
    narrow, far = 0.05 * random.normal(size=(200, 4)), random.normal(size=(200, 4)) + 30
    assert precision_recall(real, narrow)[0] > 0.95
    assert precision_recall(real, narrow)[1] < 0.05
    assert density_coverage(real, narrow)[1] < 0.2
    assert precision_recall(real, far) == (0.0, 0.0)
    assert density_coverage(real, far) == (0.0, 0.0)
    density = np.mean([density_coverage(random.normal(size=(400, 4)), real)[0] for _ in range(10)])
    assert density == pytest.approx(1.0, abs=0.05)


def test_vendi_counts_directions() -> None:
    axes = np.eye(5)
    assert vendi(axes) == pytest.approx(5.0)
    assert vendi(np.repeat(axes[:3] * [[1], [7], [0.1]], 4, axis=0)) == pytest.approx(3.0)
    assert vendi(np.tile([0.3, -2.0], (6, 1))) == pytest.approx(1.0)
    assert vendi(np.vstack([np.zeros((2, 5)), axes[:2], axes[:2]])) == pytest.approx(3.0)
    angle = 0.7  # two unit rows: eigenvalues (1 +- cos) / 2
    two = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    halves = np.array([(1 + np.cos(angle)) / 2, (1 - np.cos(angle)) / 2])
    assert vendi(two) == pytest.approx(np.exp(-(halves * np.log(halves)).sum()))
    tall = np.random.default_rng(7).normal(size=(30, 4))  # more rows than dimensions: the other Gram matrix
    unit = tall / np.linalg.norm(tall, axis=1, keepdims=True)
    weights = np.linalg.eigvalsh(unit @ unit.T / 30)[-4:]
    assert vendi(tall) == pytest.approx(np.exp(-(weights * np.log(weights)).sum()))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kid(np.zeros((1, 3)), np.zeros((5, 3))), "1 real features: at least 2 are needed"),
        (lambda: fid(np.zeros((5, 3)), np.zeros((5, 4))), "real features have 3 dimensions and generated ones 4"),
        (lambda: kid(np.zeros(3), np.zeros((5, 3))), "real features of shape (3,): the shape must be (n, d)"),
        (lambda: kid(np.full((4, 3), np.inf), np.zeros((5, 3))), "real features hold values that are not finite"),
        (
            lambda: precision_recall(np.zeros((9, 3)), np.zeros((5, 3))),
            "k = 5 with 5 images: k must be at least 1 and",
        ),
        (lambda: mean_pairwise_distance(np.zeros((1, 3))), "1 generated features: at least 2 are needed"),
    ],
)
def test_refusals(call, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        call()
