"""Guided masked diffusion on exact tables of tokens, and that a method on logits is refused in one line."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from cfglab import Guidance, InputError, Step
from cfglab.mixtures.tokens import guided_table, tilted_table, token_logits


def tables(length: int, values: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random tables of three classes: the first of them, and the mean of all."""
    random = np.random.default_rng(seed)
    each = [torch.tensor(random.dirichlet([0.5] * values**length) + 1e-4) for _ in range(3)]
    cond, *others = (table.reshape((values,) * length) / table.sum() for table in each)
    return cond, (cond + sum(others)) / 3


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """The total variation distance."""
    return float((one - other).abs().sum() / 2)


@pytest.mark.parametrize("w", [0.5, 3.0, -1.0])
def test_one_token_has_the_tilted_distribution(w: float) -> None:
    """2507.08965: in one dimension guidance is exact."""
    cond, uncond = tables(1, 5, seed=0)
    assert torch.allclose(guided_table(cond, uncond, w), tilted_table(cond, uncond, w), atol=1e-14)


def test_without_guidance_it_generates_the_tables_themselves() -> None:
    cond, uncond = tables(3, 3, seed=1)
    assert torch.allclose(guided_table(cond, uncond, 1), cond, atol=1e-14)
    assert torch.allclose(guided_table(cond, uncond, 0), uncond, atol=1e-14)


def test_two_tokens_are_the_mean_over_their_orders() -> None:
    """Written out with conditional probabilities, without logits: p_c^w p_u^(1 - w), normalized, token by token."""
    cond, uncond = tables(2, 3, seed=2)
    scales = [4.0, 2.0]
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for order, place in product(permutations(range(2)), product(range(3), repeat=2)):
        probability, known = 0.5, dict[int, int]()
        for w, token in zip(scales, order, strict=True):
            rows = []
            for table in (cond, uncond):
                chosen = table.select(1 - token, known[1 - token]) if known else table.sum(1 - token)
                rows.append(chosen / chosen.sum())
            guided = rows[0] ** w * rows[1] ** (1 - w)
            probability *= float(guided[place[token]] / guided.sum())
            known[token] = place[token]
        expected[place] += probability
    assert torch.allclose(guided_table(cond, uncond, scales), expected, atol=1e-14)


def test_at_equal_mean_scale_rising_is_nearer_to_the_target_than_falling() -> None:
    """As 2507.08965 finds; the constant is the nearest of the three (docs/laboratory.md)."""
    distances = []
    for seed in range(6):
        cond, uncond = tables(3, 3, seed)
        target = tilted_table(cond, uncond, 2.0)
        distances.append([distance(guided_table(cond, uncond, w), target) for w in ([1, 2, 3], [3, 2, 1], 2)])
    rising, falling, constant = np.mean(distances, axis=0)
    assert constant < rising < falling


def test_logits_are_those_of_the_known_tokens() -> None:
    cond, _ = tables(2, 3, seed=3)
    logits = token_logits(cond, (None, 2))
    assert torch.allclose(logits[0].exp(), cond[:, 2] / cond[:, 2].sum())
    assert logits[1].tolist() == [-torch.inf, -torch.inf, 0.0]


def test_what_logits_do_not_have_is_said() -> None:
    c, u = torch.randn(2, 1, 4, 3)
    with pytest.raises(
        InputError, match=r"^the logits of tokens have no epsilon, x0, v or flow, so 'x0' cannot be had"
    ):
        Guidance("5 | apg()").start("logits").combine(u, c, Step(0, 2))
    for text in ("5 | cfg_zero_star()", "5 | cfg_zero_star(space=model)"):
        with pytest.raises(
            InputError, match=r"^cfg_zero_star at step 0: it sets the prediction to zero, and logits of"
        ):
            Guidance(text).start("logits").plan(Step(0, 2))
    scaled = Guidance("5 | cfg_zero_star(space=model, zero_steps=0)").start("logits").combine(u, c, Step(0, 2))
    a = ((c * u).sum((1, 2)) / (u * u).sum((1, 2)))[:, None, None]
    assert torch.allclose(scaled, a * u + 5 * (c - a * u), atol=1e-5)
    with pytest.raises(InputError, match="every probability above 0"):
        guided_table(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]), 2)
    with pytest.raises(InputError, match="at most 100,000 states"):
        guided_table(torch.ones((2,) * 12), torch.ones((2,) * 12), 2)
