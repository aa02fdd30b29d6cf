"""ADG, NRS, TAG and TSR against their authors' arithmetic in float64, written again, and against exact laws."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import ADG, NRS, TAG, TSR, Guidance, Space, Transform
from cfglab.guidance.parameterization import convert
from cfglab.step import Step
from tests.guidance.examples import STEP, batch, needs

FLOW = Step(3, 8, sigma=1.5, next_sigma=1.0, alpha=0.4)


def double(seed: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    u, c, x = (one.double() for one in batch(seed=seed))
    return u, c, x


def guided(transform: Transform, w: float, space: Space, step: Step = STEP) -> Tensor:
    u, c, x = double()
    return Guidance(w, [transform]).start(space).combine(u, c, step, x)


# -- ADG ---------------------------------------------------------------------------------------------------------------


def adg(c: Tensor, u: Tensor, weight: float, angle: float, keep_norm: bool) -> Tensor:
    """ADG_SD3 of jinc7461/ADG on the two clean images, its 3.14 and its weight given."""
    n = len(c)
    text, uncond = (one.reshape(n, -1) for one in (c, u))
    cosine = ((text / text.norm(dim=1, keepdim=True)) * (uncond / uncond.norm(dim=1, keepdim=True))).sum(1)
    theta = torch.acos(cosine).reshape(n, 1, 1, 1)
    new = torch.clip(weight * theta, -angle, angle)
    difference = text - uncond
    projection = (difference * uncond).sum(1, keepdim=True) / (uncond * uncond).sum(1, keepdim=True) * uncond
    perp = (difference - projection).reshape(c.shape)
    straight = torch.sin(theta) <= 1e-3
    turned = torch.cos(new) * c + torch.where(straight, perp * weight, perp * torch.sin(new) / torch.sin(theta))
    return turned * c.norm(dim=1, keepdim=True) / turned.norm(dim=1, keepdim=True) if keep_norm else turned


@pytest.mark.parametrize("keep_norm", [False, True])
@pytest.mark.parametrize("w", [1.2, 4.0, 15.0])
def test_adg_is_the_authors_turn_of_the_clean_image(w: float, keep_norm: bool) -> None:
    u, c, _ = double()
    got = guided(ADG(keep_norm=keep_norm), w + 1e-3, "x0")  # their weight is w - 1 + 1e-3
    torch.testing.assert_close(got, adg(c, u, w - 1 + 1e-3, math.pi / 3, keep_norm), rtol=1e-7, atol=1e-7)
    theirs = adg(c, u, w - 1 + 1e-3, 3.14 / 3, keep_norm)
    assert (guided(ADG(keep_norm=keep_norm), w, "x0") - theirs).abs().max() < 0.02 * theirs.abs().max()


def test_adg_never_turns_further_than_its_angle_and_w_1_is_the_conditional_image() -> None:
    u, c, _ = double()
    plain = guided(ADG(), 1.0, "x0")
    torch.testing.assert_close(plain, c, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(guided(ADG(), 0.2, "x0"), c, rtol=1e-12, atol=1e-12)
    lengths = guided(ADG(max_angle=30), 40, "x0").flatten(1).norm(dim=1) / c.flatten(1).norm(dim=1)
    for ratio, ci, ui in zip(lengths.tolist(), c, u, strict=True):
        cosine = float((ci * ui).sum() / ci.norm() / ui.norm())
        sine = math.sqrt(1 - cosine**2)  # cos t' D_c + sin t' / sin t D_orth, with D_orth of length |D_c| sin t
        expected = math.hypot(math.cos(math.pi / 6) * cosine, math.cos(math.pi / 6) * sine + math.sin(math.pi / 6))
        assert ratio == pytest.approx(expected, rel=1e-9)


def test_adg_of_parallel_predictions_is_cfg_across_them() -> None:
    u, _, x = double()
    c = 1.5 * u + 1e-5 * x
    got = Guidance(6, [ADG()]).start("x0").combine(u, c, STEP, x)
    torch.testing.assert_close(got, adg(c, u, 5.0, math.pi / 3, False), rtol=1e-7, atol=1e-7)


# -- NRS ---------------------------------------------------------------------------------------------------------------


def nrs(cond: Tensor, uncond: Tensor, skew: float, stretch: float, squash: float) -> Tensor:
    """The inner part of NRS.nrs of Reithan/negative_rejection_steering, with a loop over positions."""
    c, u = (one.flatten(2).transpose(1, 2).numpy() for one in (cond, uncond))
    out = np.empty_like(c)
    for image in range(c.shape[0]):
        for position in range(c.shape[1]):
            ci, ui = c[image, position], u[image, position]
            on = (ui @ ci) / (ci @ ci) * ci
            steered = ci + stretch * (ci - on) - skew * (ui - on)
            out[image, position] = steered * ((1 - squash) + squash * np.linalg.norm(ci) / np.linalg.norm(steered))
    return torch.from_numpy(out).transpose(1, 2).reshape(cond.shape)


@pytest.mark.parametrize("fields", [(2.0, 5.0, 0.75), (0.0, 1.0, 0.0), (-3.0, 0.0, 1.0)])
def test_nrs_steers_every_position_in_v(fields: tuple[float, float, float]) -> None:
    u, c, _ = double()
    values = NRS(skew=fields[0], stretch=fields[1], squash=fields[2])
    torch.testing.assert_close(guided(values, 7.5, "v"), nrs(c, u, *fields), rtol=1e-11, atol=1e-11)
    assert torch.equal(guided(values, 7.5, "v"), guided(values, 1, "v"))  # w has no effect


@pytest.mark.parametrize("v_model", [False, True])
@pytest.mark.parametrize("flow", [False, True])
def test_nrs_of_comfyui_is_in_the_space_that_its_node_computes(v_model: bool, flow: bool) -> None:
    """The node gets x, x - D_c and x - D_u of a sample x0 + sigma epsilon, or of a flow x and t, and gives x - D."""
    step = FLOW if flow else STEP
    sigma = float(step.sigma or 0) if not flow else 0.6  # ComfyUI's sigma of a flow is t
    alpha = float(step.alpha or 0)
    u, c, x = double()
    clean = [convert(one, x, step, "epsilon", "x0") for one in (u, c)]
    seen = x if flow else x / alpha
    uncond, cond = (seen - one for one in clean)
    root = math.sqrt(sigma**2 + 1)
    if v_model:  # "already in v space": the node leaves x - D as it is
        theirs = seen - nrs(cond, uncond, 2.0, 5.0, 0.75)
        ours = NRS(space="flow" if flow else "epsilon")
    else:
        shared = seen / (sigma**2 + 1)
        pair = [seen - (shared - one * sigma / root) for one in (cond, uncond)]
        theirs = seen - (shared - (seen - nrs(pair[0], pair[1], 2.0, 5.0, 0.75))) * (root / sigma)
        ours = NRS(as_in="comfyui")
    got = convert(Guidance(3, [ours]).start("epsilon").combine(u, c, step, x), x, step, "epsilon", "x0")
    torch.testing.assert_close(got, theirs, rtol=1e-9, atol=1e-9)


def test_nrs_of_comfyui_needs_the_latents_and_its_space() -> None:
    u, c, _ = double()
    with pytest.raises(InputError, match=r"nrs\(as_in=comfyui\) at step 4 without latents, sigma or alpha"):
        Guidance(3, [NRS(as_in="comfyui")]).start("v").combine(u, c, STEP)
    with pytest.raises(InputError, match="leave the space out"):
        NRS(as_in="comfyui", space="x0")


# -- TAG ---------------------------------------------------------------------------------------------------------------


def amplified(x: np.ndarray, step: np.ndarray, eta: float) -> np.ndarray:
    """Algorithm 2 of 2510.04533 on a step of one image, as ComfyUI writes it."""
    unit = x / np.sqrt((x**2).sum())
    radial = (step * unit).sum() * unit
    return radial + eta * (step - radial)


@pytest.mark.parametrize("space", ["epsilon", "v", "flow", "x0"])
def test_tag_amplifies_the_step_of_ddim_and_of_euler_across_the_sample(space: Space) -> None:
    u, c, x = double()
    w, eta = 5.0, 1.25
    plain, tagged = (
        convert(Guidance(w, ts).start("epsilon").combine(u, c, STEP, x), x, STEP, "epsilon", "x0")
        for ts in ([], [TAG(eta=eta, space=space)])
    )
    alpha, after = float(STEP.alpha or 0), 0.9
    noise, noise_after = alpha * float(STEP.sigma or 0), math.sqrt(1 - after**2)
    moved = [after * clean + noise_after * (x - alpha * clean) / noise - x for clean in (plain, tagged)]  # DDIM
    for start, step, other in zip(x.numpy(), moved[0].numpy(), moved[1].numpy(), strict=True):
        np.testing.assert_allclose(other, amplified(start, step, eta), rtol=1e-9, atol=1e-9)


def test_tag_of_comfyui_is_on_the_clean_image() -> None:
    u, c, x = double()
    seen = x / float(STEP.alpha or 1)
    got = Guidance(4, [TAG()]).start("x0").combine(u, c, STEP, x)
    for image, start, plain in zip(got.numpy(), seen.numpy(), (u + 4 * (c - u)).numpy(), strict=True):
        np.testing.assert_allclose(image, start + amplified(start, plain - start, 1.05), rtol=1e-11, atol=1e-11)
    with pytest.raises(InputError, match="step 4 without latents of the prediction's shape: tag"):
        Guidance(4, [TAG()]).start("x0").combine(u, c, STEP)
    assert needs(Guidance("1 | tag()").start(), STEP) == (False, True)


# -- TSR ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0.9, 4.0])
@pytest.mark.parametrize("space", ["epsilon", "x0", "v", "flow"])
def test_tsr_is_the_exact_score_of_normal_data_with_a_kth_of_the_variance(space: Space, k: float) -> None:
    _, _, x = double()
    deviation, alpha, sigma = 0.7, float(STEP.alpha or 0), float(STEP.sigma or 0)

    def exact(variance: float) -> Tensor:  # epsilon of x = alpha (x0 + sigma epsilon), x0 normal around 0
        return x / alpha * sigma / (variance + sigma**2)

    there = convert(exact(deviation**2), x, STEP, "epsilon", space)
    got = Guidance(1, [TSR(k=k, data_sigma=deviation)]).start(space).combine(None, there, STEP, x)
    torch.testing.assert_close(got, convert(exact(deviation**2 / k), x, STEP, "epsilon", space), rtol=1e-9, atol=1e-9)


def test_tsr_is_what_both_schedulers_of_the_authors_compute() -> None:
    _, c, x = double()
    alpha_prod = float(STEP.alpha or 0) ** 2  # TSR_DDIMScheduler.get_psr_ratio
    ratio = (alpha_prod * 0.8**2 + 1 - alpha_prod) / (alpha_prod * 0.8**2 / 1.3 + 1 - alpha_prod)
    got = Guidance(1, [TSR(k=1.3, data_sigma=0.8)]).start("epsilon").combine(None, c, STEP, x)
    torch.testing.assert_close(got, c * ratio, rtol=1e-12, atol=1e-12)
    t = 0.6  # TSR_FlowEulerScheduler.step
    snr = (1 - t) ** 2 / t**2
    ratio = (snr * 0.1**2 + 1) / (snr * 0.1**2 / 1.3 + 1)
    got = Guidance(1, [TSR(k=1.3, data_sigma=0.1)]).start("flow").combine(None, c, FLOW, x)
    torch.testing.assert_close(got, (ratio * ((1 - t) * c + x) - x) / (1 - t), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("data", [0.5, 1.0])
def test_tsr_multiplies_epsilon_of_edm_too(data: float) -> None:
    _, c, x = double()
    step = Step(4, 10, sigma=0.8, alpha=1 / math.hypot(data, 0.8))
    got = Guidance(1, [TSR(k=1.3)]).start("edm").combine(None, c, step, x)
    ratio = (1 + 0.8**2) / (1 / 1.3 + 0.8**2)
    torch.testing.assert_close(
        convert(got, x, step, "edm", "epsilon"), ratio * convert(c, x, step, "edm", "epsilon"), rtol=1e-9, atol=1e-9
    )


def test_tsr_leaves_pure_noise_alone_and_says_what_it_needs() -> None:
    _, c, x = double()
    first = Step(0, 4, sigma=math.inf, alpha=0.0)
    assert torch.equal(Guidance(1, [TSR(k=2)]).start("flow").combine(None, c, first, x), c)
    with pytest.raises(InputError, match="tsr at step 4 without latents"):
        Guidance(1, [TSR()]).start("v").combine(None, c, STEP)
    with pytest.raises(InputError, match="tsr at step 4 without the parameterization"):
        Guidance(1, [TSR()]).start("model").combine(None, c, STEP, x)
    with pytest.raises(InputError, match="tsr at step 0 without sigma and alpha"):
        Guidance(1, [TSR()]).start("epsilon").combine(None, c, Step(0, 4), x)
