"""PAG, SEG, TPG and skipped layers where text and image share attention: against attention written out in full."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers.hooks.layer_skip import AttentionScoreSkipFunctionMode
from diffusers.models.attention_processor import PAGJointAttnProcessor2_0
from scipy.ndimage import gaussian_filter1d
from scipy.special import softmax
from torch import Tensor, nn

from cfglab.errors import InputError
from cfglab.guidance.context import Perturbation
from cfglab.guidance.perturbations.layer_names import layer_paths
from cfglab.guidance.perturbations.self_attention import BlurredQueries, IdentityAttention
from cfglab.guidance.perturbations.shuffled_tokens import ShuffledTokens
from cfglab.guidance.perturbations.skipped_layers import SkippedLayers
from cfglab.guidance.perturbations.sparse_attention import LEVELS, SparseAttention
from tests.guidance.joint import LAYOUTS, TEXT, network, run
from tests.guidance.test_shuffled_and_sparse import by_bisection

EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-10}
AGREES = [
    # network, layers, its attentions among all that run, in order
    ("sd3", ("0",), (0,)),
    ("sd3", ("joint_blocks.1",), (1, 2)),
    ("flux", ("0",), (0,)),
    ("flux", ("double.1", "single.0"), (1, 2)),
    ("flux", ("single_blocks.0-1",), (2, 3)),
    ("chroma", ("blocks.1", "single.1"), (1, 3)),
    ("qwen", ("1",), (1,)),
    ("z", ("noise_refiner.0",), (0,)),
    ("z", ("0-1",), (2, 3)),
    ("wan", ("1",), (2,)),
]


def image_of(name: str) -> slice:
    """Where the image is in the sequences of the network that hold it."""
    tokens = LAYOUTS[name].image
    return slice(TEXT, TEXT + tokens) if name in ("flux", "chroma", "qwen") else slice(0, tokens)


@contextmanager
def written_out(name: str, calls: tuple[int, ...], weights: Callable[[Tensor, slice], Tensor]) -> Iterator[list[int]]:
    """Attention as the softmax of logits; of the attentions with these numbers, as the weights that `weights` gives."""
    own, seen = torch.nn.functional.scaled_dot_product_attention, list[int]()

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, **_: Any) -> Tensor:
        number = len(seen)
        seen.append(number)
        logits = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        if attn_mask is not None and attn_mask.dtype != torch.bool:
            logits = logits + attn_mask
        assert attn_mask is None or attn_mask.dtype != torch.bool or attn_mask.all()
        return (weights(logits, image_of(name)) if number in calls else logits.softmax(-1)) @ value

    torch.nn.functional.scaled_dot_product_attention = attention  # type: ignore[assignment]
    try:
        yield seen
    finally:
        torch.nn.functional.scaled_dot_product_attention = own


@pytest.mark.parametrize(("name", "layers", "calls"), AGREES)
def test_pag_lets_the_image_see_itself_and_the_text(name: str, layers: tuple[str, ...], calls: tuple[int, ...]) -> None:
    def itself(logits: Tensor, image: slice) -> Tensor:
        others = 1 - torch.eye(image.stop - image.start).double()
        logits[:, :, image, image] = logits[:, :, image, image].masked_fill(others.bool(), -float("inf"))
        return logits.softmax(-1)

    with written_out(name, calls, itself):
        expected = run(name)
    plain = run(name)
    torch.testing.assert_close(run(name, IdentityAttention(layers)), expected, **EXACT)
    assert (expected - plain).abs().max() > 1e-2
    assert torch.equal(run(name), plain)


def test_pag_is_diffusers_processor_for_stable_diffusion_3() -> None:
    sd3 = copy.deepcopy(network("sd3"))
    for block in sd3.transformer_blocks:  # the processor knows no norms of queries
        block.attn.norm_q = block.attn.norm_k = block.attn.norm_added_q = block.attn.norm_added_k = None
    theirs = copy.deepcopy(sd3)
    theirs.transformer_blocks[0].attn.set_processor(PAGJointAttnProcessor2_0())
    theirs.transformer_blocks[2].attn.set_processor(PAGJointAttnProcessor2_0())
    generator = torch.Generator().manual_seed(0)
    shapes = {"hidden_states": (2, 16, 4, 6), "encoder_hidden_states": (2, TEXT, 32), "pooled_projections": (2, 32)}
    named = {key: torch.randn(shape, generator=generator).double() for key, shape in shapes.items()}
    named["timestep"] = torch.full((2,), 500.0).double()
    with torch.no_grad():
        both = theirs(**{key: torch.cat([value] * 2) for key, value in named.items()}).sample
        with IdentityAttention(("blocks.0", "blocks.2")).applied(sd3):
            got = sd3(**named).sample
    torch.testing.assert_close(got, both[2:], rtol=1e-10, atol=1e-11)


def test_pag_on_wan_is_diffusers_own_skip_of_attention_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = network("wan").blocks[0].attn1
    forward = attention.forward

    def skipping(*args: Any, **kwargs: Any) -> Any:
        with AttentionScoreSkipFunctionMode():
            return forward(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(attention, "forward", skipping)
        expected = run("wan")
    torch.testing.assert_close(run("wan", IdentityAttention(("0",))), expected, **EXACT)


@pytest.mark.parametrize(("name", "layers", "calls"), AGREES)
@pytest.mark.parametrize("sigma", [None, 0.5])
def test_seg_blurs_the_logits_over_the_image(
    name: str, layers: tuple[str, ...], calls: tuple[int, ...], sigma: float | None
) -> None:
    grid = LAYOUTS[name].grid

    def blurred(logits: Tensor, image: slice) -> Tensor:
        own = logits[:, :, image].unflatten(2, grid).numpy()  # (n, heads, frames, rows, columns, keys)
        if sigma is None:
            own = own * 0 + own.mean((3, 4), keepdims=True)
        else:
            for axis in (3, 4):
                own = gaussian_filter1d(own, sigma, axis=axis, mode="mirror", radius=1)
        logits[:, :, image] = torch.from_numpy(own).flatten(2, 4)
        return logits.softmax(-1)

    with written_out(name, calls, blurred):
        expected = run(name)
    torch.testing.assert_close(run(name, BlurredQueries(layers, sigma)), expected, **EXACT)
    assert (expected - run(name)).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("name", "layers", "calls", "text"),
    [
        ("sd3", LEVELS, (0, 1, 3), slice(6, None)),
        ("sd3", ("joint_blocks.1",), (1,), slice(6, None)),  # of its two attentions the one with the text
        ("flux", LEVELS, (0, 1, 2, 3), slice(0, TEXT)),
        ("flux", ("single.0",), (2,), slice(0, TEXT)),
        ("chroma", LEVELS, (0, 1, 2, 3), slice(0, TEXT)),
        ("qwen", LEVELS, (0, 1), slice(0, TEXT)),
        ("z", LEVELS, (2, 3), slice(32, None)),  # behind an image that is filled up
        ("wan", LEVELS, (1, 3), slice(None)),
        ("wan_image", ("0",), (2,), slice(None)),
    ],
)
@pytest.mark.parametrize(("sparse", "alpha"), [("entmax15", 1.5), ("sparsemax", 2.0)])
def test_pladis_mixes_the_weights_of_the_image_for_the_text_and_keeps_their_sum(
    name: str, layers: tuple[str, ...], calls: tuple[int, ...], text: slice, sparse: Any, alpha: float
) -> None:
    def mixed(logits: Tensor, image: slice) -> Tensor:
        weights = logits.softmax(-1)
        sums = weights[:, :, image, text].sum(-1, keepdim=True)
        own = logits[:, :, image, text].numpy()
        within = torch.from_numpy(1.7 * by_bisection(own, alpha) - 0.7 * softmax(own, axis=-1))
        weights[:, :, image, text] = sums * within
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        return weights

    with written_out(name, calls, mixed):
        expected = run(name)
    plain = run(name)
    torch.testing.assert_close(run(name, SparseAttention("cond", 1.7, sparse, layers)), expected, rtol=1e-7, atol=1e-8)
    assert (expected - plain).abs().max() > 1e-3
    torch.testing.assert_close(run(name, SparseAttention("cond", 0.0, sparse, layers)), plain, **EXACT)


@pytest.mark.parametrize(
    ("name", "layer", "block"),
    [
        ("flux", "1", "transformer_blocks.1"),
        ("flux", "single.0", "single_transformer_blocks.0"),
        ("chroma", "single.0", "single_transformer_blocks.0"),
        ("qwen", "1", "transformer_blocks.1"),
        ("z", "1", "layers.1"),
        ("wan", "1", "blocks.1"),
    ],
)
def test_tpg_shuffles_the_image_and_leaves_the_text_in_order(name: str, layer: str, block: str) -> None:
    module, seen = network(name).get_submodule(block), list[Tensor]()

    def record(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        joint = name in ("z", "chroma")
        image = image_of(name) if joint else slice(0, LAYOUTS[name].image)
        rest = torch.cat([hidden[:, : image.start], hidden[:, image.stop :]], 1)
        seen.extend((hidden[:, image].clone(), rest))

    plain = run(name)
    variation = ShuffledTokens((layer,), seed=0, index=0)
    handle = module.register_forward_pre_hook(record, with_kwargs=True)
    run(name)
    handle.remove()
    with variation.applied(network(name)):
        handle = module.register_forward_pre_hook(record, with_kwargs=True)
        got = run(name)
        handle.remove()
    assert torch.equal(seen[2], seen[0][:, variation.order(0, seen[0])])
    assert torch.equal(seen[3], seen[1])
    assert (got - plain).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("name", "layers", "stack", "left"),
    [
        ("flux", ("1",), "transformer_blocks", (0,)),
        ("flux", ("single.0", "single.1"), "single_transformer_blocks", ()),
        ("qwen", ("0",), "transformer_blocks", (1,)),
        ("z", ("layers.0",), "layers", (1,)),
        ("wan", ("blocks.1",), "blocks", (0,)),
    ],
)
def test_a_skipped_block_is_a_network_without_it(
    name: str, layers: tuple[str, ...], stack: str, left: tuple[int, ...]
) -> None:
    denoiser = network(name)
    whole = getattr(denoiser, stack)
    setattr(denoiser, stack, nn.ModuleList(whole[number] for number in left))
    try:
        expected = run(name)
    finally:
        setattr(denoiser, stack, whole)
    torch.testing.assert_close(run(name, SkippedLayers(layers)), expected, **EXACT)
    assert (expected - run(name)).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["sd3", "flux", "chroma", "qwen"])
def test_a_skipped_attention_gives_image_and_text_what_it_was_given(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    got = run(name, SkippedLayers(("transformer_blocks.0.attn",)))

    def given(hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        return hidden_states, encoder_hidden_states

    plain = run(name)
    monkeypatch.setattr(network(name).transformer_blocks[0].attn, "forward", given)
    expected = run(name)
    torch.testing.assert_close(got, expected, **EXACT)
    assert (expected - plain).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        *((name, "transformer_blocks.0.norm1") for name in ("sd3", "flux", "chroma")),
        *((name, "pos_embed") for name in ("sd3", "flux", "chroma", "qwen")),
        ("flux", "time_text_embed"),
        ("wan", "rope"),
        ("z", "t_embedder"),
    ],
)
def test_a_part_that_gives_something_else_than_it_is_given_is_refused(name: str, layer: str) -> None:
    said = rf"skip_layers: layer '{layer}', a \w+, changes the shape, so it cannot be skipped; it has 0 to \d.*; name"
    with pytest.raises(InputError, match=said):
        run(name, SkippedLayers((layer,)))


def flux_of_equal_lengths() -> dict[str, Tensor]:
    """Arguments of Flux with as many tokens of the image as of the text."""
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(1, TEXT, 16, generator=generator).double(),
        "encoder_hidden_states": torch.randn(1, TEXT, 32, generator=generator).double(),
        "pooled_projections": torch.randn(1, 32, generator=generator).double(),
        "timestep": torch.tensor([0.5]).double(),
        "img_ids": torch.cartesian_prod(torch.zeros(1), torch.arange(1.0), torch.arange(float(TEXT))).double(),
        "txt_ids": torch.zeros(TEXT, 3).double(),
    }


def test_an_attention_whose_streams_have_one_shape_is_refused() -> None:
    flux = network("flux")
    said = "layer 'double.1.attn', a FluxAttention, has two streams of one shape.*; it has 0 to 1, single.0 to single.1"
    with (
        torch.no_grad(),
        pytest.raises(InputError, match=said),
        SkippedLayers(("double.1.attn",)).applied(flux),
    ):
        flux(**flux_of_equal_lengths())


def test_as_many_tokens_of_text_as_of_the_image_are_told_apart() -> None:
    flux, named = network("flux"), flux_of_equal_lengths()
    with torch.no_grad(), SkippedLayers(("double.0-1", "single.0-1")).applied(flux):
        got = flux(**named).sample
        time = flux.time_text_embed(named["timestep"] * 1000, named["pooled_projections"])
        expected = flux.proj_out(flux.norm_out(flux.x_embedder(named["hidden_states"]), time))
    torch.testing.assert_close(got, expected, **EXACT)


@pytest.mark.parametrize(
    ("name", "variation", "said"),
    [
        (
            "flux",
            IdentityAttention(("mid",)),
            "pag: no self-attention in layer 'mid' of FluxTransformer2DModel; it has",
        ),
        ("flux", IdentityAttention(("2",)), "it has 0 to 1, single.0 to single.1; name one as layers=…"),
        ("flux", BlurredQueries(("single.0-2",)), "seg: no self-attention in layer 'single.0-2' of Flux"),
        ("z", IdentityAttention(("context_refiner.0",)), "pag: no self-attention in layer 'context_refiner.0'"),
        (
            "wan",
            SkippedLayers(("single.0",)),
            "skip_layers: no layer 'single.0' in WanTransformer3DModel that can be left out; it has 0 to 1",
        ),
        ("qwen", ShuffledTokens(("single.0",), 0, 0), "tpg: no transformer block in layer 'single.0' of QwenImage"),
        (
            "z",
            SparseAttention("cond", 2.0, "entmax15", ("noise_refiner.0",)),
            "pladis: no attention to the text in layer 'noise_refiner.0' of ZImage",
        ),
    ],
)
def test_a_layer_that_is_not_there_is_said_with_those_that_are(name: str, variation: Perturbation, said: str) -> None:
    plain = run(name)
    with pytest.raises(InputError) as error:
        run(name, variation)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert torch.equal(run(name), plain)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network(name).modules())


def test_another_backend_of_attention_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(query: Tensor, *_: Any, **__: Any) -> Tensor:
        return query

    monkeypatch.setattr("diffusers.models.transformers.transformer_flux.dispatch_attention_fn", other)
    with pytest.raises(InputError, match=r"pag: the attention of this FluxTransformer2DModel runs by another backend"):
        run("flux", IdentityAttention(("0",)))


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        ("mid", ["mid_block"]),
        ("d0", ["down_blocks.1.attentions.0.transformer_blocks.0", "down_blocks.1.attentions.0.transformer_blocks.1"]),
        ("d1-2.1", [f"down_blocks.{place}.transformer_blocks.1" for place in ("1.attentions.1", "2.attentions.0")]),
        ("d2.0-1", [f"down_blocks.2.attentions.0.transformer_blocks.{number}" for number in (0, 1)]),
        ("m0.1", ["mid_block.attentions.0.transformer_blocks.1"]),
        ("u9", ["u9"]),
        ("up_blocks.0", ["up_blocks.0"]),
        *((layer, [layer]) for layer in (f"d{'9' * 5000}", f"d1.{'9' * 5000}", "0-999999999", f"0-{'9' * 5000}")),
    ],
)
def test_layers_of_a_unet_have_the_names_of_published_nodes(layer: str, names: list[str]) -> None:
    # the blocks of SDXL's layout: none, then 2 and 2 transformers on the way down
    unet = nn.Module()

    def level(transformers: int) -> nn.Module:
        return nn.ModuleDict(
            {
                "attentions": nn.ModuleList(
                    nn.ModuleDict({"transformer_blocks": nn.ModuleList(nn.Identity() for _ in range(2))})
                    for _ in range(transformers)
                )
            }
        )

    unet.down_blocks = nn.ModuleList(level(count) for count in (0, 2, 2))
    unet.mid_block = level(1)
    unet.up_blocks = nn.ModuleList(level(count) for count in (3, 3, 0))
    assert layer_paths(layer, unet) == names
