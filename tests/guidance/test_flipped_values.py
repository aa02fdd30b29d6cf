"""VSF against processors written here after the authors', with the masks of their `inference`."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from cfglab.errors import InputError
from cfglab.guidance import VSF, Guidance
from cfglab.guidance.perturbations.flipped_values import FlippedValues
from tests.guidance import joint
from tests.guidance.examples import STEP, batch, needs, passes
from tests.tiny import _unet

S, OFFSET, NEGATIVE = 1.7, 0.2, 4
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-10}
VARIATION = FlippedValues("blue", S, OFFSET)


def heads(states: Tensor, attn: Any, norm: Any = None) -> Tensor:
    split = states.unflatten(2, (attn.heads, -1)).transpose(1, 2)
    return split if norm is None else norm(split)


class TheirsJoint:
    """JointAttnProcessor2_0 of weathon/VSF: tokens [image, own text, other text], keys with the other text twice."""

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Any:
        streams = [
            (
                heads(attn.to_q(hidden_states), attn, attn.norm_q),
                heads(attn.add_q_proj(encoder_hidden_states), attn, attn.norm_added_q),
            ),
            (
                heads(attn.to_k(hidden_states), attn, attn.norm_k),
                heads(attn.add_k_proj(encoder_hidden_states), attn, attn.norm_added_k),
            ),
            (heads(attn.to_v(hidden_states), attn), heads(attn.add_v_proj(encoder_hidden_states), attn)),
        ]
        query, key, value = (torch.cat(parts, 2) for parts in streams)
        key, value = (torch.cat([part, part[:, :, -NEGATIVE:]], 2) for part in (key, value))
        value[:, :, -NEGATIVE:] *= -S
        images, texts = hidden_states.shape[1], encoder_hidden_states.shape[1] - NEGATIVE
        mask = torch.zeros(images + texts + NEGATIVE, images + texts + 2 * NEGATIVE).double()
        mask[-NEGATIVE - texts :, -NEGATIVE:] = -math.inf  # prompts cannot see the flipped
        mask[:-NEGATIVE, -2 * NEGATIVE : -NEGATIVE] = -math.inf  # image and prompt cannot see the negative
        mask[-NEGATIVE:, images : images + texts] = -math.inf  # the negative cannot see the prompt
        mask[:images, -NEGATIVE:] = -OFFSET
        output = scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
        text = output[:, images:] if attn.context_pre_only else attn.to_add_out(output[:, images:])
        return attn.to_out[0](output[:, :images]), text


def longer(name: str) -> dict[str, Any]:
    """The arguments of the authors' networks: the other text behind the own one."""
    sample, timestep, more = joint.inputs(name)
    own, other = joint.texts(name, 1), joint.texts(name, 9, NEGATIVE)
    text = torch.cat([own["encoder_hidden_states"], other["encoder_hidden_states"]], 1)
    return {"hidden_states": sample, "timestep": timestep, **own, **more, "encoder_hidden_states": text}


def test_vsf_is_the_authors_processor_for_stable_diffusion_3() -> None:
    theirs = copy.deepcopy(joint.network("sd3"))
    for block in theirs.transformer_blocks:
        block.attn.set_processor(TheirsJoint())
    with torch.no_grad():
        expected = theirs(**longer("sd3")).sample
    plain = joint.run("sd3")
    got = joint.run("sd3", VARIATION, negative=joint.texts("sd3", 9, NEGATIVE))
    torch.testing.assert_close(got, expected, **EXACT)
    assert (got - plain).abs().max() > 0.1
    assert torch.equal(joint.run("sd3"), plain)


class TheirsCross:
    """WanAttnProcessor2_0 of weathon/VSF: the values of the last tokens flipped, their logits lowered."""

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        norms = (
            getattr(attn, "norm_q", None) or torch.nn.Identity(),
            getattr(attn, "norm_k", None) or torch.nn.Identity(),
        )
        query, key = (
            heads(norms[0](attn.to_q(hidden_states)), attn),
            heads(norms[1](attn.to_k(encoder_hidden_states)), attn),
        )
        value = attn.to_v(encoder_hidden_states).clone()
        value[:, -NEGATIVE:] *= -S
        mask = torch.zeros(1, query.shape[2], key.shape[2]).double()
        mask[:, :, -NEGATIVE:] = -OFFSET
        output = scaled_dot_product_attention(query, key, heads(value, attn), attn_mask=mask)
        return attn.to_out[0](output.transpose(1, 2).flatten(2))


def test_vsf_is_the_authors_processor_for_wan() -> None:
    theirs = copy.deepcopy(joint.network("wan"))
    for block in theirs.blocks:
        block.attn2.set_processor(TheirsCross())
    with torch.no_grad():
        expected = theirs(**longer("wan")).sample
    got = joint.run("wan", VARIATION, negative=joint.texts("wan", 9, NEGATIVE))
    torch.testing.assert_close(got, expected, **EXACT)
    assert (got - joint.run("wan")).abs().max() > 0.1


def test_vsf_is_the_same_in_the_cross_attention_of_a_unet() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        unet = _unet().double().eval()
    generator = torch.Generator().manual_seed(0)
    sample, text, negative = (
        torch.randn(shape, generator=generator).double() for shape in ((2, 4, 16, 16), (2, 7, 32), (2, NEGATIVE, 32))
    )
    named = {"encoder_hidden_states": text, "prompted": {"encoder_hidden_states": negative}}
    with torch.no_grad(), VARIATION.applied(unet) as module:
        x, t, arguments = VARIATION.inputs(sample, 500, named)
        got = module(x, t, **arguments).sample
    for name, module in unet.named_modules():
        if name.endswith("attn2"):
            module.set_processor(TheirsCross())
    with torch.no_grad():
        expected = unet(sample, 500, encoder_hidden_states=torch.cat([text, negative], 1)).sample
    torch.testing.assert_close(got, expected, **EXACT)


@pytest.mark.parametrize("name", ["flux", "chroma", "qwen"])
def test_the_same_rule_where_the_text_comes_first(name: str) -> None:
    own = joint.TEXT

    def written(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any) -> Tensor:
        """Each kind of query with the keys that it reads, one after the other."""
        text, other, image = slice(0, own), slice(own, own + NEGATIVE), slice(own + NEGATIVE, None)
        logits = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        logits = logits if attn_mask is None else logits + attn_mask  # as Chroma has it

        def reading(rows: slice, *parts: tuple[slice, float, float]) -> Tensor:
            weights = torch.cat([logits[:, :, rows, part] - less for part, less, _ in parts], -1).softmax(-1)
            return weights @ torch.cat([factor * value[:, :, part] for part, _, factor in parts], 2)

        return torch.cat(
            [
                reading(text, (text, 0, 1), (image, 0, 1)),
                reading(other, (other, 0, 1), (image, 0, 1)),
                reading(image, (text, 0, 1), (other, OFFSET, -S), (image, 0, 1)),
            ],
            2,
        )

    rows = longer(name)
    if name == "chroma":
        texts = joint.texts(name, 1), joint.texts(name, 9, NEGATIVE)
        masks = [text["attention_mask"][:, : len(text["encoder_hidden_states"][0])] for text in texts]
        rows["attention_mask"] = torch.cat([*masks, torch.ones(joint.ROWS, 6)], 1)
    if name != "qwen":
        rows["txt_ids"] = torch.zeros(own + NEGATIVE, 3).double()
    product = scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = written  # type: ignore[assignment]
    try:
        with torch.no_grad():
            expected = joint.network(name)(**rows, return_dict=False)[0]
    finally:
        torch.nn.functional.scaled_dot_product_attention = product
    got = joint.run(name, VARIATION, negative=joint.texts(name, 9, NEGATIVE))
    torch.testing.assert_close(got, expected, **EXACT)
    assert (got - joint.run(name)).abs().max() > 0.05


def test_masked_tokens_of_either_text_are_not_read() -> None:
    def run(noise: float) -> Tensor:
        own, negative = joint.texts("qwen", 1), joint.texts("qwen", 9, NEGATIVE)
        masks = [torch.ones(2, tokens, dtype=torch.bool) for tokens in (joint.TEXT, NEGATIVE)]
        masks[0][:, -2:] = masks[1][:, -1:] = False
        own["encoder_hidden_states"][:, -2:] += noise
        negative["encoder_hidden_states"][:, -1:] += noise
        negative["encoder_hidden_states_mask"] = masks[1]
        return joint.run("qwen", VARIATION, negative=negative, **{**own, "encoder_hidden_states_mask": masks[0]})

    torch.testing.assert_close(run(0.0), run(5.0), **EXACT)


def test_what_fills_a_text_up_moves_no_token() -> None:
    own, negative = joint.texts("qwen", 1), joint.texts("qwen", 9, NEGATIVE)
    used = joint.TEXT - 2
    mask = torch.ones(2, joint.TEXT, dtype=torch.bool)
    mask[1, used:] = False
    together = joint.run("qwen", VARIATION, negative=negative, **{**own, "encoder_hidden_states_mask": mask})
    shorter = {"encoder_hidden_states": own["encoder_hidden_states"][:, :used], "encoder_hidden_states_mask": None}
    expected = joint.run("qwen", VARIATION, negative=negative, **{**own, **shorter})
    torch.testing.assert_close(together[1], expected[1], **EXACT)
    torch.testing.assert_close(together[0], joint.run("qwen", VARIATION, negative=negative)[0], **EXACT)


def test_the_conditional_prediction_is_made_so() -> None:
    u, c, x = (one.double() for one in batch())
    extra = 0.5 * c + x
    guide = Guidance(4, [VSF(prompt="blue")]).start()
    assert needs(guide, STEP) == (True, False)
    assert guide.plan(STEP).passes == (FlippedValues("blue", 3.0, 0.08),)
    torch.testing.assert_close(guide.combine(u, None, STEP, extras=passes(guide, STEP, extra)), u + 4 * (extra - u))
    alone = Guidance(1, [VSF()]).start()
    assert needs(alone, STEP) == (False, False)


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(InputError, match=r"vsf on a ZImageTransformer2DModel: there the image stands at another"):
        VARIATION.applied(joint.network("z")).__enter__()
    with pytest.raises(InputError, match=r"vsf on a WanTransformer3DModel that starts from an image: it takes"):
        VARIATION.applied(joint.network("wan_image")).__enter__()
    with pytest.raises(InputError, match=r"vsf: 'blue' was not encoded"):
        VARIATION.inputs(torch.zeros(1, 1), 5, {})
