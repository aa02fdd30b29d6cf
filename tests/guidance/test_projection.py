"""APG, CFG-Zero* and TCFG against their formulas in float64, written with numpy, and against diffusers' guiders."""

import math

import numpy as np
import pytest
import torch
from diffusers.guiders import (
    AdaptiveProjectedGuidance,
    ClassifierFreeZeroStarGuidance,
    TangentialClassifierFreeGuidance,
)
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import APG, TCFG, CFGZeroStar, Guidance, Rescale, Space, Transform, parse_guidance
from cfglab.guidance.methods.image_guidance import WithoutImage
from cfglab.step import Step
from tests.guidance.examples import NEXT, STEP, batch, needs

Array = np.ndarray


def double(seed: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    uncond, cond, latents = (x.double() for x in batch(seed=seed))
    return uncond, cond, latents


def in_numpy(*tensors: Tensor) -> list[list[Array]]:
    """The images of each tensor as flat arrays."""
    return [[image.flatten().numpy() for image in tensor] for tensor in tensors]


def guided(transform: Transform, w: float, prediction: Space, *seen: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    guide = Guidance(w, [transform]).start(prediction)
    return [guide.combine(u, c, step, x) for step, (u, c, x) in zip((STEP, NEXT), seen, strict=False)]


# -- APG -------------------------------------------------------------------------------------------------------------


def apg(updates: list[Array], c: Array, eta: float, beta: float, threshold: float) -> Array:
    """The changed update after the updates of one image so far: algorithm 1 of 2410.02416 with numpy."""
    running = np.zeros_like(c)
    for update in updates:
        running = update + beta * running
    if threshold > 0:
        running = running * min(1.0, threshold / math.sqrt((running**2).sum()))
    direction = c / math.sqrt((c**2).sum())
    parallel = (running * direction).sum() * direction
    return (running - parallel) + eta * parallel


@pytest.mark.parametrize("w", [1.0, 3.0, 12.0])
@pytest.mark.parametrize(
    ("eta", "beta", "threshold"), [(0, -0.5, 0), (0, -0.5, 2.5), (0.3, 0, 15), (1, -0.75, 0.5), (0.5, 0.9, 0)]
)
def test_apg_is_algorithm_1_on_x0(eta: float, beta: float, threshold: float, w: float) -> None:
    seen = [double(5), double(6)]
    got = guided(APG(eta=eta, momentum=beta, norm_threshold=threshold), w, "x0", *seen)
    for k, tensor in enumerate(got):
        for i, image in enumerate(in_numpy(tensor)[0]):
            us, cs = zip(*[[x[i].flatten().numpy() for x in (u, c)] for u, c, _ in seen[: k + 1]], strict=True)
            changed = apg([c - u for u, c in zip(us, cs, strict=True)], cs[-1], eta, beta, threshold)
            np.testing.assert_allclose(image, cs[-1] + (w - 1) * changed, rtol=1e-9, atol=1e-9)


def sd_cpp(seen: list[tuple[Array, Array, Array]], w: float, s: float, eta: float, beta: float, r: float) -> Array:
    """One image after its predictions (u, c, n) so far, by stable-diffusion.cpp's `AdaptiveProjectedGuidance`."""
    buffer = np.zeros_like(seen[0][0])
    for u, c, n in seen:
        deltas = u - n if w == 1 else c + (u * (s - w) + n * (1 - s)) / (w - 1)
        buffer = deltas = deltas + beta * buffer
    deltas = deltas * min(1.0, r / math.sqrt((deltas**2).sum()))
    deltas = deltas + (eta - 1) * (c * deltas).sum() / (c**2).sum() * c
    return np.asarray(c + ((s if w == 1 else w) - 1) * deltas)


@pytest.mark.parametrize("w", [1.0, 3.0, 12.0])
@pytest.mark.parametrize(("eta", "beta", "r"), [(0, -0.5, 2.5), (0.3, 0.4, 1e9), (1, 0, 1e9)])
def test_apg_of_an_edit_model_is_that_of_stable_diffusion_cpp(w: float, eta: float, beta: float, r: float) -> None:
    seen = [(*double(5), double(7)[0]), (*double(6), double(8)[0])]
    guide = Guidance(w, [APG(image=1.5, eta=eta, momentum=beta, norm_threshold=r, space="model")]).start()
    for k, (step, (u, c, x, n)) in enumerate(zip((STEP, NEXT), seen, strict=True)):
        got = guide.combine(u, c, step, x, extras={WithoutImage(): n})
        for i, image in enumerate(in_numpy(got)[0]):
            rows = [tuple(each[i].flatten().numpy() for each in (u, c, n)) for u, c, _, n in seen[: k + 1]]
            np.testing.assert_allclose(image, sd_cpp(rows, w, 1.5, eta, beta, r), rtol=1e-9, atol=1e-9)


def test_apg_with_nothing_to_do_is_plain_cfg() -> None:
    uncond, cond, latents = double()
    (got,) = guided(APG(eta=1, momentum=0), 6, "v", (uncond, cond, latents))
    torch.testing.assert_close(got, uncond + 6 * (cond - uncond), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("eta", "beta", "r"), [(1.0, None, 15.0), (0.0, -0.5, 2.5), (0.4, -0.75, 1.0)])
def test_apg_of_diffusers(eta: float, beta: float | None, r: float) -> None:
    # both of its formulations: the native one is as_in="diffusers", the original one with w - 1 is the paper's
    for original in (False, True):
        guider = AdaptiveProjectedGuidance(
            guidance_scale=5.0 if original else 6.0,
            adaptive_projected_guidance_momentum=beta,
            adaptive_projected_guidance_rescale=r,
            eta=eta,
            use_original_formulation=original,
        )
        if beta is not None:
            from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer

            guider.momentum_buffer = MomentumBuffer(beta)
        fields = {"eta": eta, "momentum": beta or 0, "norm_threshold": r}
        ours = APG(space="model", **fields) if original else APG(as_in="diffusers", **fields)
        guide = Guidance(6, [ours]).start("v")
        for step, seed in ((STEP, 5), (NEXT, 6)):
            u, c, x = double(seed)
            theirs = guider.forward(pred_cond=c, pred_uncond=u).pred
            torch.testing.assert_close(guide.combine(u, c, step, x), theirs, rtol=1e-9, atol=1e-9)


def test_apg_of_comfyui_is_one_scale_more() -> None:
    # nodes_apg.py: cond' = (uncond + D') + (cond - uncond) / w, then plain CFG
    u, c, x = double()
    (got,) = guided(APG(as_in="comfyui", eta=0.25), 6, "x0", (u, c, x))
    for i, (image, ui, ci) in enumerate(zip(*in_numpy(got, u, c), strict=True)):
        changed = apg([ci - ui], ci, 0.25, 0, 5.0)
        theirs = (ui + changed) + (ci - ui) / 6
        np.testing.assert_allclose(image, ui + 6 * (theirs - ui), rtol=1e-9, atol=1e-9, err_msg=str(i))
        np.testing.assert_allclose(image, ci + 6 * changed, rtol=1e-9, atol=1e-9)


def test_apg_of_comfyui_takes_every_channel_of_a_video_alone() -> None:
    # nodes_apg.py: normalize, sum and norm over dim=[-1, -2, -3], which of (n, c, frames, h, w) leaves the channels
    u, c, x = (part.reshape(3, 4, 2, 4, 8) for part in double())
    (got,) = guided(APG(as_in="comfyui", eta=0.25, norm_threshold=2), 6, "x0", (u, c, x))
    dims, changed = [-1, -2, -3], c - u
    changed = changed * (2 / changed.norm(p=2, dim=dims, keepdim=True)).clamp(max=1)
    unit = torch.nn.functional.normalize(c, dim=dims)
    parallel = (changed * unit).sum(dim=dims, keepdim=True) * unit
    torch.testing.assert_close(got, c + 6 * (changed - 0.75 * parallel), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("smoothing", [0.05, 0.5, 2.0])
def test_the_soft_limit_is_that_of_stable_diffusion_cpp(smoothing: float) -> None:
    u, c, x = double()
    (got,) = guided(APG(eta=0.25, momentum=0, norm_threshold=4, smoothing=smoothing), 6, "x0", (u, c, x))
    for image, ui, ci in zip(*in_numpy(got, u, c), strict=True):
        share = 4 / math.sqrt(((ci - ui) ** 2).sum())  # x / pow(1 + pow(x, 1 / smoothing), smoothing)
        changed = (ci - ui) * share / (1 + share ** (1 / smoothing)) ** smoothing
        along = (changed * ci).sum() / (ci**2).sum() * ci
        np.testing.assert_allclose(image, ci + 5 * (changed - 0.75 * along), rtol=1e-8, atol=1e-9)
    hard, soft = (guided(APG(norm_threshold=4, smoothing=value), 6, "x0", (u, c, x))[0] for value in (0.0, 1e-3))
    torch.testing.assert_close(soft, hard, rtol=1e-3, atol=1e-3)
    assert torch.isfinite(guided(APG(norm_threshold=1e-9, smoothing=0.01), 6, "x0", (u, c, x))[0]).all()


def test_an_apg_without_smoothing_is_written_as_before_there_was_one() -> None:
    assert not {"smoothing", "image"} & APG(norm_threshold=3).model_dump().keys()
    assert "smoothing" not in Guidance(3, [APG()]).to_json()
    soft = Guidance(3, [APG(norm_threshold=3, smoothing=0.5)])
    assert Guidance.from_json(soft.to_json()) == soft == parse_guidance(str(soft))


def test_the_modes_bring_their_hosts_defaults_and_say_so() -> None:
    assert str(APG()) == "apg()"
    assert str(APG(as_in="diffusers")) == "apg(space=model, eta=1, momentum=0, norm_threshold=15, as_in=diffusers)"
    assert parse_guidance("6 | apg(as_in=comfyui, eta=0)").transforms[0] == APG(as_in="comfyui", eta=0)
    assert APG(as_in="comfyui").norm_threshold == 5


# -- CFG-Zero* -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [1.0, 5.0])
def test_zero_star_is_its_formula_and_diffusers(w: float) -> None:
    u, c, x = double()
    (got,) = guided(CFGZeroStar(), w, "flow", (u, c, x))
    for image, ui, ci in zip(*in_numpy(got, u, c), strict=True):
        a = (ci * ui).sum() / (ui**2).sum()
        np.testing.assert_allclose(image, a * ui + w * (ci - a * ui), rtol=1e-10, atol=1e-12)
    guider = ClassifierFreeZeroStarGuidance(guidance_scale=w, zero_init_steps=1)
    guider.set_state(4, 10, torch.tensor(600))
    if w != 1:  # theirs is switched off there
        theirs = guider.forward(pred_cond=c.float(), pred_uncond=u.float()).pred
        torch.testing.assert_close(got.float(), theirs, rtol=1e-4, atol=1e-4)


def test_zero_init_needs_no_denoiser_and_is_zero_for_a_flow() -> None:
    first, second = Step(0, 10, sigma=math.inf, next_sigma=9.0, alpha=0.0), Step(1, 10, sigma=9.0, alpha=0.1)
    guide = Guidance(5, [CFGZeroStar(zero_steps=1), Rescale(space="flow")]).start("flow")
    x = batch()[2].half()
    assert needs(guide, first) == (False, False)
    got = guide.combine(None, None, first, x)
    assert got.dtype == torch.float16
    assert torch.equal(got, torch.zeros_like(x))
    assert needs(guide, second) == (True, True)
    with pytest.raises(InputError, match="no latents at step 0"):
        Guidance(5, [CFGZeroStar()]).start("flow").combine(None, None, first)


def test_zero_init_with_a_rescale_is_nan_in_diffusers_and_zero_here() -> None:
    u, c, x = batch()
    guider = ClassifierFreeZeroStarGuidance(guidance_scale=5.0, zero_init_steps=1, guidance_rescale=0.7)
    guider.set_state(0, 10, torch.tensor(999))
    assert guider.forward(pred_cond=c, pred_uncond=u).pred.isnan().all()
    first = Step(0, 10, sigma=1.7, alpha=STEP.alpha)
    got = Guidance(5, [CFGZeroStar(), Rescale(space="flow")]).start("flow").combine(u, c, first, x)
    assert torch.equal(got, torch.zeros_like(c))


def test_zero_init_of_a_model_that_is_no_flow_stands_still_in_its_terms() -> None:
    # epsilon - x0 = 0 and x = alpha (x0 + sigma epsilon): epsilon = x / (alpha (1 + sigma))
    step = Step(0, 10, sigma=1.7, alpha=STEP.alpha)
    x = double()[2]
    got = Guidance(5, [CFGZeroStar()]).start("epsilon").combine(None, None, step, x)
    assert STEP.alpha is not None
    torch.testing.assert_close(got, x / (STEP.alpha * 2.7), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("text", "zero"), [("", 1), ("zero_steps=1", 1), ("zero_steps=2", 2)])
def test_the_authors_count_their_zero_steps_from_zero(text: str, zero: int) -> None:
    # models/*/pipeline.py of WeichenFan/CFG-Zero-star: `if i <= zero_steps and use_zero_init`, default 0
    ours = parse_guidance(f"5 | cfg_zero_star({text})")
    theirs = parse_guidance(f"5 | cfg_zero_star(as_in=authors, zero_steps={zero - 1})")
    u, c, x = double()
    for index in range(4):
        step = Step(index, 10, sigma=1.7, alpha=STEP.alpha)
        by_hand = index <= zero - 1
        for guidance in (ours, theirs):
            guide = guidance.start("flow")
            assert needs(guide, step) == (not by_hand, not by_hand)
            assert torch.equal(guide.combine(u, c, step, x), torch.zeros_like(c)) == by_hand
        torch.testing.assert_close(
            ours.start("flow").combine(u, c, step, x), theirs.start("flow").combine(u, c, step, x)
        )
    assert str(parse_guidance("5 | cfg_zero_star(as_in=authors)")) == "5 | cfg_zero_star(zero_steps=0, as_in=authors)"


def test_half_a_zero_init_is_half_of_plain_cfg() -> None:
    u, c, x = double()
    step = Step(0, 10, sigma=1.7, alpha=STEP.alpha)
    full = Guidance(5, [CFGZeroStar(strength=1, zero_steps=0)]).start("flow")
    half = Guidance(5, [CFGZeroStar(strength=0.5)]).start("flow")
    assert needs(half, step) == (True, True)
    ones = [u + 0.5 * (u * (c * u).flatten(1).sum(1).div((u * u).flatten(1).sum(1)).reshape(-1, 1, 1, 1) - u), c]
    torch.testing.assert_close(half.combine(u, c, step, x), 0.5 * (ones[0] + 5 * (c - ones[0])), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(full.combine(u, c, step, x), torch.zeros_like(c))


@pytest.mark.parametrize("flow", [False, True])
def test_zero_star_of_comfyui(flow: bool) -> None:
    # nodes_cfg.py: alpha from x - D, then out + uncond (alpha - 1) + w uncond (1 - alpha)
    u, c, x = double()
    alpha = 1 / 2.7 if flow else STEP.alpha
    assert alpha is not None
    step = Step(0, 10, sigma=1.7, alpha=alpha)
    got = Guidance(5, [CFGZeroStar(as_in="comfyui")]).start("x0").combine(u, c, step, x)
    for image, ui, ci, xi in zip(*in_numpy(got, u, c, x), strict=True):
        seen = xi if flow else xi / alpha
        a = ((seen - ci) * (seen - ui)).sum() / ((seen - ui) ** 2).sum()
        out = ui + 5 * (ci - ui)
        np.testing.assert_allclose(image, out + ui * (a - 1) + 5 * ui * (1 - a), rtol=1e-9, atol=1e-9)


# -- TCFG ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0.05, 1.0, 30.0])
def test_tcfg_is_the_svd(size: float) -> None:
    u, c, x = double()
    c = c * size
    (got,) = guided(TCFG(), 5, "epsilon", (u, c, x))
    for image, ui, ci in zip(*in_numpy(got, u, c), strict=True):
        lead = np.linalg.svd(np.stack([ci, ui]), full_matrices=False)[2][0]
        damped = (ui @ lead) * lead
        np.testing.assert_allclose(image, damped + 5 * (ci - damped), rtol=1e-9, atol=1e-9)


def test_tcfg_of_diffusers() -> None:
    u, c, x = batch()
    guider = TangentialClassifierFreeGuidance(guidance_scale=5.0)
    guider.set_state(4, 10, torch.tensor(600))
    (got,) = guided(TCFG(space="model"), 5, "v", (u, c, x))
    torch.testing.assert_close(got, guider.forward(pred_cond=c, pred_uncond=u).pred, rtol=1e-4, atol=1e-4)


def test_tcfg_of_two_at_right_angles_keeps_the_longer_and_stays_where_none_leads() -> None:
    a, b = torch.zeros(3, 1, 2, 2, dtype=torch.float64), torch.zeros(3, 1, 2, 2, dtype=torch.float64)
    a[:, 0, 0, 0], b[:, 0, 1, 1] = torch.tensor([1.0, 1.0, 2.0]), torch.tensor([2.0, 1.0, 1.0])
    got = Guidance(3, [TCFG()]).start().combine(a, b, STEP)
    damped = torch.stack([a[0] * 0, a[1], a[2]])  # u shorter: gone; equal: kept; u longer: kept
    torch.testing.assert_close(got, damped + 3 * (b - damped))


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("6 | apg(as_in=forge)", "apg(as_in='forge'): input should be 'paper', 'diffusers', 'comfyui' or 'ace_step'"),
        ("6 | apg(image=2, as_in=diffusers)", "the image's scale is stable-diffusion.cpp's, whose formula is c + (w"),
        ("6 | apg(eta=2)", "apg(eta=2): it must be between 0 and 1"),
        ("6 | apg(momentum=-1)", "apg(momentum=-1): it must be between -1 and 1, both left out"),
        ("6 | apg(norm_threshold=-3)", "apg(norm_threshold=-3): it must be 0 or more"),
        ("6 | apg(r=15)", "apg has no 'r'"),
        ("6 | cfg_zero_star(zero_steps=0.5)", "a whole number of steps is needed"),
        ("6 | cfg_zero_star(as_in=diffusers)", "input should be 'paper', 'authors' or 'comfyui'"),
        ("6 | cfg_zero_star(as_in=comfyui, space=flow)", "that variant scales x0; leave the space out."),
    ],
)
def test_faults_are_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_guidance(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_network_without_rows_for_an_image_is_said_by_the_name_of_the_method() -> None:
    for text, said in (
        ("3 | apg(image=2)", r"apg\(image=2\) with"),
        ("3 | image_guidance()", r"image_guidance\(\) with"),
    ):
        (needed,) = parse_guidance(text).start().plan(STEP).passes
        with pytest.raises(InputError, match=said):
            needed.applied(object())
