"""Perturbed denoisers against processors written here, networks without the layer, and diffusers' own."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import LayerSkipConfig, SD3Transformer2DModel
from diffusers.guiders import SmoothedEnergyGuidance
from diffusers.hooks import apply_layer_skip
from diffusers.hooks.smoothed_energy_guidance_utils import SmoothedEnergyGuidanceConfig
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from cfglab.errors import InputError
from cfglab.guidance import register_weak_model, weak_models
from cfglab.guidance.context import Perturbation
from cfglab.guidance.perturbations.self_attention import BlurredQueries, IdentityAttention
from cfglab.guidance.perturbations.shuffled_tokens import ShuffledTokens
from cfglab.guidance.perturbations.skipped_layers import RandomBlocks, SkippedLayers
from cfglab.guidance.perturbations.sparse_attention import SparseAttention
from cfglab.guidance.perturbations.weak_models import _WEAK, WeakModelPass
from cfglab.pipelines.loading.compiled_blocks import compile_in_blocks
from tests.pipelines.families import aura_flow
from tests.pipelines.families.sd3 import NETWORK
from tests.tiny import _unet

MID = "mid_block.attentions.0.transformer_blocks.0.attn1"


def made(build: Callable[[], nn.Module]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build().double().eval()


@pytest.fixture(scope="module")
def unet() -> Any:
    network = made(_unet)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "attn1.to_q" in name or "attn1.to_k" in name:
                parameter.mul_(6.0)  # untrained attention is nearly uniform
    return network


@pytest.fixture(scope="module")
def sd3() -> Any:
    return made(lambda: SD3Transformer2DModel(**{**NETWORK, "num_layers": 3}))


def rows(seed: int = 0, shape: tuple[int, ...] = (2, 4, 16, 16)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).double(), torch.randn(2, 7, 32, generator=generator).double()


def run(unet: Any, variation: Perturbation | None = None, shape: tuple[int, ...] = (2, 4, 16, 16)) -> Tensor:
    sample, text = rows(shape=shape)
    with torch.no_grad():
        if variation is None:
            return unet(sample, 500, encoder_hidden_states=text).sample
        with variation.applied(unet) as module:
            x, t, named = variation.inputs(sample, 500, {"encoder_hidden_states": text})
            return module(x, t, **named).sample


@contextmanager
def processor(unet: Any, name: str, value: Any) -> Iterator[None]:
    attention = unet.get_submodule(name)
    before = attention.processor
    attention.set_processor(value)
    try:
        yield
    finally:
        attention.set_processor(before)


class Blurring:
    """Self-attention whose queries are what `blur` makes of them, (rows, columns, channels) in numpy."""

    def __init__(self, shape: tuple[int, int], blur: Callable[[Any], Any]) -> None:
        self.shape, self.blur = shape, blur

    def __call__(self, attn: Any, hidden_states: Tensor, **_: Any) -> Tensor:
        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        pictures = [self.blur(one.reshape(*self.shape, -1).numpy()).reshape(*one.shape) for one in q]
        q = torch.stack([torch.from_numpy(one) for one in pictures])
        q, k, v = (one.unflatten(2, (attn.heads, -1)).transpose(1, 2) for one in (q, k, v))
        return attn.to_out[0](scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


# -- perturbed attention -----------------------------------------------------------------------------------------------


def test_identity_attention_is_diffusers_pag_processor(unet: Any) -> None:
    sample, text = rows()
    with processor(unet, MID, PAGIdentitySelfAttnProcessor2_0()), torch.no_grad():
        both = unet(torch.cat([sample] * 2), 500, encoder_hidden_states=torch.cat([text] * 2)).sample
    got = run(unet, IdentityAttention(("mid",)))
    torch.testing.assert_close(got, both[2:], rtol=1e-10, atol=1e-12)
    assert (got - run(unet)).abs().max() > 1e-4


def test_several_layers_are_perturbed_and_everything_is_as_it_was(unet: Any) -> None:
    plain = run(unet)
    two = IdentityAttention(("mid", "up_blocks.1"))
    names = [name for name, module in unet.named_modules() if name.endswith("attn1") and "down" not in name]
    assert len(names) == 3
    other = copy.deepcopy(unet)
    for name in names:
        other.get_submodule(name).set_processor(PAGIdentitySelfAttnProcessor2_0())
    sample, text = rows()
    with torch.no_grad():
        # its processor perturbs the second half of the batch
        theirs = other(torch.cat([sample] * 2), 500, encoder_hidden_states=torch.cat([text] * 2)).sample[2:]
    torch.testing.assert_close(run(unet, two), theirs, rtol=1e-10, atol=1e-12)
    assert torch.equal(run(unet), plain)


# -- blurred queries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sigma", "radius"), [(0.5, 1), (1.0, 3), (1.3, 4), (4.0, 4)])
def test_a_finite_blur_is_scipys_gaussian_of_the_authors_kernel(unet: Any, sigma: float, radius: int) -> None:
    # taps: 6 sigma rounded up, the next odd number, at most the 8 positions of the middle block, plus one

    def blur(picture: Any) -> Any:
        for axis in (0, 1):
            picture = gaussian_filter1d(picture, sigma, axis=axis, mode="mirror", radius=radius)
        return picture

    with processor(unet, MID, Blurring((8, 8), blur)):
        expected = run(unet)
    torch.testing.assert_close(run(unet, BlurredQueries(("mid",), sigma)), expected, rtol=1e-10, atol=1e-12)
    assert (expected - run(unet)).abs().max() > 1e-4


def test_an_infinite_blur_is_the_mean(unet: Any) -> None:
    with processor(unet, MID, Blurring((8, 8), lambda q: q * 0 + q.mean((0, 1)))):
        expected = run(unet)
    torch.testing.assert_close(run(unet, BlurredQueries(("mid",))), expected, rtol=1e-10, atol=1e-12)
    wide = run(unet, BlurredQueries(("mid",), 1e6))
    assert not torch.allclose(wide, expected, atol=1e-7)  # edges are mirrored: a wide kernel is not quite the mean


def test_pictures_that_are_not_square_are_blurred_as_they_lie(unet: Any) -> None:
    def blur(picture: Any) -> Any:
        for axis in (0, 1):
            picture = gaussian_filter1d(picture, 0.5, axis=axis, mode="mirror", radius=1)
        return picture

    shape = (2, 4, 8, 24)
    with processor(unet, MID, Blurring((4, 12), blur)):
        expected = run(unet, shape=shape)
    torch.testing.assert_close(run(unet, BlurredQueries(("mid",), 0.5), shape), expected, rtol=1e-10, atol=1e-12)
    with pytest.raises(InputError, match=r"seg\(sigma=2\): 48 positions are no image of 8 x 8's proportions"):
        BlurredQueries(("mid",), 2).blurred(torch.zeros(1, 48, 4), 8, 8)


def test_the_seg_guider_of_diffusers_never_perturbs(unet: Any) -> None:
    guider = SmoothedEnergyGuidance(
        seg_guidance_config=[SmoothedEnergyGuidanceConfig([0], "mid_block.attentions.0.transformer_blocks")]
    )
    guider.set_state(step=5, num_inference_steps=10, timestep=torch.tensor(500))
    plain = run(unet)
    for _ in range(3):
        guider.prepare_models(unet)
        assert torch.equal(run(unet), plain)
        guider.cleanup_models(unet)


# -- skipped layers --------------------------------------------------------------------------------------------------


def test_a_skipped_layer_is_a_unet_without_it(unet: Any) -> None:
    without = copy.deepcopy(unet)
    without.mid_block = None
    torch.testing.assert_close(run(unet, SkippedLayers(("mid",))), run(without), rtol=1e-12, atol=1e-12)
    without = copy.deepcopy(unet)
    attentions = without.mid_block.attentions[0].transformer_blocks[0]
    attentions.forward = lambda hidden_states, **_: hidden_states
    name = "mid_block.attentions.0.transformer_blocks.0"
    torch.testing.assert_close(run(unet, SkippedLayers((name,))), run(without), rtol=1e-12, atol=1e-12)
    tuples = run(unet, SkippedLayers(("mid_block.attentions.0",)))  # gives a tuple of one
    assert (tuples - run(unet)).abs().max() > 1e-4


def joint(sd3: Any, layers: tuple[str, ...] = ()) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    width = NETWORK["joint_attention_dim"]
    named = {
        "hidden_states": torch.randn(2, 16, 8, 8, generator=generator).double(),
        "encoder_hidden_states": torch.randn(2, 7, width, generator=generator).double(),
        "pooled_projections": torch.randn(2, width, generator=generator).double(),
        "timestep": torch.tensor([500.0, 500.0]).double(),
    }
    with torch.no_grad(), SkippedLayers(layers).applied(sd3) as module:
        return module(**named).sample


@pytest.mark.parametrize("layers", [(0,), (1,), (2,), (0, 2)])
def test_a_skipped_block_of_stable_diffusion_3_is_a_network_without_it(sd3: Any, layers: tuple[int, ...]) -> None:
    without = copy.deepcopy(sd3)
    without.transformer_blocks = nn.ModuleList(
        [block for index, block in enumerate(without.transformer_blocks) if index not in layers]
    )
    got = joint(sd3, tuple(map(str, layers)))
    torch.testing.assert_close(got, joint(without), rtol=1e-12, atol=1e-12)
    assert (got - joint(sd3)).abs().max() > 1e-4


@pytest.mark.newest
def test_diffusers_own_skip_swaps_the_streams_of_stable_diffusion_3(sd3: Any) -> None:
    hooked = copy.deepcopy(sd3)
    apply_layer_skip(hooked, LayerSkipConfig([1], "transformer_blocks"))
    with pytest.raises(RuntimeError):
        joint(hooked)


def test_random_blocks_are_a_share_drawn_at_every_step(unet: Any, sd3: Any) -> None:
    first = "down_blocks.0.attentions.0.transformer_blocks.0"
    every = {
        MID.removesuffix(".attn1"),
        *(f"up_blocks.1.attentions.{i}.transformer_blocks.0" for i in (0, 1)),
    }
    drawn = [RandomBlocks(0.3, 0, index).layers(unet) for index in range(40)]
    assert {len(one) for one in drawn} == {1}
    assert {name for one in drawn for name in one} == every
    assert first not in every
    assert drawn == [RandomBlocks(0.3, 0, index).layers(unet) for index in range(40)]
    assert drawn != [RandomBlocks(0.3, 1, index).layers(unet) for index in range(40)]
    assert set(RandomBlocks(1.0, 0, 0).layers(sd3)) == {"transformer_blocks.1", "transformer_blocks.2"}
    (name,) = RandomBlocks(0.01, 0, 5).layers(unet)
    assert torch.equal(run(unet, RandomBlocks(0.01, 0, 5)), run(unet, SkippedLayers((name,))))
    with pytest.raises(InputError, match="s2: Linear has no two transformer blocks"):
        RandomBlocks(0.1, 0, 0).layers(nn.Linear(1, 1))


# -- another model ---------------------------------------------------------------------------------------------------


def test_another_model_runs_instead(unet: Any) -> None:
    weak = copy.deepcopy(unet)
    with torch.no_grad():
        weak.conv_out.weight.mul_(0.5)
    seen: list[Any] = []

    def make(denoiser: Any) -> Any:
        seen.append(denoiser)
        return weak

    register_weak_model("mine", weak)
    register_weak_model("made", make)
    try:
        assert torch.equal(run(unet, WeakModelPass("mine")), run(weak))
        assert torch.equal(run(unet, WeakModelPass("made")), run(weak))
        assert seen == [unet]
        assert {"made", "mine"} <= set(weak_models())
        with pytest.raises(InputError, match=r"no weak model 'minne': there are .*mine.*; did you mean mine\?"):
            run(unet, WeakModelPass("minne"))
    finally:
        del _WEAK["mine"], _WEAK["made"]
    with pytest.raises(InputError, match=r"weak model 'my model': its name is one word"):
        register_weak_model("my model", weak)


# -- what cannot be reached ------------------------------------------------------------------------------------------


BY_LAYERS: list[Callable[[tuple[str, ...]], Perturbation]] = [
    IdentityAttention,
    BlurredQueries,
    lambda layers: ShuffledTokens(layers, 0, 0),
    lambda layers: SparseAttention("cond", 2.0, "entmax15", layers),
    SkippedLayers,
]
DOWNWARDS = ("9-7", "blocks.1-0", "d1-0", "d0.1-0", "down_blocks.1-0")


@pytest.mark.parametrize(
    ("variation", "said"),
    [
        (IdentityAttention(("12",)), "pag: no self-attention in layer '12' of UNet2DConditionModel; it has mid, down"),
        (IdentityAttention(("down_blocks.1",)), "pag: no self-attention in layer 'down_blocks.1'"),
        (BlurredQueries(("middle",)), "seg: no self-attention in layer 'middle'"),
        (
            SkippedLayers(("7",)),
            "skip_layers: no layer '7' in UNet2DConditionModel that can be left out; it has mid, d0, u0; name",
        ),
        (SkippedLayers(("7",), "autoguidance"), "autoguidance: no layer '7'"),
        (SkippedLayers(("down_blocks.0",)), "'down_blocks.0', a CrossAttnDownBlock2D, changes the shape"),
        *(
            (SkippedLayers((stack,)), f"no layer '{stack}' in UNet2DConditionModel that")
            for stack in ("down_blocks", "")
        ),
        *((by_layers(("0",)), "in layer '0' of UNet2DConditionModel; it has mid") for by_layers in BY_LAYERS[:-1]),
        *((by_layers((layer,)), f"layer '{layer}': ") for by_layers in BY_LAYERS for layer in DOWNWARDS),
        (SkippedLayers(("conv_in",)), "'conv_in', a Conv2d, changes the shape, so it cannot be skipped"),
    ],
)
def test_layers_that_are_not_there_are_said(unet: Any, variation: Perturbation, said: str) -> None:
    plain = run(unet)
    with pytest.raises(InputError) as error:
        run(unet, variation)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert torch.equal(run(unet), plain)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())


def test_attention_shared_with_the_text_is_refused_where_its_tokens_are_not_known() -> None:
    for layer in ("joint_transformer_blocks.0", "single_transformer_blocks.0", "mid"):
        with pytest.raises(InputError, match=r"pag: in AuraFlowTransformer2DModel text and image share one attention"):
            IdentityAttention((layer,)).applied(aura_flow.build().transformer).__enter__()


def test_streams_of_one_shape_cannot_be_told_apart() -> None:
    class Block(nn.Module):
        def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor) -> tuple[Tensor, Tensor]:
            return encoder_hidden_states, hidden_states

    network = nn.Sequential(Block())
    with (
        pytest.raises(InputError, match=r"layer '0', a Block, has two streams of one shape"),
        SkippedLayers(("0",)).applied(nn.ModuleDict({"blocks": network})),
    ):
        network[0](torch.zeros(1, 3, 2), torch.ones(1, 3, 2))


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (lambda x: (x + 1, x + 2), "gives several outputs for one input"),
        (lambda x: {"sample": x}, "gives a dict"),
        (lambda _: (), "changes the shape"),
        (lambda x: (x + 1, x[:, :1]), "changes the shape"),
    ],
)
def test_outputs_that_stand_for_no_input_of_their_own_are_refused(outputs: Any, said: str) -> None:
    class Block(nn.Module):
        def forward(self, hidden_states: Tensor) -> Any:
            return outputs(hidden_states)

    network = nn.ModuleDict({"blocks": nn.Sequential(Block())})
    said = rf"s2: layer 'blocks.0', a Block, {said}, so it cannot be skipped; leave s2 out for this ModuleDict\."
    with pytest.raises(InputError, match=said), SkippedLayers(("blocks.0",), "s2").applied(network):
        network.blocks[0](torch.zeros(1, 3, 2))


def test_fused_projections_are_refused(unet: Any) -> None:
    fused = copy.deepcopy(unet)
    fused.fuse_qkv_projections()
    with pytest.raises(InputError, match=r"pag: the values of this attention \(none\) are not of the shape"):
        run(fused, IdentityAttention(("mid",)))
    with pytest.raises(InputError, match=r"seg: 'mid_block.*attn1.to_q' of UNet2DCond.* is not used where it runs"):
        run(fused, BlurredQueries(("mid",)))
    with pytest.raises(InputError, match=r"pladis: the projections of this attention are fused"):
        run(fused, SparseAttention("cond", 2.0, "entmax15", ("up_blocks",)))


def test_a_layer_that_is_not_run_is_said_and_a_network_that_is_not_run_is_not(unet: Any) -> None:
    unused = copy.deepcopy(unet)
    unused.mid_block.register_module("spare", nn.Identity())
    with pytest.raises(InputError, match=r"skip_layers: 'mid_block.spare' of UNet2DConditionModel is not used"):
        run(unused, SkippedLayers(("mid_block.spare",)))
    with SkippedLayers(("mid_block.spare",)).applied(unused):
        pass


@pytest.mark.parametrize("layer", ["9-7", "blocks.1-0", "d0.1-0", "transformer_blocks"])
def test_a_transformer_without_the_layers_is_refused(sd3: Any, layer: str) -> None:
    for variation in [by_layers((layer,)) for by_layers in (BY_LAYERS if "-" in layer else BY_LAYERS[-1:])]:
        with pytest.raises(InputError, match=f"layer '{layer}'"), variation.applied(sd3):
            pass


def test_a_denoiser_compiled_in_blocks_runs_its_own_forward_under_a_perturbation(
    unet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def compiled(forward: Any, **_: Any) -> Any:
        return lambda *args, **kwargs: (calls.append("compiled"), forward(*args, **kwargs))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    inside = copy.deepcopy(unet)
    compile_in_blocks(inside, rows=2)
    outside = inside.forward
    with IdentityAttention(("mid",)).applied(inside):
        assert inside.forward == inside.uncompiled
        assert type(inside.uncompiled.__self__) is type(unet)
    assert inside.forward is outside
    sample, text = rows()
    with torch.no_grad():
        plain = inside(sample, 500, encoder_hidden_states=text)["sample"]
        torch.testing.assert_close(plain, run(unet), rtol=1e-10, atol=1e-12)
        assert calls == ["compiled"]
        with IdentityAttention(("mid",)).applied(inside) as module:
            got = module(sample, 500, encoder_hidden_states=text).sample
    torch.testing.assert_close(got, run(unet, IdentityAttention(("mid",))), rtol=1e-10, atol=1e-12)
    assert calls == ["compiled"]


@pytest.mark.parametrize("variation", [IdentityAttention(("mid",)), BlurredQueries(("mid",)), SkippedLayers(("mid",))])
def test_a_compiled_denoiser_is_refused(unet: Any, variation: Any) -> None:
    compiled = copy.deepcopy(unet)
    compiled.mid_block.compile(backend="eager")
    for denoiser, name in (
        (compiled, "UNetMidBlock2DCrossAttn"),
        (torch.compile(unet, backend="eager"), "UNet2DConditionModel"),
    ):
        with pytest.raises(InputError, match=rf"on a compiled {name}: it reaches into the network by hooks"):
            variation.applied(denoiser).__enter__()
    assert math.isfinite(float(run(unet).sum()))


@pytest.mark.parametrize("variation", [IdentityAttention(("mid",)), SkippedLayers(("mid",)), BlurredQueries(("mid",))])
def test_what_is_no_network_is_refused(variation: Any) -> None:
    with pytest.raises(InputError, match="on a object: it reaches into the layers of a network, and this has none"):
        variation.applied(object()).__enter__()
