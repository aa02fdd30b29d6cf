"""Rescale, both thresholdings and the CFGNorm family against their formulas and the programs that have them."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.guiders.guider_utils import rescale_noise_cfg

from cfglab.errors import InputError
from cfglab.guidance import CFGNorm, Guidance, ImagenThreshold, MimicThreshold, PredictionNorm, Rescale, parse_guidance
from tests.guidance.examples import STEP, batch, needs

W = 4.0


def plain() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """uncond, cond and plain CFG at scale W, float64."""
    u, c, _ = (x.double() for x in batch())
    return u, c, u + W * (c - u)


@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_rescale_is_section_3_4_and_diffusers(phi: float) -> None:
    u, c, g = plain()
    got = Guidance(W, [Rescale(strength=phi, space="model")]).start("v").combine(u, c, STEP)
    torch.testing.assert_close(got, rescale_noise_cfg(g, c, phi), rtol=1e-12, atol=1e-12)
    for image, ci, gi in zip(got.numpy(), c.numpy(), g.numpy(), strict=True):
        np.testing.assert_allclose(image, phi * gi * ci.std() / gi.std() + (1 - phi) * gi, rtol=1e-10, atol=1e-12)


def test_rescale_acts_in_v_and_needs_no_unconditional_row_at_w_1() -> None:
    assert Rescale() == Rescale(space="v", strength=0.7)
    guide = Guidance(1, [Rescale()]).start("v")
    assert needs(guide, STEP) == (False, True)
    c = batch()[1]
    assert torch.equal(guide.combine(None, c, STEP), c)


# -- thresholding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("percentile", "limit"), [(0.995, 1.0), (0.9, 1.0), (0.5, 0.2), (1.0, 3.0)])
def test_imagen_threshold_is_its_formula(percentile: float, limit: float) -> None:
    u, c, g = plain()
    got = Guidance(W, [ImagenThreshold(percentile=percentile, limit=limit)]).start("x0").combine(u, c, STEP)
    for image, gi in zip(got.numpy(), g.numpy(), strict=True):
        s = max(limit, np.quantile(np.abs(gi), percentile))
        np.testing.assert_allclose(image, np.clip(gi, -s, s) * limit / s, rtol=1e-12)


def test_imagen_threshold_of_diffusers_schedulers() -> None:
    u, c, g = plain()
    got = Guidance(W, [ImagenThreshold(percentile=0.9)]).start("x0").combine(u, c, STEP)
    theirs = DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1e9)
    torch.testing.assert_close(got, theirs._threshold_sample(g), rtol=1e-12, atol=1e-12)
    by_default = DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9)
    torch.testing.assert_close(by_default._threshold_sample(g), g.clamp(-1, 1))  # s is held at 1: plain clipping


@pytest.mark.parametrize("channels", [True, False])
@pytest.mark.parametrize("percentile", [1.0, 0.9])
@pytest.mark.parametrize("measure", ["ad", "std"])
@pytest.mark.parametrize("start", ["mean", "zero"])
def test_mimic_threshold_is_dynthres_core(start: str, measure: str, percentile: float, channels: bool) -> None:
    u, c, g = plain()
    transform = MimicThreshold(mimic=2, percentile=percentile, measure=measure, start=start, per_channel=channels)
    got = Guidance(W, [transform]).start("x0").combine(u, c, STEP)
    for image, ui, ci, gi in zip(got.numpy(), u.numpy(), c.numpy(), g.numpy(), strict=True):
        m = ui + 2 * (ci - ui)
        means = gi.mean(axis=(1, 2), keepdims=True)
        gc, mc = gi - means, m - m.mean(axis=(1, 2), keepdims=True)
        axes = (1, 2) if channels else (0, 1, 2)
        if measure == "std":
            rm, rg = mc.std(axes, ddof=1, keepdims=True), gc.std(axes, ddof=1, keepdims=True)
        else:
            rm = np.abs(mc).max(axes, keepdims=True)
            rg = np.quantile(np.abs(gc), percentile, axis=axes, keepdims=True)
        if start == "zero":
            expected = gi * rm / rg
        elif measure == "std":
            expected = gc / rg * rm + means
        else:
            top = np.maximum(rm, rg)
            expected = np.clip(gc, -top, top) / top * rm + means
        np.testing.assert_allclose(image, expected, rtol=1e-10, atol=1e-12)


def test_mimicking_ones_own_scale_changes_nothing() -> None:
    u, c, g = plain()
    got = Guidance(W, [MimicThreshold(mimic=W)]).start("x0").combine(u, c, STEP)
    torch.testing.assert_close(got, g, rtol=1e-12, atol=1e-12)


# -- the CFGNorm family ----------------------------------------------------------------------------------------------


def test_the_family_has_base_norm() -> None:
    u, c, _ = plain()
    ours = Guidance(W, [CFGNorm(reference="uncond", space="epsilon")]).start().combine(u, c, STEP)
    torch.testing.assert_close(ours, Guidance(W, [PredictionNorm()]).start().combine(u, c, STEP), rtol=1e-12, atol=0)


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_the_family_has_comfyuis(strength: float) -> None:
    u, c, g = plain()
    transform = CFGNorm(axis="channel", max=strength, times=strength, space="x0")
    got = Guidance(W, [transform]).start("x0").combine(u, c, STEP)
    ratio = c.norm(dim=1, keepdim=True) / (g.norm(dim=1, keepdim=True) + 1e-8)
    torch.testing.assert_close(got, g * ratio.clamp(0, 1) * strength, rtol=1e-6, atol=1e-9)


def test_the_family_has_qwens_and_lumina_2s_last_dimension() -> None:
    u, c, g = plain()
    for shape in ((3, 4, 8, 8), (3, 64, 4)):  # Lumina 2's images: columns; Qwen-Image's packed tokens: their channels
        us, cs, gs = (x.reshape(shape) for x in (u, c, g))
        got = Guidance(W, [CFGNorm(axis="last")]).start("flow").combine(us, cs, STEP)
        expected = gs * (torch.norm(cs, dim=-1, keepdim=True) / torch.norm(gs, dim=-1, keepdim=True))
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [0.5, 1.0, 2.0, 9.0])
def test_the_family_has_z_images(k: float) -> None:
    u, c, _ = plain()
    # its scale s is of pos + s (pos - neg): w = s + 1
    got = Guidance(W, [CFGNorm(times=k, max=1)]).start("flow").combine(u, c, STEP)
    for image, pos, neg in zip(got, c, u, strict=True):
        pred = pos + (W - 1) * (pos - neg)
        longest = torch.linalg.vector_norm(pos) * k
        if torch.linalg.vector_norm(pred) > longest:
            pred = pred * (longest / torch.linalg.vector_norm(pred))
        torch.testing.assert_close(image, pred, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("6 | rescale(strength=1.2)", "rescale(strength=1.2): it must be between 0 (plain CFG) and 1"),
        ("6 | imagen_threshold(percentile=99.5)", "it must be above 0 and at most 1, a share of the values"),
        ("6 | imagen_threshold(limit=0)", "imagen_threshold(limit=0): it must be above 0"),
        ("6 | mimic_threshold(start=median)", "input should be 'mean' or 'zero'"),
        ("6 | cfg_norm(axis=width)", "input should be 'image', 'channel' or 'last'"),
        ("6 | cfg_norm(min=2, max=1)", "cfg_norm(min=2, max=1): min is at most max; swap them."),
        ("6 | cfg_norm(max=-1)", "it must be 0 or more"),
    ],
)
def test_faults_are_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_guidance(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_no_upper_bound_is_written_and_read() -> None:
    assert parse_guidance("6 | cfg_norm(max=None)").transforms[0] == CFGNorm()
    assert str(CFGNorm(max=1.5)) == "cfg_norm(max=1.5)"
