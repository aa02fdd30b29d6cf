"""Methods whose scale or rows depend on the predictions, against their formulas in float64 and diffusers' guider."""

import math

import pytest
import torch
from diffusers.guiders import MagnitudeAwareGuidance
from torch import Tensor

from cfglab.denoising.row_skipping import GuidedRows
from cfglab.errors import InputError
from cfglab.guidance import (
    AdaptiveGuidance,
    FeedbackGuidance,
    Guidance,
    MagnitudeAware,
    Perturbation,
    ReuseUpdate,
    UpdatePower,
    feedback_temperature,
    parse_guidance,
)
from cfglab.schedules import Phases
from cfglab.step import Step, steps
from tests.guidance.examples import STEP, batch, needs

LEVELS = [14.0, 9.0, 5.0, 2.5, 1.0, 0.4, 0.0]
RUN = [Step(s.index, s.count, sigma=s.sigma, next_sigma=s.next_sigma, alpha=1.0) for s in steps(6, LEVELS)]


def pairs(count: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        tuple(torch.randn(3, 4, 6, 6, generator=generator, dtype=torch.float64) for _ in range(2))  # type: ignore[misc]
        for _ in range(count)
    ]


def each_norm(a: Tensor) -> Tensor:
    return a.flatten(1).norm(dim=1)[:, None, None, None]


def test_magnitude_aware_is_diffusers_guider_in_the_models_space() -> None:
    ((u, c),) = pairs(1)
    guide = Guidance(10, [MagnitudeAware(alpha=0.7, space="model")]).start("flow")
    got = guide.combine(u, c, RUN[2], u)
    ratio = each_norm(c - u) / each_norm(u)
    w = 1 + 9 * torch.exp(-0.7 * ratio)
    torch.testing.assert_close(got, u + w * (c - u))
    assert isinstance(guide.w, Tensor)
    torch.testing.assert_close(guide.w, w.flatten())
    guider = MagnitudeAwareGuidance(guidance_scale=10.0, alpha=0.7)
    theirs = guider.forward(pred_cond=c.flatten(1), pred_uncond=u.flatten(1))[0]
    torch.testing.assert_close(got.flatten(1), theirs)
    with pytest.raises(RuntimeError, match="2-tuple"):  # it takes no predictions of more than two further dimensions
        guider.forward(pred_cond=c, pred_uncond=u)


def test_the_power_norm_fixes_the_length_of_the_update_and_t_norm_is_its_relative() -> None:
    ((u, c),) = pairs(1)
    got = Guidance(3, [UpdatePower(gamma=1)]).start().combine(u, c, RUN[0], u)
    torch.testing.assert_close(each_norm(got - u), torch.full((3, 1, 1, 1), 3.0, dtype=torch.float64))
    half = Guidance(3, [UpdatePower(gamma=0.5)]).start().combine(u, c, RUN[0], u)
    torch.testing.assert_close(half, u + 3 * (c - u) / each_norm(c - u).sqrt())
    for i in range(3):
        one, other = u[i : i + 1], c[i : i + 1]
        w = 3 / float(one.norm())
        t_norm = Guidance(f"{w!r} | update_norm()").start().combine(one, other, RUN[0], one)
        torch.testing.assert_close(got[i : i + 1], t_norm)


class _Rows:
    """A denoiser whose two predictions draw together image by image, and which counts its rows."""

    def __init__(self, agree_at: list[int]) -> None:
        self.agree_at, self.step, self.seen = agree_at, 0, list[list[int] | None]()
        self.u, self.c = pairs(1)[0]

    def __call__(self, rows: list[int] | None, variation: Perturbation | None) -> Tensor:
        assert variation is None
        self.seen.append(rows)
        both = [*self.u]
        both += [self.u[i] + (0.01 if self.step >= at else 1) * self.c[i] for i, at in enumerate(self.agree_at)]
        return torch.stack([both[row] for row in (range(6) if rows is None else rows)])


def test_adaptive_guidance_drops_the_row_of_each_image_after_it_agrees() -> None:
    denoise = _Rows([1, 3, 99])
    rows = GuidedRows([Guidance(4, [AdaptiveGuidance(similarity=0.99)])] * 3)
    counts = []
    for step in RUN:
        denoise.step = step.index
        sample = torch.arange(6.0)[:, None].repeat(1, 4).double() + step.index
        guided, record = rows.predict(step, sample, [], denoise)
        counts.append(record.rows_run)
        for i, at in enumerate(denoise.agree_at):
            u = denoise.u[i]
            c = u + (0.01 if step.index >= at else 1) * denoise.c[i]
            torch.testing.assert_close(guided[i], c if step.index > at else u + 4 * (c - u))
    assert counts == [6, 6, 5, 5, 4, 4]


def test_reused_updates_run_the_unconditional_row_at_every_nth_step() -> None:
    guide = Guidance(3, [ReuseUpdate(every=2, start=0.3)]).start()
    kept = torch.zeros(())
    for step, (u, c) in zip(RUN, pairs(6), strict=True):
        full = step.progress < 0.3 or step.index % 2 == 0
        assert needs(guide, step) == (full, True)
        got = guide.combine(u if full else None, c, step, u)
        kept = c - u if full else kept
        torch.testing.assert_close(got, c + 2 * kept)
    assert [s.index for s in RUN if not (s.progress < 0.3 or s.index % 2 == 0)] == [3, 5]


@pytest.mark.parametrize("interval", [False, True])
def test_feedback_follows_its_posterior(interval: bool) -> None:
    """The recursion of arXiv:2506.06085 written out for one image of a variance-exploding model that predicts x0.

    With an interval it is FBG_LIG of generate_images_FBG.py: the feedback at every step, the constant inside only.
    """
    pi, t0, tau, top = 0.95, 0.4, 0.004, 6.0
    schedule = Phases(scales=(1, 1.5, 1), sigma=(3.0, 0.5)) if interval else 1.5
    guide = Guidance(schedule, [FeedbackGuidance(pi=pi, t0=t0, tau=tau, max=top)]).start("x0")
    x = 14 * torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    log, lambdas = 0.0, []
    for step, (u, c) in zip(RUN, pairs(6, seed=4), strict=True):
        u, c = u[:1], c[:1]
        p = math.exp(log)
        constant = 1.0 if interval and not 0.5 < float(step.sigma or 0) < 3.0 else 1.5
        w = constant + p / (p - (1 - pi)) - 1
        lambdas.append(w)
        guided = guide.combine(u, c, step, x)
        torch.testing.assert_close(guided, u + w * (c - u))
        s, s1 = float(step.sigma or 0), float(step.next_sigma or 0)
        after = x + (s1 - s) * (x - guided) / s
        if s1:
            variance = (s**2 - s1**2) * s1**2 / s**2
            errors = [float(((after - (s1**2 / s**2 * x + (s**2 - s1**2) / s**2 * d)) ** 2).sum()) for d in (c, u)]
            log = log - tau / (2 * variance) * (errors[0] - errors[1]) + math.log((1 - pi) * 1.5) / ((1 - t0) * 6)
            most = top + 1 - 1.5
            log = min(max(log, math.log((1 - pi) * most / (most - 1))), 3.0)
        x = after
    assert max(lambdas) > 1.2 * min(lambdas)


def test_without_evidence_feedback_reaches_3_at_t0() -> None:
    guide = Guidance(1, [FeedbackGuidance(pi=0.9, t0=0.5, tau=0)]).start("x0")
    (u, c), x = pairs(1)[0], torch.zeros(3, 4, 6, 6, dtype=torch.float64)
    scales = []
    for step in RUN:
        guide.combine(u, c, step, x)
        scales.append(float(torch.as_tensor(guide.w).flatten()[0]))
    assert scales[0] == pytest.approx(1 / 0.9)
    assert scales[3] == pytest.approx(3.0)


def test_feedback_temperature_takes_the_variance_between_two_steps() -> None:
    levels = [4.0, 2.0, 1.0, 0.5, 0.0]
    v = [(a * a - b * b) * b * b / (a * a) for a, b in ((4, 2), (2, 1), (1, 0.5), (0.5, 0))]
    delta = math.log(0.05 * 1.5) / (0.5 * 4)
    assert feedback_temperature(levels, 0.95, 0.5, 0.5) == pytest.approx(abs(2 * v[1] / 10 * delta))
    mixed = 0.4 * v[2] + 0.6 * v[1]
    assert feedback_temperature(levels, 0.95, 0.5, 0.4) == pytest.approx(abs(2 * mixed / 10 * delta))


def test_feedback_says_what_it_needs() -> None:
    (u, c) = pairs(1)[0]
    guide = Guidance(1, [FeedbackGuidance(pi=0.9, t0=0.5, tau=0)]).start("x0")
    with pytest.raises(InputError, match="feedback at step 0 without latents, sigma or alpha"):
        guide.combine(u, c, RUN[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 | feedback(pi=1, t0=0.5, tau=0)", "feedback(pi=1): it must be between 0 and 1, both left out"),
        ("1 | feedback(pi=0.9, t0=1, tau=0)", "feedback(t0=1): it must be between 0 and 1, both left out"),
        ("1 | feedback(pi=0.9, t0=0.5, tau=-1)", "feedback(tau=-1): it must be 0 or more"),
        ("1 | magnitude_aware(alpha=-8)", "magnitude_aware(alpha=-8): it must be 0 or more"),
        ("1 | update_power()", "update_power without gamma: it is needed; write update_power(gamma=…)."),
        ("1 | adaptive(similarity=1.1)", "adaptive(similarity=1.1): it must be between 0 and 1"),
        ("1 | reuse(every=1)", "reuse(every=1): input should be greater than or equal to 2"),
    ],
)
def test_faults_are_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_guidance(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("w", [3.0, 2.5, 10.0])
def test_feedback_has_room_above_w(w: float) -> None:
    guide = Guidance(w, [FeedbackGuidance(pi=0.9, t0=0.5, tau=0, max=w - (w == 10.0))]).start("x0")
    (u, c), (v, d) = pairs(2)
    guide.combine(u, c, RUN[0], u)
    with pytest.raises(InputError, match=r"feedback\(.*\) at w = .*: max is the largest scale that it reaches"):
        guide.combine(v, d, RUN[1], v)


@pytest.mark.parametrize("other", ["icg()", "cads(tau1=0.1)"])
def test_a_scale_reads_the_prediction_that_another_method_replaces(other: str) -> None:
    """The replaced row is run for it; without such a scale it is not."""
    uncond, cond, latents = batch()
    alone = Guidance(f"3 | {other}").start().plan(STEP)
    guide = Guidance(f"3 | magnitude_aware(space=model) | {other}").start()
    plan = guide.plan(STEP)
    assert plan.uncond
    assert plan.cond
    assert plan.evaluations == alone.evaluations + 1
    guide.combine(uncond, cond, STEP, latents, dict.fromkeys(plan.passes, 2 * cond))
    ratio = (cond - uncond).flatten(1).norm(dim=1) / uncond.flatten(1).norm(dim=1)
    torch.testing.assert_close(torch.as_tensor(guide.w), 1 + 2 * (-8 * ratio).exp())
