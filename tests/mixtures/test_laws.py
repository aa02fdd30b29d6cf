"""The exact laws of guidance on Gaussians: five digits by propagating mean and variance, samples in four errors."""

import itertools
import math
from bisect import bisect_left
from collections.abc import Callable

import pytest
import torch
from scipy.integrate import quad

from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.mixtures.mixture import Mixture
from cfglab.mixtures.noise_paths import Path, alpha, flow_levels, karras, noise_steps
from cfglab.mixtures.sampling import Method, generate, integrate
from cfglab.mixtures.toys import two
from cfglab.schedules import Constant, Cosine, Linear, Schedule
from cfglab.schedules.published.sampler_aware import CFGPlusPlus
from cfglab.step import Step

PATHS: list[Path] = ["ve", "vp", "flow"]
COND, UNCOND = Mixture([1], [[0.0]], 1.0), Mixture([1], [[0.0]], 2.0)


def limit(found: Callable[[int], float], count: int = 80) -> float:
    """Where Heun's method goes as its steps get smaller: three counts, extrapolated twice (Richardson)."""
    one, two, four = (found(count * more) for more in (1, 2, 4))
    return (8 * (4 * four - two) / 3 - (4 * two - one) / 3) / 7


def gain(steps: list[Step], w: Schedule | float) -> float:
    """What the flow makes of a point, which it multiplies, as everything here is linear."""
    start = torch.ones(1, 1, dtype=torch.float64)
    return integrate(COND, UNCOND, Guidance(w), steps, start, "heun").item()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("w", [0, 3])
def test_variance_of_the_probability_flow(path: Path, w: float) -> None:
    """2^(1 - w), from noise alone, of variance (alpha sigma)²."""
    top = 2000.0
    noise = alpha(path, top) * top

    def variance(count: int) -> float:
        return (gain(noise_steps(karras(count, top, 0.001), path), w) * noise) ** 2

    assert limit(variance) == pytest.approx(2 ** (1 - w), rel=1e-5)


def test_variance_under_any_schedule() -> None:
    """ln Var = ln 2 - ∫ w (1 / (1 + τ) - 1 / (2 + τ)) dτ with finite ends, here for a cosine over the steps."""
    top, schedule = 50.0, Cosine(max=9, min=1, k=0.5)

    def off(count: int) -> float:
        levels = karras(count, top, 0.001)
        parts = [
            w * (math.log((1 + a * a) / (1 + b * b)) - math.log((2 + a * a) / (2 + b * b)))
            for w, a, b in zip(schedule.values(count), levels, levels[1:], strict=False)
        ]
        expected = 2 / (2 + top**2) * math.exp(-math.fsum(parts))  # for a start of variance 1
        return gain(noise_steps(levels), schedule) ** 2 / expected - 1

    assert abs(off(200)) < 2e-3
    assert abs(limit(off)) < 1e-5


def ancestral_variance(w: float, count: int, top: float, bottom: float = 0.001, rho: float = 12) -> float:
    """The variance that ancestral steps end with, found step by step: x' = g x + h noise."""
    steps = noise_steps(karras(count, top, bottom, rho))
    variance = top**2
    x = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    noise = torch.tensor([[[0.0]], [[1.0]]], dtype=torch.float64)
    for step in steps:
        gain, added = integrate(COND, UNCOND, w, [step], x, "ancestral", noise=noise)[:, 0].tolist()
        variance = gain**2 * variance + added**2
    return variance


@pytest.mark.parametrize("w", [1.5, 3])
def test_variance_of_ancestral_steps(w: float) -> None:
    """(2 - 2^(2 - 2w)) / (2w - 1) in the limit of small steps: three counts, extrapolated."""
    one, half, quarter = (ancestral_variance(w, count, 1000.0) for count in (250, 500, 1000))
    second, third = 2 * half - one, 2 * quarter - half
    expected = (2 - 2 ** (2 - 2 * w)) / (2 * w - 1)
    assert (4 * third - second) / 3 == pytest.approx(expected, rel=2e-5)
    assert abs(one - expected) > abs(quarter - expected)


@pytest.mark.parametrize(
    ("schedule", "path", "s"),
    [
        (Constant(4), "ve", 1.0),
        (Cosine(max=7.5, min=1, k=0.3), "vp", 0.6),
        (Cosine(k=3).inverted(), "flow", 0.3),
        (Constant(6).inside(progress=(0.5, 0.75)), "vp", 1.0),
    ],
    ids=["constant", "falling", "rising", "interval"],
)
def test_the_effective_dose_is_where_the_mean_ends(path: Path, s: float, schedule: Schedule) -> None:
    """m_u + W (m_c - m_u), from m_u, in two dimensions."""
    top = 1000.0
    cond, uncond = Mixture([1], [[2.0, 0.5]], s * s), Mixture([1], [[0.7, -1.0]], s * s)
    start = alpha(path, top) * uncond.means
    covered = 1 - s / math.hypot(s, top)

    def off(count: int) -> float:
        levels = karras(count, top, 0.001 * s)
        found = integrate(cond, uncond, Guidance(schedule), noise_steps(levels, path), start, "heun")
        expected = uncond.means + covered * schedule.effective_dose(levels, s) * (cond.means - uncond.means)
        return float((found - expected)[0, 0])

    assert abs(off(100)) < 2e-2
    assert abs(limit(off)) < 4e-5


def test_the_effective_dose_is_its_integral() -> None:
    levels = karras(2000, 500.0, 1e-4)
    schedule, s = Linear(max=8, min=1), 0.8
    values, rising = schedule.values(2000), levels[::-1]

    def w(sigma: float) -> float:
        return values[-1 - max(0, bisect_left(rising, sigma) - 1)]

    cuts = [500.0, 20.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.05, 0.0]
    parts = [
        quad(lambda x: w(x) * s * x * (s * s + x * x) ** -1.5, low, high, limit=400, epsabs=1e-3)[0]
        for high, low in itertools.pairwise(cuts)
    ]
    assert schedule.effective_dose(levels, s) == pytest.approx(sum(parts) / (1 - s / math.hypot(s, 500)), abs=2e-3)


@pytest.mark.parametrize("method", ["euler", "heun", "ancestral"])
@pytest.mark.parametrize("path", PATHS)
def test_samples_have_the_laws_variance(path: Path, method: Method) -> None:
    """0.25, and 0.3875 with ancestral steps; what 250 steps leave of it is small, and known for ancestral ones."""
    count, steps, expected = 4000, noise_steps(karras(250, 300.0, 0.002), path), 0.25
    if method == "ancestral":
        expected = ancestral_variance(3, 250, 300.0, 0.002, 7)
        assert expected == pytest.approx(0.3875, abs=0.05)
    x = generate(COND, UNCOND, 3, steps, range(count), method)
    rough = 0.004 if method == "euler" else 0.0005
    assert abs(x.var().item() - expected) < 4 * expected * math.sqrt(2 / count) + rough
    assert abs(x.mean().item()) < 4 * math.sqrt(expected / count)


@pytest.mark.parametrize("path", ["vp", "flow"])
def test_a_flow_may_begin_at_pure_noise(path: Path) -> None:
    levels = flow_levels(200, shift=3)
    with pytest.raises(InputError, match="at pure noise epsilon says nothing about 'x0'"):
        generate(COND, UNCOND, 3, noise_steps(levels, path), [0])
    x = generate(COND, UNCOND, 3, noise_steps(levels, path), range(4000), space="flow" if path == "flow" else "v")
    assert abs(x.var().item() - 0.25) < 4 * 0.25 * math.sqrt(2 / 4000) + 0.01


def test_unguided_samples_are_the_class() -> None:
    """Two modes, 0.7 and 0.3: their masses within four standard errors, also after a start at exact noisy samples."""
    from cfglab.mixtures.toys import modes

    whole = modes()
    given = whole.of_class(0)
    x = generate(given.mixture, whole.mixture, 1, noise_steps(karras(40, 40.0)), range(4000), "heun")
    y = generate(
        given.mixture, whole.mixture, 1, noise_steps(karras(40, 1.0)), range(4000), "heun", start=given.mixture
    )
    for sample in (x, y):
        masses = given.shares(given.mixture.components(sample)).mean(0)
        assert abs(masses[1].item() - 0.3) < 4 * math.sqrt(0.21 / 4000)


def test_a_sample_is_the_same_in_every_batch() -> None:
    steps = noise_steps(karras(8))
    for method in ("euler", "heun", "ancestral"):
        whole = generate(COND, UNCOND, Cosine(k=2), steps, range(6), method)  # type: ignore[arg-type]
        alone = generate(COND, UNCOND, Cosine(k=2), steps, [4], method)  # type: ignore[arg-type]
        assert torch.allclose(whole[4:5], alone, atol=1e-14)


def test_cfg_plus_plus_is_a_schedule() -> None:
    """Its own step (2406.08070, algorithm 2), written out: denoise guided, renoise with the unconditional noise."""
    mixture = two(2).mixture
    cond, lam = mixture.of_class(0), 0.6
    levels = karras(20, 30.0, 0.01)
    steps = noise_steps(levels, "vp")
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = integrate(cond, mixture, Guidance(CFGPlusPlus(lam=lam)), steps, x, "euler")
    for step, s_next in zip(steps, levels[1:], strict=True):
        a, s = float(step.alpha or 0), float(step.sigma or 0)
        a_next = 1 / math.hypot(1, s_next)
        free, told = mixture.predict(x, step, "epsilon"), cond.predict(x, step, "epsilon")
        x0 = (x - a * s * (free + lam * (told - free))) / a
        x = a_next * x0 + a_next * s_next * free
    assert torch.allclose(ours, x, atol=1e-9)


@pytest.mark.parametrize("space", ["x0", "v", "flow"])
def test_the_space_of_the_predictions_changes_nothing_linear(space: str) -> None:
    steps = noise_steps(karras(10, 20.0, 0.01), "vp")
    plain = generate(COND, UNCOND, 4, steps, range(5), "heun")
    assert torch.allclose(generate(COND, UNCOND, 4, steps, range(5), "heun", space=space), plain, atol=1e-10)  # type: ignore[arg-type]
