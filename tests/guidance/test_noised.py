"""ICG and CADS: their mixtures in numpy around the noise that was drawn, and where that noise comes from."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import CADS, ICG, CFGNorm, Guidance, parse_guidance
from cfglab.guidance.perturbations.base import MASKS
from cfglab.guidance.perturbations.noised_text import NoisedText
from cfglab.guidance.perturbations.per_image_noise import signatures
from cfglab.step import Step, steps
from tests.guidance.examples import batch, needs, passes

PURE = NoisedText(gamma=0.0, scale=1.0, psi=0.0, own_scale=False, seed=0, index=3)


def sample(n: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


def text(n: int = 3, seed: int = 9) -> Tensor:
    """(n, 77, 64), rows of different sizes and means."""
    rows = torch.randn(n, 77, 64, generator=torch.Generator().manual_seed(seed)).double()
    return rows * torch.tensor([1.0, 0.2, 5.0])[:n].reshape(-1, 1, 1) + torch.tensor([0.0, 3.0, -1.0])[:n, None, None]


def noised(variation: NoisedText, x: Tensor, y: Tensor, **others: Any) -> Any:
    got, timestep, named = variation.inputs(x, 500, {"encoder_hidden_states": y, **others})
    assert got is x
    assert timestep == 500
    return named if others else named["encoder_hidden_states"]


def changed(**fields: Any) -> NoisedText:
    return NoisedText(**{**{name: getattr(PURE, name) for name in PURE.__dataclass_fields__}, **fields})


# -- the mixtures ----------------------------------------------------------------------------------------------------


def test_the_noise_is_standard_normal() -> None:
    n = noised(PURE, sample(), text()).numpy()
    for row in n:
        assert abs(row.mean()) < 4 / math.sqrt(row.size)
        assert abs(row.var() - 1) < 4 * math.sqrt(2 / row.size)
        assert abs((row**4).mean() - 3) < 4 * math.sqrt(96 / row.size)
    assert abs(np.corrcoef(n.reshape(3, -1))[np.triu_indices(3, 1)]).max() < 4 / math.sqrt(n[0].size)


def test_icg_is_the_gaussian_embedding_of_the_paper() -> None:
    x, y = sample(), text()
    variation = ICG().variation(Step(3, 10))
    assert isinstance(variation, NoisedText)
    got, n = noised(variation, x, y).numpy(), noised(PURE, x, y).numpy()
    for row, ni, yi in zip(got, n, y.numpy(), strict=True):
        np.testing.assert_allclose(row, ni * yi.std(ddof=1), rtol=1e-12)


@pytest.mark.parametrize("psi", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.9])
def test_cads_is_the_papers_mixture_and_its_rescaling(gamma: float, psi: float) -> None:
    x, y = sample(), text()
    got = noised(changed(gamma=gamma, scale=0.25, psi=psi), x, y).numpy()
    n = noised(PURE, x, y).numpy()
    for row, ni, yi in zip(got, n, y.numpy(), strict=True):
        mixed = np.sqrt(gamma) * yi + 0.25 * np.sqrt(1 - gamma) * ni
        back = (mixed - mixed.mean()) / mixed.std() * yi.std() + yi.mean()
        np.testing.assert_allclose(row, psi * back + (1 - psi) * mixed, rtol=1e-9, atol=1e-12)


def test_cads_clears_up_linearly() -> None:
    def theirs(t: float) -> float:  # v0xie/sd-webui-cads
        if t <= 0.6:
            return 1.0
        return 0.0 if t >= 0.9 else (0.9 - t) / (0.9 - 0.6)

    cads = CADS()
    for step in steps(20):
        assert cads.gamma(step) == pytest.approx(theirs(1 - step.index / 20), abs=1e-12)
    asked = [cads.variation(step) for step in steps(20)]
    assert [one is not None for one in asked] == [True] * 8 + [False] * 12
    assert [one.index for one in asked if isinstance(one, NoisedText)] == list(range(8))
    assert [cads.supplies(step, {}) for step in steps(20)] == ["cond"] * 8 + [None] * 12


def test_the_hooks_take_the_noised_prediction() -> None:
    u, c, x = (one.double() for one in batch())
    extra, early, late = 0.4 * c + 0.3 * x, Step(0, 10), Step(9, 10)
    cads = Guidance(5, [CADS()]).start()
    assert (needs(cads, early), len(cads.plan(early).passes)) == ((True, False), 1)
    torch.testing.assert_close(cads.combine(u, None, early, extras=passes(cads, early, extra)), u + 5 * (extra - u))
    assert (needs(cads, late), cads.plan(late).passes) == ((True, True), ())
    torch.testing.assert_close(cads.combine(u, c, late), u + 5 * (c - u))
    icg = Guidance(5, [ICG()]).start()
    assert (needs(icg, late), len(icg.plan(late).passes)) == ((False, True), 1)
    torch.testing.assert_close(icg.combine(None, c, late, extras=passes(icg, late, extra)), extra + 5 * (c - extra))
    for strength in (0.5, 1):  # at w = 1 its prediction has no weight
        alone = Guidance(1, [ICG(strength=strength)]).start()
        assert (needs(alone, late), alone.plan(late).passes) == ((False, True), ())
        assert torch.equal(alone.combine(None, c, late), c)
    read = Guidance(1, [ICG(), CFGNorm(reference="uncond")]).start()
    assert (needs(read, late), len(read.plan(late).passes)) == ((False, True), 1)
    both = Guidance(5, [ICG(), CADS()]).start()
    assert needs(both, early) == (False, False)
    torch.testing.assert_close(
        both.combine(None, None, early, extras=passes(both, early, u, extra)), u + 5 * (extra - u)
    )


# -- where the noise comes from --------------------------------------------------------------------------------------


def test_without_guidance_cads_runs_the_noised_rows_alone() -> None:
    guide = Guidance(1, [CADS()]).start()
    plan = guide.plan(Step(index=0, count=10))
    assert (plan.uncond, plan.cond, plan.evaluations) == (False, False, 1)
    _, c, x = batch()
    step = Step(index=0, count=10)
    assert torch.equal(guide.combine(None, None, step, x, passes(guide, step, c)), c)


def test_a_rows_noise_is_its_own_in_any_batch() -> None:
    x, y = sample(), text()
    together = noised(PURE, x, y)
    for i in range(3):
        assert torch.equal(noised(PURE, x[i : i + 1], y[i : i + 1]), together[i : i + 1])
    order = [2, 0, 1, 0]
    assert torch.equal(noised(PURE, x[order], y[order]), together[order])
    assert torch.equal(noised(PURE, x, y), together)


def test_a_rounding_error_of_the_sample_changes_nothing() -> None:
    x, y = sample(), text()
    nearly = x * (1 + 1e-6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(x, nearly)
    assert torch.equal(noised(PURE, nearly, y), noised(PURE, x, y))


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("front", [0, 20])
def test_only_the_tokens_that_are_read_count(name: str, front: int) -> None:
    variation = changed(gamma=0.3, psi=0.7, own_scale=True)
    x, y = sample(), text()
    mask = torch.ones(3, 77, dtype=torch.long)
    mask[1] = 0
    mask[1, front : front + 20] = 1
    mask[2] = 0  # a text of no token at all
    got = noised(variation, x, y, **{name: mask})["encoder_hidden_states"]
    alone = noised(variation, x[1:2], y[1:2, front : front + 20])
    assert torch.equal(got[:1], noised(variation, x[:1], y[:1]))
    assert torch.equal(got[1:2, front : front + 20], alone)
    assert torch.equal(got[1][mask[1] == 0], y[1][mask[1] == 0])
    assert torch.equal(got[2], y[2])


def test_another_sample_step_seed_or_encoding_has_another_noise() -> None:
    x, y = sample(), text()
    first = noised(PURE, x, y)
    others = [
        noised(PURE, sample(seed=1), y),
        noised(changed(index=4), x, y),
        noised(changed(seed=1), x, y),
        noised(PURE, x, y, text_embeds=y.clone())["text_embeds"],
    ]
    for one in others:
        correlation = np.corrcoef(first.reshape(-1).numpy(), one.reshape(-1).numpy())[0, 1]
        assert abs(correlation) < 0.04
    assert len(set(signatures(sample(500)))) == 500
    assert signatures(torch.zeros(2, 3)) == [0, 0]
    assert all(0 <= one < 2**32 for one in signatures(torch.randn(4, 4, 128, 128)))


def test_every_encoding_of_the_text_is_noised_and_nothing_else() -> None:
    x, y = sample(), text()
    pooled, ids = y[:, 0].float(), torch.ones(3, 6)
    given: dict[str, Any] = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}, "timestep_cond": None}
    named = noised(changed(gamma=0.5), x, y, **given)
    assert named["added_cond_kwargs"]["time_ids"] is ids
    assert named["timestep_cond"] is None
    assert not torch.equal(named["added_cond_kwargs"]["text_embeds"], pooled)
    assert named["added_cond_kwargs"]["text_embeds"].dtype == torch.float32
    assert given["added_cond_kwargs"]["text_embeds"] is pooled
    half = y.half()
    assert noised(changed(gamma=0.5, psi=1.0), x, half).dtype == torch.float16


def test_a_denoiser_without_a_text_is_refused() -> None:
    with pytest.raises(InputError, match="no encoding of a text among class_labels: this method puts noise into it"):
        PURE.inputs(sample(), 500, {"class_labels": torch.tensor([1, 2, 3])})
    with pytest.raises(InputError, match="an encoding of 2 rows for a sample of 3"):
        noised(PURE, sample(), text(2))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("5 | cads(tau1=0.9, tau2=0.6)", "the condition clears up from t = tau2 down to tau1; swap them."),
        ("5 | cads(psi=2)", "cads(psi=2): it must be between 0 and 1"),
        ("5 | cads(s=-1)", "cads(s=-1): it must be 0 or more"),
        ("5 | icg(seed=0.5)", "icg(seed=0.5): a whole number of steps is needed"),
    ],
)
def test_faults_are_one_line(written: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_guidance(written)
    assert said in str(error.value)
