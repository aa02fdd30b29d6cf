"""Conversions against the definitions, written out in float64: x = alpha (x0 + sigma epsilon)."""

import itertools
import math
from typing import Any

import pytest
import torch

from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.guidance.parameterization import convert, ratio
from cfglab.step import Step

SPACES = ("epsilon", "x0", "v", "flow")


def truth(alpha: float, sigma: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What the model sees, and what it would predict in each space, for one known image and noise."""
    generator = torch.Generator().manual_seed(1)
    x0 = torch.randn(3, 4, 5, 5, generator=generator, dtype=torch.float64)
    epsilon = torch.randn(3, 4, 5, 5, generator=generator, dtype=torch.float64)
    signal, noise = alpha, alpha * sigma
    return signal * x0 + noise * epsilon, {
        "epsilon": epsilon,
        "x0": x0,
        "v": signal * epsilon - noise * x0,
        "flow": epsilon - x0,
    }


@pytest.mark.parametrize("sigma", [0.03, 0.7, 1.0, 14.6])
@pytest.mark.parametrize("kind", ["vp", "flow"])
@pytest.mark.parametrize(("source", "target"), list(itertools.product(SPACES, SPACES)))
def test_every_space_from_every_other(sigma: float, kind: str, source: str, target: str) -> None:
    alpha = 1 / math.sqrt(1 + sigma**2) if kind == "vp" else 1 / (1 + sigma)
    latents, known = truth(alpha, sigma)
    step = Step(0, 10, sigma=sigma, alpha=alpha)
    got = convert(known[source], latents, step, source, target)  # type: ignore[arg-type]
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, known[target], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("sigma", [0.002, 0.7, 80.0])
@pytest.mark.parametrize("data", [0.5, 1.0])
@pytest.mark.parametrize("other", [*SPACES, "edm"])
def test_the_preconditioning_of_edm(sigma: float, data: float, other: str) -> None:
    """2206.00364, table 1: x0 = c_skip x + c_out F with x = x0 + sigma epsilon, and the network is given c_in x."""
    alpha = 1 / math.sqrt(data**2 + sigma**2)
    latents, known = truth(alpha, sigma)
    x = known["x0"] + sigma * known["epsilon"]
    known["edm"] = (known["x0"] - data**2 * alpha**2 * x) / (sigma * data * alpha)
    step = Step(0, 10, sigma=sigma, alpha=alpha)
    for source, target in (("edm", other), (other, "edm")):
        got = convert(known[source], latents, step, source, target)  # type: ignore[arg-type]
        torch.testing.assert_close(got, known[target], rtol=1e-6, atol=1e-6)
    if data == 1:
        torch.testing.assert_close(known["edm"], -known["v"], rtol=1e-9, atol=1e-9)


def test_edm_is_refused_where_the_levels_are_not_those_of_edm() -> None:
    latents, known = truth(0.5, 2.0)
    with pytest.raises(InputError, match=r"factors of signal 0\.5 and noise 1: those of EDM are"):
        convert(known["v"], latents, Step(0, 10, sigma=2.0, alpha=0.5), "v", "edm")


@pytest.mark.parametrize(("source", "target"), list(itertools.product(SPACES, SPACES)))
def test_ratio_turns_differences(source: str, target: str) -> None:
    sigma = 0.7
    alpha = 1 / math.sqrt(1 + sigma**2)
    latents, known = truth(alpha, sigma)
    other = {
        "epsilon": (latents / alpha - known["x0"] * 0.5) / sigma,
        "x0": known["x0"] * 0.5,
    }
    step = Step(0, 10, sigma=sigma, alpha=alpha)
    two = convert(other["x0"], latents, step, "x0", source)  # type: ignore[arg-type]
    moved = convert(other["x0"], latents, step, "x0", target)  # type: ignore[arg-type]
    factor = ratio(step, source, target)  # type: ignore[arg-type]
    torch.testing.assert_close((known[source] - two) * factor, known[target] - moved, rtol=1e-10, atol=1e-10)


def test_half_precision_is_converted_in_float32() -> None:
    latents, known = truth(0.8, 0.75)
    step = Step(0, 10, sigma=0.75, alpha=0.8)
    half = convert(known["epsilon"].half(), latents.half(), step, "epsilon", "x0")
    assert half.dtype == torch.float32
    exact = convert(known["epsilon"].half().double(), latents.half().double(), step, "epsilon", "x0")
    torch.testing.assert_close(half.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("step", "source", "target", "said"),
    [
        (Step(3, 10, sigma=1.0), "epsilon", "x0", "alpha None"),
        (Step(3, 10, sigma=1.0, alpha=0.0), "epsilon", "v", "alpha 0.0 and sigma 1.0"),
        (Step(3, 10, sigma=math.nan, alpha=0.5), "epsilon", "v", "sigma nan"),
        (Step(3, 10, sigma=math.inf, alpha=0.0), "flow", "epsilon", "at pure noise epsilon says nothing about 'flow'"),
        (Step(3, 10, sigma=math.inf, alpha=0.0), "epsilon", "x0", "at pure noise epsilon says nothing about 'x0'"),
        (Step(3, 10, alpha=0.5), "epsilon", "v", "sigma None"),
        (Step(3, 10, sigma=math.inf, alpha=0.5), "epsilon", "v", "sigma inf"),
        (Step(3, 10, sigma=0.0, alpha=1.0), "x0", "epsilon", "without noise x0 says nothing about 'epsilon'"),
        (Step(3, 10, sigma=1.0, alpha=0.7), "model", "epsilon", "what this model predicts is not known"),
    ],
)
def test_what_cannot_be_converted_is_said(step: Step, source: str, target: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        convert(torch.ones(1, 2), torch.ones(1, 2), step, source, target)  # type: ignore[arg-type]
    assert said in str(error.value)
    assert 'space="model"' in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("source", "target"), [("flow", "x0"), ("x0", "flow"), ("v", "x0"), ("x0", "v")])
def test_pure_noise_has_a_picture_in_every_space_but_epsilon(source: str, target: str) -> None:
    _, known = truth(0.5, 1.0)
    seen, picture = known["epsilon"], known["x0"]  # x = 0 * x0 + 1 * epsilon
    there = {"x0": picture, "flow": seen - picture, "v": -picture}
    step = Step(0, 10, sigma=math.inf, alpha=0.0)
    got = convert(there[source], seen, step, source, target)  # type: ignore[arg-type]
    torch.testing.assert_close(got, there[target], rtol=1e-12, atol=1e-12)
    assert ratio(step, source, target) == -1  # type: ignore[arg-type]


@pytest.mark.parametrize(("source", "target"), [("eps", "x0"), ("x0", "eps"), ("eps", "eps")])
def test_names_of_other_programs_are_said(source: Any, target: Any) -> None:
    with pytest.raises(InputError, match=r"='eps': a parameterization is .*; write epsilon"):
        convert(torch.ones(1, 4), None, Step(0, 1, sigma=1.0, alpha=0.5), source, target)


def test_latents_of_another_shape_are_said() -> None:
    with pytest.raises(InputError, match=r"latents of shape \(1, 9\) and predictions of shape \(1, 4\)"):
        convert(torch.ones(1, 4), torch.ones(1, 9), Step(0, 1, sigma=1.0, alpha=0.5), "flow", "x0")


def test_missing_latents_are_said() -> None:
    with pytest.raises(InputError, match="without latents: turning it into 'x0' needs the denoiser's input"):
        convert(torch.ones(1, 2), None, Step(0, 1, sigma=1.0, alpha=0.7), "epsilon", "x0")


def test_the_same_space_needs_nothing() -> None:
    tensor = torch.ones(1, 2)
    assert convert(tensor, None, Step(0, 1), "v", "v") is tensor
    assert ratio(Step(0, 1), "model", "model") == 1


@pytest.mark.parametrize(
    "text", ["3 | tcfg()", "3 | prediction_norm()", "3 | update_power(gamma=1)", "3 | rescale(space=epsilon)"]
)
@pytest.mark.parametrize("t", [1.0, 0.9, 0.2])
def test_on_a_flow_epsilon_is_the_velocity_whatever_the_host_predicts(text: str, t: float) -> None:
    step = Step(0, 10, sigma=t / (1 - t) if t < 1 else math.inf, alpha=1 - t)
    generator = torch.Generator().manual_seed(2)
    latents, uncond, cond = torch.randn(3, 2, 4, 5, 5, generator=generator, dtype=torch.float64)
    kind = type(Guidance(text).transforms[0])
    on_velocity = Guidance(3, [kind(**{**Guidance(text).transforms[0].model_dump(exclude={"kind"}), "space": "flow"})])
    expected = on_velocity.start("flow").combine(uncond, cond, step, latents)
    torch.testing.assert_close(Guidance(text).start("flow").combine(uncond, cond, step, latents), expected)
    pictures = [convert(tensor, latents, step, "flow", "x0") for tensor in (uncond, cond)]
    guided = Guidance(text).start("x0", model="flow").combine(*pictures, step, latents)
    torch.testing.assert_close(convert(guided, latents, step, "x0", "flow"), expected, rtol=1e-9, atol=1e-9)


def test_on_other_paths_epsilon_is_epsilon() -> None:
    step = Step(0, 10, sigma=0.7, alpha=1 / math.sqrt(1.49))
    latents, uncond, cond = torch.randn(3, 2, 4, 5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    guide = Guidance("3 | tcfg()").start("flow")
    assert guide.parameterization(guide.guidance.transforms[0], step) == "epsilon"
    at_noise = Step(0, 10, sigma=math.inf, alpha=0.0)
    with pytest.raises(InputError, match="at pure noise epsilon says nothing"):
        Guidance("3 | tcfg()").start("v").combine(uncond, cond, at_noise, latents)
