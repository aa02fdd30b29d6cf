"""TSG: its formula in float64, and the noised embedding against a network that is given the embedding."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfglab.errors import InputError
from cfglab.guidance import TSG, Guidance, parse_guidance
from cfglab.guidance.perturbations.noised_timestep import NoisedTimestep
from cfglab.step import Step, steps
from tests.guidance.examples import batch, needs, passes
from tests.guidance.test_perturbed import made, rows, run
from tests.tiny import _unet


@pytest.fixture(scope="module")
def unet() -> Any:
    return made(_unet)


class Given(nn.Module):
    """In the place of the embedding's layers: the given embedding."""

    def __init__(self, embedding: Tensor) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, *_: Any) -> Tensor:
        return self.embedding


def embedding_of(unet: Any, variation: NoisedTimestep | None) -> Tensor:
    """(2, channels): what the blocks read."""
    seen = []
    handle = unet.down_blocks[0].resnets[0].register_forward_pre_hook(lambda _, args: seen.append(args[1].clone()))
    run(unet, variation)
    handle.remove()
    return seen[0]


def test_every_block_reads_one_embedding_with_noise_of_its_own_deviation(unet: Any) -> None:
    plain, noised = (embedding_of(unet, one) for one in (None, NoisedTimestep(0.5, seed=0, index=3)))
    noise = (noised - plain) / (0.5 * plain.std(dim=1, keepdim=True))
    count = noise[0].numel()
    for one in noise:
        assert abs(float(one.mean())) < 4 / math.sqrt(count)
        assert abs(float(one.var()) - 1) < 4 * math.sqrt(2 / count)
    assert not torch.allclose(noise[0], noise[1])  # each row its own
    other = copy.deepcopy(unet)
    other.time_embedding = Given(noised)
    torch.testing.assert_close(run(unet, NoisedTimestep(0.5, seed=0, index=3)), run(other), rtol=1e-12, atol=1e-12)


def test_a_row_has_its_noise_in_any_batch_and_another_at_another_step(unet: Any) -> None:
    sample, text = rows()
    variation = NoisedTimestep(1.0, seed=0, index=3)

    def of(which: slice, variation: NoisedTimestep = variation) -> Tensor:
        with torch.no_grad(), variation.applied(unet) as module:
            return module(sample[which], 500, encoder_hidden_states=text[which]).sample

    together = of(slice(0, 2))
    torch.testing.assert_close(of(slice(1, 2)), together[1:], rtol=1e-9, atol=1e-9)
    for changed in (NoisedTimestep(1.0, seed=1, index=3), NoisedTimestep(1.0, seed=0, index=4)):
        assert not torch.allclose(of(slice(0, 2), changed), together)
    plain = run(unet)
    torch.testing.assert_close(of(slice(0, 2), NoisedTimestep(0.0, seed=0, index=3)), plain)
    assert torch.equal(run(unet), plain)  # no hook is left


def test_tsg_is_equation_8_and_adds_to_cfg() -> None:
    u, c, x = (one.double() for one in batch())
    worse = 0.7 * c + 0.2 * x
    step = Step(1, 10)
    alone = Guidance(1, [TSG(w=4, s=3)]).start()
    assert needs(alone, step) == (False, True)
    torch.testing.assert_close(alone.combine(None, c, step, extras=passes(alone, step, worse)), worse + 4 * (c - worse))
    guide = Guidance(5, [TSG(w=4, s=3)]).start()
    both = guide.combine(u, c, step, extras=passes(guide, step, worse))
    torch.testing.assert_close(both, u + 5 * (c - u) + 3 * (c - worse))


def test_the_size_of_the_noise_follows_the_power_of_t() -> None:
    asked = [TSG(w=4, s=3, alpha=0.25, stop=0.6, seed=2).variation(step) for step in steps(10)]
    assert asked[6:] == [None] * 4
    expected = [3 * (1 - i / 10) ** 0.25 for i in range(6)]
    assert [one.scale for one in asked[:6] if isinstance(one, NoisedTimestep)] == pytest.approx(expected)
    assert asked[5] == NoisedTimestep(expected[5], seed=2, index=5)
    assert TSG(w=4, s=3).variation(Step(9, 10)) == NoisedTimestep(3.0, seed=0, index=9)


def test_networks_without_such_an_embedding_are_refused() -> None:
    with pytest.raises(InputError, match="tsg: no embedding of the time step in Linear"):
        NoisedTimestep(1.0, 0, 0).applied(nn.Linear(2, 2)).__enter__()
    per_token = nn.ModuleDict({"time_embedder": nn.Identity()})
    per_token.forward = lambda x: per_token["time_embedder"](x.repeat(3, 1))  # type: ignore[method-assign]
    with NoisedTimestep(1.0, 0, 0).applied(per_token), pytest.raises(InputError, match=r"6 embeddings .* for 2 rows"):
        per_token(torch.ones(2, 4))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 | tsg(w=2)", "tsg without s: it is needed; write tsg(s=…)."),
        ("1 | tsg(w=2, s=-1)", "tsg(s=-1): it must be 0 or more; change its sign."),
        ("1 | tsg(w=2, s=1, start=0.5, stop=0.5)", "it stops after it starts; swap them."),
    ],
)
def test_faults_are_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_guidance(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
