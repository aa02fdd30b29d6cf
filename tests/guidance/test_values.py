"""MaHiRo, Skimmed, momentum guidance and epsilon scaling against their formulas in float64."""

import numpy as np
import pytest
import torch

from cfglab.errors import InputError
from cfglab.guidance import EpsilonScaling, Guidance, MaHiRo, MomentumGuidance, Skimmed, parse_guidance
from cfglab.step import Step
from tests.guidance.examples import NEXT, STEP, batch, needs


def double(seed: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    u, c, x = (x.double() for x in batch(seed=seed))
    return u, c, x


def test_mahiro_is_comfyuis_of_one_image() -> None:
    u, c, _ = double()
    got = Guidance(5, [MaHiRo()]).start("x0").combine(u, c, STEP)
    for image, ui, ci in zip(got.numpy(), u.numpy(), c.numpy(), strict=True):
        leap, cfg = 5 * ci, ui + 5 * (ci - ui)
        a, b = (np.sign(x) * np.sqrt(np.abs(x)) for x in (5 * ui, (leap + cfg) / 2))
        sim = ((a * b).sum(0) / np.sqrt((a**2).sum(0)) / np.sqrt((b**2).sum(0))).mean()
        k = 2 * (sim + 1)
        np.testing.assert_allclose(image, (k * cfg + (4 - k) * leap) / 4, rtol=1e-10, atol=1e-12)


def skimmed(x: np.ndarray, cond: np.ndarray, uncond: np.ndarray, w: float, skim: float, flips: bool) -> np.ndarray:
    """The changed cond of skimmed_CFG.py."""
    denoised = x - ((x - uncond) + w * ((x - cond) - (x - uncond)))
    mask = (np.sign(cond - uncond) == np.sign(cond)) & (np.sign(cond) == np.sign(cond * w - uncond * (w - 1)))
    if flips:
        mask &= np.sign(denoised) == np.sign(denoised - x)
    low = x - ((x - uncond) + skim * ((x - cond) - (x - uncond)))
    return np.where(mask, cond - (denoised - low) / w, cond)


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize(("skim", "full"), [(2.0, False), (0.0, False), (3.0, True), (9.0, False)])
@pytest.mark.parametrize("as_in", ["published", "comfyui"])
def test_skimmed_is_the_single_scale_node(skim: float, full: bool, flips: bool, flow: bool, as_in: str) -> None:
    u, c, x = double()
    w, alpha = 6.0, 1 / 2.7 if flow else STEP.alpha
    assert alpha is not None
    step = Step(0, 10, sigma=1.7, alpha=alpha)
    guide = Guidance(w, [Skimmed(skim=skim, full_negative=full, flips=flips, as_in=as_in)]).start("x0")
    got, changed = guide.combine(u, c, step, x), 0
    for image, ui, ci, xi in zip(got.numpy(), u.numpy(), c.numpy(), x.numpy(), strict=True):
        seen = xi if flow else xi / alpha
        other = skimmed(seen, ui, ci, w, 0 if full else skim, flips)
        mine = skimmed(seen, ci, other, w - (as_in == "comfyui"), skim, flips)
        changed += int((mine != ci).sum()) * int((other != ui).sum())
        np.testing.assert_allclose(image, other + w * (mine - other), rtol=1e-9, atol=1e-9)
    assert changed


def test_todays_node_has_another_scale_inside_the_mask_than_its_skim() -> None:
    u, c, x = double()
    first, today = (
        Guidance(6, [Skimmed(skim=2, as_in=one)]).start("x0").combine(u, c, STEP, x) for one in ("published", "comfyui")
    )
    assert not torch.allclose(first, today, rtol=0.01)
    changed = (first - u) / (c - u), (today - u) / (c - u)  # where u itself is not changed: w, 2, or 2 * 6 / 5
    for scale, share in zip((2.0, 2.4), changed, strict=True):
        assert torch.isclose(share, torch.tensor(scale, dtype=torch.float64)).any()
    assert str(Skimmed(as_in="comfyui")) == "skimmed(as_in=comfyui)"
    assert "as_in" not in Guidance(6, [Skimmed()]).to_json()
    one = Guidance(1, [Skimmed(as_in="comfyui")]).start("x0").combine(u, c, STEP, x)
    torch.testing.assert_close(one, c)


def test_skimmed_needs_what_the_denoiser_saw_and_x0() -> None:
    u, c, x = double()
    with pytest.raises(InputError, match=r"step 4 without latents: this transform compares"):
        Guidance(6, [Skimmed()]).start("x0").combine(u, c, STEP)
    with pytest.raises(InputError, match=r"step 0 without sigma and alpha"):
        Guidance(6, [Skimmed()]).start("x0").combine(u, c, Step(0, 1), x)
    with pytest.raises(InputError, match=r"skimmed\(space='epsilon'\): input should be 'x0'"):
        parse_guidance("6 | skimmed(space=epsilon)")


@pytest.mark.parametrize("w", [1.0, 4.0])
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.6), (0.5, 0.0), (2.0, 0.9)])
def test_momentum_is_algorithm_1(alpha: float, beta: float, w: float) -> None:
    guide = Guidance(w, [MomentumGuidance(alpha=alpha, beta=beta)]).start("flow")
    mean = None
    for index, seed in enumerate((5, 6, 7)):
        u, c, x = double(seed)
        v = u + w * (c - u)
        mean = v if mean is None else mean
        step = Step(index, 3, sigma=3.0 - index, alpha=0.5)
        assert needs(guide, step) == (w != 1, True)
        got = guide.combine(u if w != 1 else None, c, step, x)
        torch.testing.assert_close(got, v + alpha * (v - mean), rtol=1e-10, atol=1e-10)
        mean = (1 - beta) * v + beta * mean


def test_momentum_is_adams_bashforth_on_even_steps() -> None:
    # y' = y by Euler steps of v + (v - v_before) / 2: second order, so twice the steps are four times nearer
    def end(count: int) -> float:
        guide = Guidance(1, [MomentumGuidance(alpha=0.5, beta=0)]).start("flow")
        y, width = torch.ones(1, 1, dtype=torch.float64), 1 / count
        for index in range(count):
            y = y + width * guide.combine(None, y, Step(index, count))
        return float(y)

    errors = [abs(end(count) - np.e) for count in (200, 400)]
    assert 3.7 < errors[0] / errors[1] < 4.3


def test_epsilon_scaling_is_comfyuis_of_the_residual() -> None:
    u, c, x = double()
    got = Guidance(3, [EpsilonScaling(factor=1.02)]).start("x0").combine(u, c, STEP, x)
    assert STEP.alpha is not None
    seen = x / STEP.alpha
    denoised = u + 3 * (c - u)
    torch.testing.assert_close(got, seen - (seen - denoised) / 1.02, rtol=1e-10, atol=1e-10)
    alone = Guidance(1, [EpsilonScaling(factor=1.02)]).start("epsilon")
    assert needs(alone, NEXT) == (False, True)
    torch.testing.assert_close(alone.combine(None, c, NEXT), c / 1.02)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("6 | momentum(beta=1)", "momentum(beta=1): it must be 0 or more and below 1, the share that is kept"),
        ("6 | momentum(alpha=-0.5)", "momentum(alpha=-0.5): it must be 0 or more"),
        ("6 | epsilon_scaling(factor=0)", "epsilon_scaling(factor=0): it must be above 0"),
        ("6 | skimmed(skim=-1)", "skimmed(skim=-1): it must be 0 or more"),
        ("6 | mahiro(scale=3)", "mahiro has no 'scale': it takes strength, space"),
    ],
)
def test_faults_are_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_guidance(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
