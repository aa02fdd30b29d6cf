"""SMC-CFG, HiGS and SG-prev, which remember past steps, against their authors' or a peer's arithmetic in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import SMCCFG, Guidance, HiGS, SGPrev, Space, Transform, parse_guidance
from cfglab.guidance.methods.higs import high_pass
from cfglab.step import Step, steps
from tests.guidance.examples import batch, needs

LEVELS = [9.0, 3.0, 1.6, 0.9, 0.4, 0.0]
RUN = [
    Step(s.index, s.count, 999.0 * (1 - s.index / 4), s.sigma, s.next_sigma, 1 / (1 + float(s.sigma or 0)))
    for s in steps(5, LEVELS)
]


def predictions() -> list[tuple[Tensor, Tensor, Tensor]]:
    """u, c and the latents of five steps, float64, predictions that change slowly as those of a run do."""
    u, c, x = (one.double() for one in batch())
    more = [tuple(one.double() for one in batch(seed=seed)) for seed in range(7, 12)]
    return [(u + 0.2 * a, c + 0.2 * b, x + 0.1 * z) for a, b, z in more]


def guided(transform: Transform, w: float, space: Space) -> list[Tensor]:
    guide = Guidance(w, [transform]).start(space)
    return [guide.combine(u, c, step, x) for step, (u, c, x) in zip(RUN, predictions(), strict=True)]


# -- SMC-CFG -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [1.0, 7.5])
def test_smc_cfg_is_the_authors_controller(w: float) -> None:
    """CFGCtrlMixin._cfg_ctrl_apply of hanyang-21/CFG-Ctrl: the state holds the error after its own correction."""
    state = None
    for got, (u, c, _) in zip(guided(SMCCFG(), w, "flow"), predictions(), strict=True):
        error = (c - u).numpy()
        state = error if state is None else state
        surface = (error - state) + 5.0 * state
        error = error + (-0.2 * np.sign(surface))
        state = error
        np.testing.assert_allclose(got.numpy(), u.numpy() + w * error, rtol=1e-12, atol=1e-12)


def test_smc_cfg_of_comfyui_divides_by_the_length_of_each_image() -> None:
    """SlidingModeControlCFG of pamparamm/sd-perturbed-attention, on x0."""
    last: Tensor | None = None
    for got, (u, c, _) in zip(guided(SMCCFG(as_in="comfyui"), 5, "x0"), predictions(), strict=True):
        e_t = c - u
        e_t_prev = e_t if last is None else last
        s_t = (e_t - e_t_prev) + 6.0 * e_t_prev
        unit = torch.stack([one / torch.linalg.vector_norm(one) for one in s_t])
        last = e_t - 0.1 * unit
        torch.testing.assert_close(got, u + 5 * last, rtol=1e-12, atol=1e-12)
    u, c, x = (part.reshape(3, 4, 2, 4, 8) for part in predictions()[0])  # of a video: vector_norm(dim=(1, 2, 3))
    got = Guidance(5, [SMCCFG(as_in="comfyui")]).start("x0").combine(u, c, RUN[0], x)
    unit = (c - u) / torch.linalg.vector_norm(c - u, dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(got, u + 5 * (c - u - 0.1 * unit), rtol=1e-12, atol=1e-12)
    assert str(SMCCFG(as_in="comfyui")) == "smc_cfg(space=x0, lam=6, k=0.1, as_in=comfyui)"
    assert not torch.allclose(guided(SMCCFG(), 5, "x0")[1], guided(SMCCFG(as_in="comfyui"), 5, "x0")[1])


# -- HiGS --------------------------------------------------------------------------------------------------------------


def filtered(image: np.ndarray, cutoff: float) -> np.ndarray:
    """iDCT(H DCT(image)) of the last two axes with scipy, H = sigmoid(50 (R - cutoff))."""
    height, width = image.shape[-2:]
    radius = np.sqrt((np.arange(height)[:, None] / height) ** 2 + (np.arange(width)[None] / width) ** 2)
    spectrum = dctn(image, type=2, norm="ortho", axes=(-2, -1)) / (1 + np.exp(-50 * (radius - cutoff)))
    restored: np.ndarray = idctn(spectrum, type=2, norm="ortho", axes=(-2, -1))
    return restored


def test_the_high_pass_filter_is_scipys_cosine_transform() -> None:
    image = torch.randn(2, 3, 6, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(high_pass(image, 0.2).numpy(), filtered(image.numpy(), 0.2), rtol=1e-11, atol=1e-12)
    flat = high_pass(torch.full((1, 1, 8, 8), 3.0, dtype=torch.float64), 0.5)
    assert flat.abs().max() < 1e-9  # the mean is a low frequency
    with pytest.raises(InputError, match="higs on predictions of shape"):
        high_pass(torch.zeros(2, 64, 8), 0.1)


@pytest.mark.parametrize("eta", [1.0, 0.0, 0.3])
def test_higs_is_algorithms_2_and_3(eta: float) -> None:
    values = HiGS(s=1.5, eta=eta, alpha=0.6, cutoff=0.2, t_min=0.3, t_max=0.8)
    mean: list[np.ndarray] | None = None
    acted = []
    for index, (got, (u, c, _)) in enumerate(zip(guided(values, 4, "x0"), predictions(), strict=True)):
        t = LEVELS[index] / (1 + LEVELS[index])
        scale = 1.5 * math.sqrt((t - 0.3) / 0.5) if 0.3 < t <= 0.8 else 0.0
        plain = (u + 4 * (c - u)).numpy()
        acted.append(bool(scale) and mean is not None)
        for image, D, m in zip(got.numpy(), plain, plain if mean is None else mean, strict=True):
            delta = D - m
            parallel = (delta * D).sum() / (D * D).sum() * D
            expected = D + scale * filtered(delta - parallel + eta * parallel, 0.2) if mean is not None else D
            np.testing.assert_allclose(image, expected, rtol=1e-10, atol=1e-10)
        mean = [0.6 * D + 0.4 * (0 if mean is None else mean[i]) for i, D in enumerate(plain)]
    assert acted == [False, True, True, True, False]


def test_higs_needs_sigma_and_a_window() -> None:
    u, c, x = predictions()[0]
    with pytest.raises(InputError, match="higs at step 0 without sigma"):
        Guidance(3, [HiGS()]).start("x0").combine(u, c, Step(0, 4), x)
    with pytest.raises(InputError, match=r"higs\(t_min=0.5, t_max=0.4\): t_min is below t_max; swap them."):
        parse_guidance("3 | higs(t_min=0.5, t_max=0.4)")
    assert needs(Guidance("1 | higs()").start(), RUN[0]) == (False, True)


# -- SG-prev -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [1.0, 4.0])
def test_sg_prev_is_the_loop_of_the_authors_pipeline(w: float) -> None:
    """pipeline_sd.py of maple-research-lab/Self-Guidance with sg_type sg_prev, sg_prev_max_t 500."""
    deltat: Tensor | None = None
    changed = []
    for step, got, (u, c, _) in zip(RUN, guided(SGPrev(), w, "epsilon"), predictions(), strict=True):
        both = torch.cat([u, c])
        previous = both if deltat is None or float(step.timestep or 0) >= 500 else deltat
        deltat = both.clone()
        expected = u + w * (c - u) + 3 * (c - previous.chunk(2)[1])
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
        changed.append(not torch.allclose(got, u + w * (c - u)))
    assert changed == [False, False, True, True, True]


def test_sg_prev_counts_time_by_the_run_where_a_sampler_has_no_time_steps() -> None:
    guide = Guidance(1, [SGPrev()]).start("flow")
    changed = []
    for step, (_, c, _) in zip(steps(5), predictions(), strict=True):
        changed.append(not torch.equal(guide.combine(None, c, step), c))
    assert changed == [False, False, False, True, True]
