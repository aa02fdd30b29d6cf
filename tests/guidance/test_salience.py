"""AND_SALT, AND_TOPK, SNF, contrastive CFG and DNG against their authors' or a peer's arithmetic in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import DNG, SNF, AndSalt, AndTopk, ContrastiveCFG, Guidance, Transform
from cfglab.step import Step
from tests.guidance.examples import STEP, batch, passes

W = 4.0


def three() -> tuple[Tensor, Tensor, Tensor]:
    u, c, x = (one.double() for one in batch())
    return u, c, 0.6 * u + 0.8 * x + 0.2 * c


def ours(transform: Transform, w: float = W) -> Tensor:
    u, c, other = three()
    guide = Guidance(w, [transform]).start()
    return guide.combine(u, c, STEP, extras=passes(guide, STEP, other))


def softmax(values: np.ndarray) -> np.ndarray:
    grown = np.exp(values - values.max())
    shares: np.ndarray = grown / grown.sum()
    return shares


@pytest.mark.parametrize("weight", [1.0, -0.4])
def test_and_salt_takes_the_more_salient_prompt_value_by_value(weight: float) -> None:
    taken = 0.0
    for image, u, c, other in zip(
        ours(AndSalt(prompt="snow", weight=weight, space="model")).numpy(), *(x.numpy() for x in three()), strict=True
    ):
        p, q = c - u, other - u
        mask = softmax(np.abs(q)) > softmax(np.abs(p))  # argmax of [normal, vector], over all values of the image
        np.testing.assert_allclose(image, u + W * (p + weight * mask * (q - p)), rtol=1e-11, atol=1e-11)
        taken += mask.mean()
    assert 0.2 < taken / 3 < 0.8


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_and_topk_adds_the_largest_values(share: float) -> None:
    for image, u, c, other in zip(
        ours(AndTopk(prompt="snow", weight=2, share=share)).numpy(), *(x.numpy() for x in three()), strict=True
    ):
        q = other - u
        rank = max(1, int(q.size * (1 - share)))  # the value of this rank is kept, as torch.kthvalue and >= have it
        kept = np.abs(q) >= np.sort(np.abs(q).ravel())[rank - 1]
        np.testing.assert_allclose(image, u + W * (c - u + 2 * kept * q), rtol=1e-11, atol=1e-11)
        assert abs(kept.mean() - share) < 0.01


@pytest.mark.parametrize("w", [W, 0.5])
def test_snf_is_the_nodes_fusion_of_the_two_scaled_updates(w: float) -> None:
    taps = np.exp(-0.5 * np.array([-1.0, 0.0, 1.0]) ** 2)
    taps /= taps.sum()

    def salience(channel: np.ndarray) -> np.ndarray:  # softmax(gaussian_blur_2d(|.|, 3, 1)) over h and w, reflected
        blurred = correlate1d(correlate1d(np.abs(channel), taps, 0, mode="mirror"), taps, 1, mode="mirror")
        return softmax(blurred)

    chosen = 0.0
    for image, u, c, other in zip(
        ours(SNF(prompt="snow", weight=1.5), w).numpy(), *(x.numpy() for x in three()), strict=True
    ):
        for k in range(len(image)):
            t, s = w * (c - u)[k], w * 1.5 * (other - u)[k]
            mask = salience(s) > salience(t)
            np.testing.assert_allclose(image[k], u[k] + np.where(mask, s, t), rtol=1e-10, atol=1e-10)
            chosen += mask.mean() / 12
    assert 0.1 < chosen < 0.9


def test_snf_needs_images() -> None:
    flat = torch.zeros(1, 16, 4)
    guide = Guidance(3, [SNF(prompt="snow")]).start()
    with pytest.raises(InputError, match="snf on predictions of shape"):
        guide.combine(flat, flat, STEP, extras=passes(guide, STEP, flat))


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("tau", [0.2, 0.003, 0.0])
def test_contrastive_cfg_is_the_authors_solver(tau: float, both: bool) -> None:
    """BaseDDIMnpCCFG of jinhojsk515/ContrastiveCFG: naive_positive_cfg is both=False."""
    u, c, other = three()
    noise_pred = u.clone()
    l2norm = tau * ((c - u) ** 2).sum(dim=(1, 2, 3), keepdim=True)
    noise_pred += W * (c - u) * (2 / (1 + torch.exp(-l2norm)) if both else 1)
    l2norm = tau * ((other - u) ** 2).sum(dim=(1, 2, 3), keepdim=True)
    noise_pred -= W * (other - u) * 2 * (torch.exp(-l2norm) / (1 + torch.exp(-l2norm)))
    got = ours(ContrastiveCFG(prompt="yellow", tau=tau, both=both))
    torch.testing.assert_close(got, noise_pred, rtol=1e-11, atol=1e-11)
    if tau == 0:
        torch.testing.assert_close(got, u + W * (c - u) - W * (other - u), rtol=1e-11, atol=1e-11)


def test_dng_is_the_ddpm_loop_of_the_authors() -> None:
    """gen_batch_DNG and compute_posterior_DNG of FelixKoulischer/Dynamic-Negative-Guidance, four steps, p moving."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bars = torch.cumprod(1 - betas, 0)
    generator = torch.Generator().manual_seed(2)
    size = (2, 3, 4, 4)

    def noise() -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    scale, prior, temperature, offset = 5.0, 0.05, 0.2, 2e-4
    x, p, seen = noise(), torch.full((2,), prior, dtype=torch.float64), []
    guide = Guidance(0, [DNG(prompt="cat", prior=prior)]).start("epsilon")
    for index, t in enumerate(range(400, 396, -1)):
        u, n = noise(), noise()
        guided = u - (scale * p / (1 - p))[:, None, None, None] * (n - u)
        sigma = math.sqrt((1 - bars[t]) / bars[t])
        step = Step(index, 4, float(t), sigma, alpha=math.sqrt(bars[t]))
        got = guide.combine(u, u, step, x, passes(guide, step, n))
        torch.testing.assert_close(got, guided, rtol=1e-7, atol=1e-9)
        new = (x - betas[t] / (1 - bars[t]).sqrt() * guided) / (1 - betas[t]).sqrt() + betas[t].sqrt() * noise()
        alpha, variance = 1 - betas[t], (1 - bars[t - 1]) / (1 - bars[t]) * betas[t]
        means = [(x - (1 - alpha) / (1 - bars[t]).sqrt() * one) / alpha.sqrt() for one in (u, n)]
        from_uncond, from_bad = (((new - mean) ** 2).flatten(1).sum(1) for mean in means)
        p = p * torch.exp(1 / (2 * variance) * (-temperature * (from_bad - from_uncond) + offset))
        p = torch.clamp(p, min=1e-6, max=0.8)
        x = new
        seen.append(float(p[0]))
    assert len({round(one, 4) for one in seen}) == 4


def test_dng_beside_a_prompt_adds_to_its_guidance_and_says_what_it_needs() -> None:
    u, c, other = three()
    guide = Guidance(W, [DNG(prompt="blue", prior=0.5, s=2)]).start("x0")
    x = batch()[2].double()
    got = guide.combine(u, c, STEP, x, passes(guide, STEP, other))
    torch.testing.assert_close(got, u + W * (c - u) - 2 * (other - u), rtol=1e-11, atol=1e-11)
    guide = Guidance(W, [DNG(prompt="blue")]).start("x0")
    with pytest.raises(InputError, match="dng at step 4 without latents, sigma or alpha"):
        guide.combine(u, c, STEP, extras=passes(guide, STEP, other))
