"""The published schedules against their papers' formulas, written again here."""

import importlib.util
import inspect
import math
from pathlib import Path

import pytest
from scipy.stats import beta as beta_distribution

from cfglab.errors import InputError
from cfglab.schedules import C2FG, PUBLISHED, SHAPES, Beta, CogVideoXShipped, Cosine, Linear, parse
from cfglab.schedules.published.named import (
    cogvideox,
    cutoff,
    ideogram4,
    late_start,
    limited_interval,
    pcs,
    wang_clamp_cosine,
    wang_clamp_linear,
    wang_cosine,
    wang_inverse_linear,
    wang_lambda,
    wang_linear,
    wang_sine,
    wang_v,
)
from cfglab.step import Step, steps

OMEGA = {  # arXiv:2404.13040, with its t from T (noise) down to 0 and omega0 = 1; omega is w - 1
    wang_linear: lambda t, T: 2 * (1 - t / T),
    wang_inverse_linear: lambda t, T: 2 * t / T,
    wang_cosine: lambda t, T: math.cos(math.pi * t / T) + 1,
    wang_sine: lambda t, T: math.sin(math.pi * t / T - math.pi / 2) + 1,
    wang_v: lambda t, T: 4 / 3 * (t / T if t > T / 2 else 1 - t / T),
    wang_lambda: lambda t, T: 4 * (1 - t / T if t > T / 2 else t / T),
}


@pytest.mark.parametrize("make", OMEGA, ids=lambda make: make.__name__)
@pytest.mark.parametrize("n", [1, 2, 7, 50])
@pytest.mark.parametrize("w0", [7.5, 15, 1, 0.5])
def test_the_weight_schedulers_are_their_formulas(make, n, w0):
    expected = [1 + (w0 - 1) * OMEGA[make](n - i, n) for i in range(n)]
    assert make(w0=w0).values(n) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("make", OMEGA, ids=lambda make: make.__name__)
def test_the_weight_schedulers_have_the_area_of_the_constant(make):
    schedule = make(w0=7.5)
    assert schedule.dose(1000) == pytest.approx(7.5, abs=0.007)  # up to 6.5 / N
    assert schedule.matched_to(7.5).dose(20) == pytest.approx(7.5)


def test_the_directions():
    for make in (wang_linear, wang_cosine, pcs):
        values = make(w0=7.5).values(40)
        assert values == sorted(values)
        assert values[0] == 1
    for make in (wang_inverse_linear, wang_sine):
        values = make(w0=7.5).values(40)
        assert values == sorted(values, reverse=True)
        assert values[0] == 14
    v, peak = wang_v(w0=7).values(40), wang_lambda(w0=7).values(40)
    assert (v[0], v[20], peak[0], peak[20]) == pytest.approx((9, 5, 1, 13))


def test_clamps_are_the_larger_of_two():
    """The listing of the paper's figure 1: w = max(1, w0*2*t/T), eps = (w+1)*eps_c - w*eps_u, w0 = 14."""
    listed = [max(1, 14.0 * 2 * t / 50) for t in range(50)]
    assert wang_clamp_linear(w0=15, low=2).values(50) == pytest.approx([1 + omega for omega in listed])
    risen = [max(4, 6.5 * (1 - math.cos(math.pi * i / 30))) for i in range(30)]
    assert wang_clamp_cosine(w0=7.5, low=5).values(30) == pytest.approx([1 + omega for omega in risen])


@pytest.mark.parametrize("s", [0.1, 1, 4])
def test_powered_cosine_is_inverted_k_decay(s):
    expected = [1 + 6.5 * (1 - math.cos(math.pi * ((30 - t) / 30) ** s)) / 2 for t in range(30, 0, -1)]
    assert pcs(w0=7.5, s=s).values(30) == pytest.approx(expected)
    assert pcs(w0=7.5, s=s) == Cosine(max=7.5, min=1, k=s).inverted()
    assert wang_linear(w0=4) == Linear(max=7, min=1).inverted()


def test_limited_interval_guides_the_steps_of_the_authors_command():
    """32 levels from 80 to 0.002 with rho 7, then 0; their command guides indices 17 to 22 with w = 2."""
    ends = 80 ** (1 / 7), 0.002 ** (1 / 7)
    sigmas = [(ends[0] + i / 31 * (ends[1] - ends[0])) ** 7 for i in range(32)] + [0.0]
    run = steps(32, sigmas)
    schedule = limited_interval()
    assert [step.index for step in run if schedule.is_on(step)] == [17, 18, 19, 20, 21, 22]
    assert {schedule(step) for step in run if schedule.is_on(step)} == {2}
    assert limited_interval(w=16, sigma=(0.28, 5.42)) == parse("constant(16).inside(sigma=(0.28, 5.42))")


def test_cutoffs_are_off_not_unconditional():
    on = [cutoff(w=7, at=0.4).is_on(step) for step in steps(10)]
    assert on == [True] * 4 + [False] * 6
    assert cutoff(w=7, at=0.4).values(10) == [7] * 4 + [1] * 6
    assert late_start(w=7, at=0.4).values(10) == [1] * 4 + [7] * 6


@pytest.mark.parametrize("n", [10, 50])
def test_the_cutoff_callback_of_diffusers_guides_one_step_more(n):
    """It sets the scale to 0 at the *end* of step int(0.4 n); the scale is read at the step's beginning."""
    guided, scale = [], 7.0
    for index in range(n):
        guided.append(scale > 1)
        if index == int(n * 0.4):
            scale = 0.0
    assert [step.index for step in steps(n) if cutoff(w=7, at=0.4).is_on(step)] == list(range(sum(guided) - 1))


@pytest.mark.parametrize(("a", "b"), [(2, 3), (1, 1), (1, 4), (2.5, 1), (800, 900)])
def test_beta_is_the_density(a, b):
    schedule = Beta(scale=7.5, a=a, b=b)
    expected = 7.5 * beta_distribution.pdf([i / 39 for i in range(40)], a, b)
    assert schedule.values(40) == pytest.approx(list(expected), rel=1e-9, abs=1e-200)
    assert abs(schedule.dose(4000) - 7.5) < 0.0075
    assert math.isfinite(schedule.values(1)[0])


def test_beta_ends_unconditional_and_not_off():
    schedule = Beta(scale=7.5)
    first, *_, last = steps(20)
    assert schedule(first) == schedule(last) == 0
    assert schedule.is_on(first)
    assert schedule.is_on(last)


def test_c2fg_is_the_exponential_of_the_paper_s_time():
    values = C2FG(max=5, rate=2).values(25)
    assert values == pytest.approx([5 * math.exp(-2 * t / 25) for t in range(25, 0, -1)])
    assert values == sorted(values)
    assert C2FG(max=5, rate=0).values(4) == [5] * 4
    for omega0, growth in ((1.0, math.log(2)), (1.7, 0.15)):  # the paper's form, t from 1 down to 1 / N
        expected = [omega0 * math.exp(growth * (1 - t / 25)) for t in range(25, 0, -1)]
        assert C2FG(max=omega0 * math.exp(growth), rate=growth).values(25) == pytest.approx(expected)
    assert C2FG(max=5, rate=2).inverted().values(25)[0] == pytest.approx(5)


def test_cogvideox_as_meant_and_as_it_runs():
    """As meant, the function of the authors' DynamicCFG at the step's index; as it runs, what users measured."""
    meant = [1 + 6 * (1 - math.cos(math.pi * (i / 50) ** 5)) / 2 for i in range(50)]
    assert cogvideox().values(50) == pytest.approx(meant)
    trailing = [Step(i, 50, timestep=999 - 20 * i) for i in range(50)]
    measured = [1.8610, 2.0290, 4.9829, 4.6136, 2.1921, 3.1813, 1.0251, 3.1136, 1.4120]  # diffusers PR 13172, scale 4
    shipped = CogVideoXShipped(scale=4)
    assert [shipped(step) for step in trailing[:9]] == pytest.approx(measured, abs=6e-5)
    source = [1 + 4 * ((1 - math.cos(math.pi * ((50 - step.timestep) / 50) ** 5.0)) / 2) for step in trailing]
    assert [shipped(step) for step in trailing] == pytest.approx(source, abs=1e-6)
    with pytest.raises(InputError, match=r"at a step without a timestep: .* Step\(index, count, timestep=…\)\.$"):
        shipped.values(50)
    with pytest.raises(InputError, match="another step's sigma is not known"):
        shipped.reversed()


@pytest.mark.newest
def test_ideogram4_is_the_default_of_diffusers():
    package = importlib.util.find_spec("diffusers")
    if package is None or package.origin is None:
        pytest.skip("diffusers is not installed")
    source = Path(package.origin).parent / "pipelines/ideogram4/pipeline_ideogram4.py"
    assert "guidance_schedule: list[float] | torch.Tensor | None = (7.0,) * 45 + (3.0,) * 3," in source.read_text()
    assert ideogram4().values(48) == list((7.0,) * 45 + (3.0,) * 3)
    assert str(ideogram4(steps=20)) == "18x7+2x3"


MISTAKES = [
    ("pcs()", "pcs without w0: it is needed; write pcs(w0=…)."),
    ("pcs(7)", "pcs(7): values are given by name; write pcs(w0=7, …)."),
    ("pcs(w=7)", "pcs has no 'w': it takes w0, s; did you mean w0?"),
    ("pcs(w0=7, s=0)", "pcs(s=0): it must be above 0; 1 is the plain shape."),
    ("pcs(w0=[1, 2])", "pcs(w0=[1, 2]): a finite number is needed; write one such as 7.5."),
    ("pcs(w0=cosine())", "a finite number is needed"),
    ("pcs", "pcs without brackets: a shape is called with its fields; write pcs(…)."),
    ("wang_linaer(w0=3)", "did you mean wang_linear?"),
    ("banana(3)", "write one of them, or a published one: cfglab list schedules."),
    (
        "cutoff(w=7, at=1.5)",
        "inside(progress=(0, 1.5)): a window (a, b) has 0 <= a < b <= 1; write progress=(0.2, 0.8).",
    ),
    (
        "limited_interval(sigma=3)",
        "limited_interval(sigma=3): two numbers are needed, where it opens and where it closes",
    ),
    ("ideogram4(steps=12)", "ideogram4(steps=12): its lists are for 48 and 20 steps; write [7, 7, 3] for your own."),
    ("beta(scale=7.5, a=0.5)", "beta(a=0.5): it is between 1 and 1000, below 1 the density has no bound"),
    ("c2fg(max=5, rate=-1)", "c2fg(rate=-1): it is 0 or more, for guidance grows as the noise falls"),
    ("c2fg(max=5)", "c2fg without rate: it is needed; write c2fg(rate=…)."),
    ("cfg_plus_plus(lam=7.5)", "cfg_plus_plus(lam=7.5): it is between 0 and 1; write lam=0.6, eta=0."),
    ("cfg_plus_plus(lam=0.6, eta=2)", "cfg_plus_plus(eta=2): it is between 0 and 1"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_mistakes_are_told_in_one_line(text, message):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_are_read_in_text_and_print_as_what_they_are():
    assert parse("pcs(w0=7.5, s=0.1)") == pcs(w0=7.5, s=0.1)
    assert str(parse("2 * pcs(w0=7.5).clip(high=5)")) == "2 * cosine(max=7.5, min=1).inverted().clip(high=5)"
    assert str(limited_interval()) == "constant(2).inside(sigma=(0.19, 1.61))"
    assert not set(PUBLISHED) & set(SHAPES)
    assert all(inspect.getdoc(make) for make in PUBLISHED.values())
