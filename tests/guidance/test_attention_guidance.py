"""NAG against a processor in the manner of the authors', which takes the second half of the texts as negative."""

import copy
from typing import Any

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from cfglab.errors import InputError
from cfglab.guidance import NAG, Guidance, parse_guidance
from cfglab.guidance.perturbations.normalized_attention import NormalizedAttention
from tests.guidance import joint
from tests.guidance.examples import STEP, batch, needs, passes
from tests.pipelines.families import aura_flow
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
    variation = NormalizedAttention("blue", 5.0, 2.5, 0.5)
    with pytest.raises(InputError, match=r"nag: no cross-attention in AuraFlowTransformer2DModel, where text and"):
        variation.applied(aura_flow.build().transformer).__enter__()
    with pytest.raises(InputError, match=r"nag with ip_hidden_states: an image prompt is read without the texts"):
        joint.run("flux", variation, negative=joint.texts("flux", 5), joint_attention_kwargs={"ip_hidden_states": []})
    with pytest.raises(InputError, match=r"nag: 'blue' was not encoded"):
        variation.inputs(torch.zeros(1, 1), 5, {"encoder_hidden_states": torch.zeros(1, 1)})
    with pytest.raises(InputError, match="nag on a compiled UNet2DConditionModel"):
        variation.applied(torch.compile(unet, backend="eager")).__enter__()


# -- text and image in one attention ---------------------------------------------------------------------------------


def held(positive: Tensor, negative: Tensor, s: float, tau: float, alpha: float) -> Tensor:
    """The lines that the authors' processors share: (n, tokens, channels of all heads)."""
    guidance = positive * s - negative * (s - 1)
    scale = torch.norm(guidance, p=1, dim=-1, keepdim=True) / (torch.norm(positive, p=1, dim=-1, keepdim=True) + 1e-30)
    guidance = guidance * torch.minimum(scale, scale.new_ones(1) * tau) / scale
    return guidance * alpha + positive * (1 - alpha)


class TheirsJoint:
    """NAGJointAttnProcessor2_0 and NAGFluxAttnProcessor2_0: rows of the image once, of the texts [own; negative].

    Without a text of its own, a stream holds both texts' rows, the text first, and the guided image is put into both.
    """

    def __init__(self, numbers: tuple[float, float, float], text_first: bool) -> None:
        self.numbers, self.text_first = numbers, text_first

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Any = None,  # noqa: ARG002
        image_rotary_emb: Any = None,
    ) -> Any:
        def split(states: Tensor, names: tuple[str, ...], norms: tuple[Any, ...]) -> list[Tensor]:
            parts = [getattr(attn, name)(states).unflatten(2, (attn.heads, -1)).transpose(1, 2) for name in names]
            return [part if norm is None else norm(part) for part, norm in zip(parts, norms, strict=True)]

        streams = [split(hidden_states, ("to_q", "to_k", "to_v"), (attn.norm_q, attn.norm_k, None))]
        if encoder_hidden_states is not None:
            names, norms = ("add_q_proj", "add_k_proj", "add_v_proj"), (attn.norm_added_q, attn.norm_added_k, None)
            streams = [[part.tile(2, 1, 1, 1) for part in streams[0]], split(encoder_hidden_states, names, norms)]
        if self.text_first:
            streams.reverse()
        q, k, v = (torch.cat(parts, 2) for parts in zip(*streams, strict=True))
        if image_rotary_emb is not None:
            q, k = (apply_rotary_emb(part, image_rotary_emb) for part in (q, k))
        output = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        text = joint.TEXT
        image = output[:, text:] if self.text_first else output[:, : output.shape[1] - text]
        texts = output[:, :text] if self.text_first else output[:, output.shape[1] - text :]
        guided = held(*image.chunk(2), *self.numbers)
        if encoder_hidden_states is None:
            return torch.cat([texts, guided.tile(2, 1, 1)], 1)
        texts = texts if getattr(attn, "context_pre_only", False) else attn.to_add_out(texts)
        return attn.to_out[0](guided), texts


def their_rows(name: str, negative: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the authors' networks: the image once, the texts twice."""
    sample, timestep, more = joint.inputs(name)
    both = {key: torch.cat([value, negative[key]]) for key, value in joint.texts(name, 1).items()}
    return {"hidden_states": sample, "timestep": timestep.tile(2), **both, **more}


NUMBERS = [(5.0, 2.5, 0.25), (9.0, 1.2, 1.0)]


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_nag_is_the_authors_processor_in_joint_attention(name: str, numbers: tuple[float, float, float]) -> None:
    theirs, negative = copy.deepcopy(joint.network(name)), joint.texts(name, 9)

    def shortened(norm: Any) -> Any:  # TruncAdaLayerNormZero and its kin
        forward = norm.forward
        return lambda x, emb: forward(x, emb=emb[: len(x)])

    for block in theirs.transformer_blocks:
        block.attn.set_processor(TheirsJoint(numbers, name == "flux"))
        block.norm1.forward = shortened(block.norm1)
    if name == "sd3":
        forward = theirs.norm_out.forward
        theirs.norm_out.forward = lambda x, emb: forward(x, emb[: len(x)])
    else:
        for number, block in enumerate(theirs.single_transformer_blocks):
            block.attn.set_processor(TheirsJoint(numbers, True))
            if number == 0:
                block.register_forward_pre_hook(
                    lambda _, args, kwargs: (args, {**kwargs, "hidden_states": kwargs["hidden_states"].tile(2, 1, 1)}),
                    with_kwargs=True,
                )
    with torch.no_grad():
        expected = theirs(**their_rows(name, negative)).sample[: joint.ROWS]
    plain = joint.run(name)
    got = joint.run(name, NormalizedAttention("blue", *numbers), negative=negative)
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-9)
    assert (got - plain).abs().max() > 0.1
    assert torch.equal(joint.run(name), plain)


class TheirsWan:
    """NAGWanAttnProcessor2_0: the image beside the text, if there is one, is read as it is and added afterwards."""

    def __init__(self, numbers: tuple[float, float, float]) -> None:
        self.numbers = numbers

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *_: Any) -> Tensor:
        def heads(states: Tensor) -> Tensor:
            return states.unflatten(2, (attn.heads, -1)).transpose(1, 2)

        images = encoder_hidden_states.shape[1] - 512 if attn.add_k_proj is not None else 0
        image, text = encoder_hidden_states[: len(hidden_states), :images], encoder_hidden_states[:, images:]
        q = heads(attn.norm_q(attn.to_q(hidden_states)))
        keys, values = heads(attn.norm_k(attn.to_k(text))).chunk(2), heads(attn.to_v(text)).chunk(2)
        positive, negative = (
            scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2) for k, v in zip(keys, values, strict=True)
        )
        output = held(positive, negative, *self.numbers)
        if images:
            k, v = heads(attn.norm_added_k(attn.add_k_proj(image))), heads(attn.add_v_proj(image))
            output = output + scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return attn.to_out[0](output)


@pytest.mark.parametrize("name", ["wan", "wan_image"])
def test_nag_is_the_authors_processor_in_wan(name: str) -> None:
    theirs, negative = copy.deepcopy(joint.network(name)), joint.texts(name, 9)
    for block in theirs.blocks:
        block.attn2.set_processor(TheirsWan(NUMBERS[0]))
    rows = their_rows(name, negative) | {"timestep": joint.inputs(name)[1]}
    if "encoder_hidden_states_image" in rows:
        rows["encoder_hidden_states_image"] = rows["encoder_hidden_states_image"].tile(2, 1, 1)
    with torch.no_grad():
        expected = theirs(**rows).sample
    got = joint.run(name, NormalizedAttention("blue", *NUMBERS[0]), negative=negative)
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-9)
    assert (got - joint.run(name)).abs().max() > 0.1


@pytest.mark.parametrize(
    ("name", "tokens"), [("qwen", joint.TEXT), ("qwen", 4), ("qwen", 9), ("z", 7), ("z", 40), ("chroma", joint.TEXT)]
)
def test_nag_guides_the_image_in_every_product_of_qwen_z_image_and_chroma(name: str, tokens: int) -> None:
    negative, numbers = joint.texts(name, 9, tokens), NUMBERS[0]
    sample, timestep, more = joint.inputs(name)
    own = joint.texts(name, 1)
    image = slice(0, 6) if name == "z" else slice(max(tokens, joint.TEXT), None)
    if name == "z":
        rows: dict[str, Any] = {
            "x": sample * 2,
            "t": timestep.tile(2),
            "cap_feats": own["cap_feats"] + negative["cap_feats"],
        }
    elif name == "chroma":
        rows = {"hidden_states": sample.tile(2, 1, 1), "timestep": timestep.tile(2), **more}
        rows |= {key: torch.cat([value, negative[key]]) for key, value in own.items()}
    else:
        longest = max(tokens, joint.TEXT)
        texts = [text["encoder_hidden_states"] for text in (own, negative)]
        filled = [torch.nn.functional.pad(text, (0, 0, 0, longest - text.shape[1])) for text in texts]
        mask = torch.stack([torch.arange(longest) < text.shape[1] for text in texts]).repeat_interleave(2, 0)
        rows = {"hidden_states": sample.tile(2, 1, 1), "timestep": timestep.tile(2), **more}
        rows |= {
            "encoder_hidden_states": torch.cat(filled),
            "encoder_hidden_states_mask": mask,
            "img_shapes": more["img_shapes"] * 2,
        }
    product, seen = scaled_dot_product_attention, list[int]()

    def guided(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        output = product(query, key, value, **options)
        seen.append(1)
        if name == "z" and len(seen) <= 2:  # the refiners
            return output
        positive, away = (half[:, :, image].transpose(1, 2).flatten(2) for half in output.chunk(2))
        mixed = held(positive, away, *numbers).unflatten(2, (output.shape[1], -1)).transpose(1, 2)
        output[:, :, image] = mixed.tile(2, 1, 1, 1)
        return output

    denoiser = joint.network(name)
    torch.nn.functional.scaled_dot_product_attention = guided  # type: ignore[assignment]
    try:
        with torch.no_grad():
            expected = denoiser(**rows, return_dict=False)[0][: joint.ROWS]
    finally:
        torch.nn.functional.scaled_dot_product_attention = product
    got = joint.run(name, NormalizedAttention("blue", *numbers), negative=negative)
    torch.testing.assert_close(got, torch.stack(list(expected)), rtol=1e-8, atol=1e-9)
    assert (got - joint.run(name)).abs().max() > 0.05


@pytest.mark.parametrize("name", sorted(joint.LAYOUTS))
def test_joint_nag_changes_nothing_at_s_1_or_for_its_own_text(name: str) -> None:
    plain, own = joint.run(name), joint.texts(name, 1)
    for numbers, text in (
        ((1.0, 2.5, 0.5), joint.texts(name, 9)),
        ((9.0, 2.5, 0.0), joint.texts(name, 9)),
        ((9.0, 2.5, 1.0), own),
    ):
        got = joint.run(name, NormalizedAttention("x", *numbers), negative=text)
        torch.testing.assert_close(got, plain, rtol=1e-9, atol=1e-10)
