"""NAG against a processor in the manner of the authors', which takes the second half of the texts as negative."""

import copy
from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from cfglab.errors import InputError
from cfglab.guidance import NAG, Guidance, parse_guidance
from cfglab.guidance.methods.nag import NormalizedAttention
from tests.guidance.examples import STEP, batch, needs, passes
from tests.pipelines.families.sd3 import NETWORK
from tests.tiny import _unet


class Theirs:
    """The texts are [own; negative]; their rows are twice the image's."""

    def __init__(self, s: float, tau: float, alpha: float) -> None:
        self.s, self.tau, self.alpha = s, tau, alpha

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        q, k, v = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)
        q, k, v = (one.unflatten(2, (attn.heads, -1)).transpose(1, 2) for one in (q.tile(2, 1, 1), k, v))
        positive, negative = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).chunk(2)
        guidance = positive * self.s - negative * (self.s - 1)
        scale = torch.norm(guidance, p=1, dim=-1, keepdim=True) / torch.norm(positive, p=1, dim=-1, keepdim=True)
        guidance = guidance * torch.minimum(scale, torch.tensor(self.tau, dtype=torch.float64)) / scale
        return attn.to_out[0](guidance * self.alpha + positive * (1 - self.alpha))


@pytest.fixture(scope="module")
def unet() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return _unet().double().eval()


def given() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 16, 16), (2, 7, 32), (2, 7, 32))
    sample, text, negative = (torch.randn(shape, generator=generator).double() for shape in shapes)
    return sample, text, negative


def run(unet: Any, variation: NormalizedAttention) -> Tensor:
    sample, text, negative = given()
    prompted = {"encoder_hidden_states": negative}
    with torch.no_grad(), variation.applied(unet) as module:
        x, t, named = variation.inputs(sample, 500, {"encoder_hidden_states": text, "prompted": prompted})
        return module(x, t, **named).sample


def plain(unet: Any) -> Tensor:
    sample, text, _ = given()
    with torch.no_grad():
        return unet(sample, 500, encoder_hidden_states=text).sample


@pytest.mark.parametrize(("s", "tau", "alpha"), [(5.0, 2.5, 0.5), (9.0, 1.2, 0.25), (1.5, 30.0, 1.0)])
def test_nag_is_the_authors_processor(unet: Any, s: float, tau: float, alpha: float) -> None:
    theirs = copy.deepcopy(unet)
    cross = [name for name, _ in theirs.named_modules() if name.endswith("attn2")]
    assert len(cross) == 4
    for name in cross:
        theirs.get_submodule(name).set_processor(Theirs(s, tau, alpha))
    sample, text, negative = given()
    with torch.no_grad():
        expected = theirs(sample, 500, encoder_hidden_states=torch.cat([text, negative])).sample
    before = plain(unet)
    got = run(unet, NormalizedAttention("blue", s, tau, alpha))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
    assert (got - before).abs().max() > 1e-3
    assert torch.equal(plain(unet), before)


def test_it_changes_nothing_at_s_1_or_for_its_own_text(unet: Any) -> None:
    torch.testing.assert_close(run(unet, NormalizedAttention("x", 1.0, 2.5, 0.5)), plain(unet), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(run(unet, NormalizedAttention("x", 9.0, 2.5, 0.0)), plain(unet), rtol=1e-9, atol=1e-10)
    sample, text, _ = given()
    variation = NormalizedAttention("x", 9.0, 2.5, 1.0)
    own = {"encoder_hidden_states": text}
    with torch.no_grad(), variation.applied(unet) as module:
        x, t, named = variation.inputs(sample, 500, own | {"prompted": own})
        got = module(x, t, **named).sample
    torch.testing.assert_close(got, plain(unet), rtol=1e-9, atol=1e-10)


def test_the_norm_is_held_position_by_position_and_zeros_stay() -> None:
    variation = NormalizedAttention("x", 5.0, 2.5, 1.0)
    positive = torch.tensor([[[1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]])
    negative = torch.tensor([[[-9.0, 0.0], [1.0, 1.0], [0.0, 0.0]]])
    got = variation.guided(positive, negative)
    away = torch.tensor([41.0, -5.0])
    torch.testing.assert_close(got[0, 0], away * 5 / 46)  # |away| = 46, |positive| = 2, tau = 2.5
    assert got[0, 1:].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert variation.guided(positive.half(), negative.half()).dtype == torch.float16


def test_the_conditional_prediction_is_made_so() -> None:
    u, c, x = (one.double() for one in batch())
    extra = 0.5 * c + x
    guide = Guidance(4, [NAG(s=5, prompt="blue")]).start()
    assert needs(guide, STEP) == (True, False)
    assert guide.plan(STEP).passes == (NormalizedAttention("blue", 5.0, 2.5, 0.5),)
    torch.testing.assert_close(guide.combine(u, None, STEP, extras=passes(guide, STEP, extra)), u + 4 * (extra - u))
    alone = Guidance(1, [NAG(s=5)]).start()
    assert needs(alone, STEP) == (False, False)
    torch.testing.assert_close(alone.combine(None, None, STEP, extras=passes(alone, STEP, extra)), extra)


def test_what_it_cannot_do_is_said(unet: Any) -> None:
    with pytest.raises(InputError, match=r"nag without s: it is needed; write nag\(s=…\)."):
        parse_guidance("1 | nag(prompt=blue)")
    with torch.random.fork_rng():
        sd3 = SD3Transformer2DModel(**NETWORK)
    variation = NormalizedAttention("blue", 5.0, 2.5, 0.5)
    with pytest.raises(InputError, match=r"nag: no cross-attention in SD3Transformer2DModel, where text and image"):
        variation.applied(sd3).__enter__()
    with pytest.raises(InputError, match=r"nag: 'blue' was not encoded"):
        variation.inputs(torch.zeros(1, 1), 5, {"encoder_hidden_states": torch.zeros(1, 1)})
    with pytest.raises(InputError, match="nag on a compiled UNet2DConditionModel"):
        variation.applied(torch.compile(unet, backend="eager")).__enter__()
