"""Guidance with a further prompt: the formulas in float64, and their text."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import Composed, DualCFG, Guidance, PerpNeg, Transform, parse_guidance
from cfglab.guidance.methods.second_prompt import SecondPrompt
from tests.guidance.examples import STEP, batch, passes

W = 4.0


def three() -> tuple[Tensor, Tensor, Tensor]:
    u, c, x = (one.double() for one in batch())
    return u, c, 0.6 * u + 0.8 * x + 0.2 * c


def ours(*transforms: Transform, extras: list[Tensor] | None = None) -> Tensor:
    u, c, other = three()
    guide = Guidance(W, transforms).start()
    return guide.combine(u, c, STEP, extras=passes(guide, STEP, *(extras or [other])))


def perp(n: np.ndarray, p: np.ndarray) -> np.ndarray:
    return n - (n * p).sum() / (p * p).sum() * p


def test_perp_neg_is_its_formula_image_by_image() -> None:
    got = ours(PerpNeg(prompt="blue", weight=1.5)).numpy()
    for image, u, c, neg in zip(got, *(one.numpy() for one in three()), strict=True):
        p, n = c - u, neg - u
        np.testing.assert_allclose(image, u + W * (p - 1.5 * perp(n, p)), rtol=1e-11, atol=1e-11)


def test_the_rest_of_the_negative_prompt_does_not_touch_the_prompt() -> None:
    u, c, other = three()
    taken = ours(PerpNeg(prompt="blue")) - (u + W * (c - u))
    for image, p in zip(taken, c - u, strict=True):
        assert abs(float((image * p).sum())) < 1e-9 * float(image.norm() * p.norm())
    assert torch.allclose(ours(PerpNeg(prompt="x"), extras=[u + 0.3 * (c - u)]), u + W * (c - u))  # parallel: nothing
    assert not torch.allclose(ours(PerpNeg(prompt="x"), extras=[other]), u + W * (c - u))


def test_several_negative_prompts_add_up_against_one_p() -> None:
    u, c, first = three()
    second = first.flip(-1)
    got = ours(PerpNeg(prompt="a"), PerpNeg(prompt="b", weight=0.5), extras=[first, second]).numpy()
    for image, ui, ci, a, b in zip(got, *(one.numpy() for one in (u, c, first, second)), strict=True):
        p = ci - ui
        expected = ui + W * (p - perp(a - ui, p) - 0.5 * perp(b - ui, p))
        np.testing.assert_allclose(image, expected, rtol=1e-11, atol=1e-11)


def test_comfyuis_projection_sums_over_the_batch() -> None:
    u, c, neg = three()
    pos, other = c - u, neg - u
    perpendicular = other - ((torch.mul(other, pos).sum()) / (torch.norm(pos) ** 2)) * pos
    theirs = u + W * (pos - perpendicular)
    assert (ours(PerpNeg(prompt="x")) - theirs).abs().max() > 0.1
    guide = Guidance(W, [PerpNeg(prompt="x")]).start()
    one = guide.combine(u[:1], c[:1], STEP, extras=passes(guide, STEP, neg[:1]))
    alone = other[:1] - ((other[:1] * pos[:1]).sum() / (pos[:1].norm() ** 2)) * pos[:1]
    torch.testing.assert_close(one, u[:1] + W * (pos[:1] - alone))


@pytest.mark.parametrize("weight", [1.0, -0.5])
def test_composed_prompts_are_the_sum_of_their_updates(weight: float) -> None:
    u, c, other = three()
    got = ours(Composed(prompt="a cat", weight=weight))
    torch.testing.assert_close(got, u + W * (c - u) + W * weight * (other - u), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("middle", [0.0, 1.5, W])
def test_dual_cfg_is_instruct_pix2pix_and_comfyuis_node(middle: float) -> None:
    u, c, m = three()
    got = ours(DualCFG(prompt="a cat", middle=middle))
    pix2pix = u + W * (c - m) + middle * (m - u)
    comfyui = (u + middle * (m - u)) + (c - m) * W
    for theirs in (pix2pix, comfyui):
        torch.testing.assert_close(got, theirs, rtol=1e-11, atol=1e-11)
    if middle == W:
        torch.testing.assert_close(got, u + W * (c - u), rtol=1e-11, atol=1e-11)


def test_they_ask_for_the_rows_without_the_prompt_under_another() -> None:
    for transform in (PerpNeg(prompt="blue"), Composed(prompt="blue"), DualCFG(prompt="blue")):
        variation = transform.variation(STEP)
        assert variation == SecondPrompt("blue")
        assert variation.source == "uncond"
    assert Guidance(3, [PerpNeg(prompt="a"), Composed(prompt="a")]).start().plan(STEP).passes == (SecondPrompt("a"),)


@pytest.mark.parametrize(
    "prompt", ["blue", "a cat, 'late' | \"old\"", "not", "None", "", "3", "naïve ☂", "a\\b", "(x", "a\nb"]
)
def test_prompts_are_written_and_read(prompt: str) -> None:
    guidance = Guidance(3, [PerpNeg(prompt=prompt), Composed(prompt=prompt, weight=2)])
    assert parse_guidance(str(guidance)) == guidance
    assert Guidance.model_validate_json(guidance.model_dump_json()) == guidance


def test_a_bar_in_quotes_is_no_bar() -> None:
    read = parse_guidance("3 | perp_neg(prompt='red | blue') | composed(prompt=\"it's | late\")")
    assert read == Guidance(3, [PerpNeg(prompt="red | blue"), Composed(prompt="it's | late")])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3 | perp_neg()", "perp_neg without prompt: it is needed; write perp_neg(prompt=…)."),
        ("3 | perp_neg(prompt=blue, weight=-1)", "perp_neg(weight=-1): it must be 0 or more"),
        ("3 | perp_neg(prompt='blue)", "is not written as a transform is"),
        ("3 | composed(prompt='dog\ncat')", "there is a line break between quotes, where it is written as two letters"),
        ('3 | nag(s=3, prompt="a dog-\r\nlike cat, late")', "there is a line break between quotes"),
        ("3 | dual_cfg(prompt=blue, middle=x)", "a finite number is needed"),
    ],
)
def test_faults_are_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_guidance(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
