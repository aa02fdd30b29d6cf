"""TPG and PLADIS: blocks and processors written here after the authors' code and a port of it, on a tiny UNet."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import PLADIS, Guidance, parse_guidance
from cfglab.guidance.perturbations.shuffled_tokens import ShuffledTokens
from cfglab.guidance.perturbations.sparse_attention import SparseAttention, entmax15, sparsemax
from cfglab.step import Step
from tests.guidance.examples import STEP, batch, needs, passes
from tests.guidance.test_perturbed import made, rows, run
from tests.pipelines.families.sd3 import NETWORK
from tests.tiny import _unet


@pytest.fixture(scope="module")
def unet() -> Any:
    network = made(_unet)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "attn2.to_q" in name or "attn2.to_k" in name:
                parameter.mul_(3.0)  # untrained attention is nearly uniform, and no weight of it is 0
    return network


# -- TPG ---------------------------------------------------------------------------------------------------------------


@contextmanager
def shuffling(blocks: dict[str, Any], variation: ShuffledTokens) -> Iterator[list[Tensor]]:
    """make_tpg_block of TaatiTeam/Token-Perturbation-Guidance: `x[:, permutation]`, then the block as it is."""
    orders: list[Tensor] = []

    def shuffled(block: Any, number: int) -> Any:
        forward = block.forward

        def changed(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            orders.append(variation.order(number, hidden_states))
            return forward(hidden_states[:, orders[-1]], *args, **kwargs)

        return changed

    for number, block in enumerate(blocks.values()):
        block.forward = shuffled(block, number)
    try:
        yield orders
    finally:
        for block in blocks.values():
            del block.forward


@pytest.mark.parametrize(("layers", "part"), [(("down_blocks",), "down_blocks"), (("mid",), "mid_block")])
def test_tpg_is_the_authors_blocks(unet: Any, layers: tuple[str, ...], part: str) -> None:
    blocks = {
        name: module
        for name, module in unet.named_modules()
        if name.startswith(part) and type(module).__name__ == "BasicTransformerBlock"
    }
    assert blocks
    variation = ShuffledTokens(layers, seed=1, index=3)
    with shuffling(blocks, variation) as orders:
        expected = run(unet)
    assert len(orders) == len(blocks)
    assert all(sorted(order.tolist()) == list(range(len(order))) != order.tolist() for order in orders)
    got = run(unet, variation)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(got, run(unet), atol=1e-4)


def test_tpg_has_one_order_for_the_batch_and_another_at_another_step_block_and_seed(unet: Any) -> None:
    variation, hidden = ShuffledTokens(("mid",), seed=0, index=2), torch.zeros(2, 64, 8)
    orders = [
        one.order(number, hidden).tolist()
        for one, number in (
            (variation, 0),
            (variation, 1),
            (ShuffledTokens(("mid",), 0, 3), 0),
            (ShuffledTokens(("mid",), 1, 2), 0),
        )
    ]
    assert len(set(map(tuple, orders))) == 4
    sample, text = rows()
    with torch.no_grad(), variation.applied(unet) as module:
        alone = module(sample[1:], 500, encoder_hidden_states=text[1:]).sample
    torch.testing.assert_close(alone, run(unet, variation)[1:], rtol=1e-11, atol=1e-11)
    plan = parse_guidance("1 | tpg(seed=4, start=0.5)").start().plan
    assert plan(Step(1, 4)).passes == ()
    assert plan(Step(2, 4)).passes == (ShuffledTokens(("down_blocks",), 4, 2),)


def test_tpg_permutes_the_tokens_of_the_image_in_a_transformer_of_two_streams() -> None:
    sd3 = made(lambda: SD3Transformer2DModel(**NETWORK))
    sample, text = torch.randn(2, 16, 8, 8).double(), torch.randn(2, 5, NETWORK["joint_attention_dim"]).double()
    pooled = torch.randn(2, NETWORK["pooled_projection_dim"]).double()
    seen: list[Tensor] = []
    handle = sd3.transformer_blocks[0].norm1.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))

    def predict() -> Tensor:
        with torch.no_grad():
            prediction: Tensor = sd3(
                hidden_states=sample,
                timestep=torch.tensor([500.0] * 2),
                encoder_hidden_states=text,
                pooled_projections=pooled,
            ).sample
        return prediction

    plain = predict()
    variation = ShuffledTokens(("0",), seed=0, index=0)
    with variation.applied(sd3):
        got = predict()
    handle.remove()
    assert torch.equal(seen[1], seen[0][:, variation.order(0, seen[0])])
    assert not torch.allclose(got, plain)
    absent = ShuffledTokens(("down_blocks",), 0, 0).applied(sd3)
    with pytest.raises(InputError, match=r"tpg: no transformer block in layer 'down_blocks' of SD3"), absent:
        pass


# -- PLADIS ------------------------------------------------------------------------------------------------------------


def by_bisection(logits: np.ndarray, alpha: float) -> np.ndarray:
    """alpha-entmax by its definition: the tau at which `[(alpha - 1) z - tau]_+ ^ (1 / (alpha - 1))` sums to 1."""
    z = (alpha - 1) * logits
    high = z.max(-1, keepdims=True)
    low = high - 1
    for _ in range(60):
        tau = (low + high) / 2
        above = (np.clip(z - tau, 0, None) ** (1 / (alpha - 1))).sum(-1, keepdims=True) > 1
        low, high = np.where(above, tau, low), np.where(above, high, tau)
    weights: np.ndarray = np.clip(z - low, 0, None) ** (1 / (alpha - 1))
    return weights


@pytest.mark.parametrize(("ours", "alpha"), [(entmax15, 1.5), (sparsemax, 2.0)])
def test_the_sparse_weights_are_alpha_entmax(ours: Any, alpha: float) -> None:
    logits = 3 * torch.randn(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits[1] = 0.3
    logits[2, 4:] = -10000.0  # masked
    logits[3, 0] += 40
    got = ours(logits).numpy()
    np.testing.assert_allclose(got, by_bisection(logits.numpy(), alpha), atol=1e-9)
    np.testing.assert_allclose(got.sum(-1), 1, atol=1e-12)
    assert (got[2, 4:] == 0).all()
    assert (got == 0).mean() > 0.2


class Pladis:
    """The attention of the authors' processor, as a port of it has it: AttnProcessor2_0 with the mixed weights."""

    def __init__(self, s: float, alpha: float) -> None:
        self.s, self.alpha = s, alpha

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        query, key, value = (
            projection(states).unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for projection, states in (
                (attn.to_q, hidden_states),
                (attn.to_k, encoder_hidden_states),
                (attn.to_v, encoder_hidden_states),
            )
        )
        logits = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        dense = torch.softmax(logits, dim=-1)
        sparse = torch.from_numpy(by_bisection(logits.numpy(), self.alpha))
        weights = dense + self.s * (sparse - dense)
        return attn.to_out[1](attn.to_out[0]((weights @ value).transpose(1, 2).flatten(2)))


@pytest.mark.parametrize(("sparse", "alpha"), [("entmax15", 1.5), ("sparsemax", 2.0)])
def test_pladis_is_the_authors_processor(unet: Any, sparse: Any, alpha: float) -> None:
    before = dict(unet.attn_processors)
    named = ("up_blocks",)
    try:
        unet.set_attn_processor(
            {
                name: Pladis(1.7, alpha) if name.startswith("up_blocks") and "attn2" in name else processor
                for name, processor in before.items()
            }
        )
        expected = run(unet, shape=(2, 4, 8, 8))
    finally:
        unet.set_attn_processor(before)
    got = run(unet, SparseAttention("cond", 1.7, sparse, named), shape=(2, 4, 8, 8))
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-8)
    assert (got - run(unet, shape=(2, 4, 8, 8))).abs().max() > 1e-5
    off = run(unet, SparseAttention("cond", 0.0, sparse, named), shape=(2, 4, 8, 8))
    torch.testing.assert_close(off, run(unet, shape=(2, 4, 8, 8)), rtol=1e-9, atol=1e-9)


def test_pladis_keeps_masked_tokens_out(unet: Any) -> None:
    sample, text = rows(shape=(2, 4, 8, 8))
    mask = torch.tensor([[1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    variation = SparseAttention("cond", 2.0, "entmax15", ())
    other = text.clone()
    other[0, 3:] += 5
    got = []
    for encoding in (text, other):
        with torch.no_grad(), variation.applied(unet) as module:
            got.append(module(sample, 500, encoder_hidden_states=encoding, encoder_attention_mask=mask).sample)
    torch.testing.assert_close(got[0], got[1], rtol=1e-9, atol=1e-9)


def test_pladis_makes_both_predictions_without_a_further_row() -> None:
    u, c, x = batch()
    guide = Guidance(3, [PLADIS()]).start()
    plan = guide.plan(STEP)
    assert needs(guide, STEP) == (False, False)
    assert [one.source for one in plan.passes] == ["cond", "uncond"]
    assert plan.evaluations == 2
    got = guide.combine(None, None, STEP, x, passes(guide, STEP, c, u))
    torch.testing.assert_close(got, u + 3 * (c - u))
    guide = Guidance(1, [PLADIS()]).start()
    assert [one.source for one in guide.plan(STEP).passes] == ["cond"]
    assert torch.equal(guide.combine(None, None, STEP, x, passes(guide, STEP, c)), c)
    for text in ("3 | pladis() | nag(s=2)", "3 | icg() | pladis()", "3 | cads() | pladis()"):
        with pytest.raises(InputError, match="in the place of the"):
            parse_guidance(text)
    absent = SparseAttention("cond", 2.0, "entmax15", ("mid_block.resnets.0",)).applied(made(_unet))
    with pytest.raises(InputError, match=r"pladis: no cross-attention in layer 'mid_block.resnets.0'"), absent:
        pass
