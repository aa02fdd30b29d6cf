"""Where methods begin and end, against the rule in the code of their authors: docs/methods.md, First and last steps."""

from collections.abc import Callable

import pytest
import torch

from cfglab.guidance import parse_guidance
from cfglab.step import Step

RUNS = (10, 20, 28, 40, 50, 100)
Rule = Callable[[int], bool]


def acting(text: str, count: int) -> list[int]:
    """The steps at which a guidance is on, or a transform wants its further prediction or makes a zero."""
    guide = parse_guidance(text).start("flow")
    first = guide.guidance.transforms
    if not first:
        return [i for i in range(count) if guide.guidance.schedule.is_on(Step(i, count))]
    if first[0].kind == "cfg_zero_star":
        return [i for i in range(count) if first[0].is_zero(Step(i, count))]
    return [i for i in range(count) if guide.plan(Step(i, count)).passes]


@pytest.mark.parametrize("count", RUNS)
@pytest.mark.parametrize(
    ("text", "theirs"),
    [
        ("5 | cfg_zero_star(as_in=authors, zero_steps=1)", lambda i: i <= 1),  # WeichenFan/CFG-Zero-star
        ("5 | cfg_zero_star(as_in=authors)", lambda i: i <= 0),
        ("5 | cfg_zero_star(zero_steps=2)", lambda i: i < 2),  # diffusers' zero_init_steps
        ("constant(2).inside(steps=(3, 7))", lambda i: 3 <= i <= 6),  # kynkaat/guidance-interval, [3, 6]
        ("5 | pag()", lambda i: i >= 0),
        ("5 | seg()", lambda i: i >= 0),
    ],
)
def test_the_steps_are_those_of_the_authors(text: str, theirs: Rule, count: int) -> None:
    assert acting(text, count) == [i for i in range(count) if theirs(i)]


@pytest.mark.parametrize(("count", "more"), [(20, []), (28, []), (40, []), (50, []), (100, [1])])
def test_skipped_layers_begin_as_stabilitys_code_but_at_a_whole_number_of_steps(count: int, more: list[int]) -> None:
    theirs = [i for i in range(count) if i > 0.01 * count and i < 0.2 * count]  # sd3_impls.py, SkipLayerCFGDenoiser
    guider = [i for i in range(count) if int(0.01 * count) < i < int(0.2 * count)]  # diffusers' guider
    ours = acting("5 | skip_layers(layers=1)", count)
    assert ours == sorted([*theirs, *more])
    if count != 28:  # int(5.6) is 5: their guider stops a step before their pipeline
        assert guider == theirs


@pytest.mark.parametrize(("count", "at"), [(10, 0.4), (25, 0.4), (28, 0.4), (50, 0.3)])
def test_a_cut_off_is_one_step_before_the_callbacks_of_diffusers(count: int, at: float) -> None:
    callback = [i for i in range(count) if i <= int(count * at)]  # acts when that step ends
    ours = acting(f"cutoff(w=5, at={at})", count)
    assert ours == [i for i in range(count) if i / count < at]
    whole = (count * at) % 1 == 0
    assert callback == ([*ours, len(ours)] if whole else ours)


@pytest.mark.parametrize(("count", "at"), [(10, 0.4), (28, 0.4)])
def test_a_late_start_is_a1111s_but_at_a_whole_number_of_steps(count: int, at: float) -> None:
    theirs = [i for i in range(count) if not i / count <= at]  # sd_samplers_cfg_denoiser.py, skip_early_cond
    ours = acting(f"late_start(w=5, at={at})", count)
    assert ours == ([4, *theirs] if count == 10 else theirs)


@pytest.mark.parametrize("count", RUNS)
def test_the_noise_of_cads_clears_up_as_in_the_extension(count: int) -> None:
    cads = parse_guidance("5 | cads()").transforms[0]
    for i in range(count):
        t = 1.0 - max(min(i / count, 1.0), 0.0)
        gamma = 1.0 if t <= 0.6 else 0.0 if t >= 0.9 else (0.9 - t) / (0.9 - 0.6)
        assert cads.gamma(Step(i, count)) == pytest.approx(gamma, abs=1e-12)  # type: ignore[attr-defined]


def test_the_density_of_beta_cfg_is_zero_at_both_ends() -> None:
    values = parse_guidance("beta(scale=7.5)").schedule.values(5)
    assert values == pytest.approx([7.5 * 12 * x * (1 - x) ** 2 for x in (0, 0.25, 0.5, 0.75, 1)])


@pytest.mark.parametrize("text", ["5 | apg(eta=1, momentum=-0.5)", "3 | momentum()"])
def test_the_first_step_of_an_average_is_plain_and_the_next_run_begins_anew(text: str) -> None:
    u, c = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    guidance = parse_guidance(text)
    w = guidance.schedule.values(1)[0]
    for _ in range(2):
        guide = guidance.start("flow")
        steps = [Step(i, 4, sigma=s, alpha=1 / (1 + s)) for i, s in enumerate((9.0, 3.0))]
        first, second = (guide.combine(u * (1 + step.index), c, step, torch.zeros_like(u)) for step in steps)
        torch.testing.assert_close(first, u + w * (c - u), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(second, 2 * u + w * (c - 2 * u), rtol=1e-2)


def test_guidance_stops_at_the_step_after_the_predictions_agree() -> None:
    guide = parse_guidance("5 | adaptive(similarity=0.9)").start("epsilon")
    u = torch.ones(1, 4, 8, 8)
    needed = []
    for i in range(4):
        needed.append(guide.plan(Step(i, 4)).uncond)
        guide.combine(u, u if i else -u, Step(i, 4))
    assert needed == [True, True, False, False]
