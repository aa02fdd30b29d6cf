"""PAG, SEG, TPG, PLADIS, NAG and VSF in ComfyUI's own transformers, against attention written out in the test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ldm.flux.math
import comfy.ldm.lumina.model
import comfy.ldm.modules.diffusionmodules.mmdit
import comfy.ldm.qwen_image.model
import comfy.ldm.wan.model
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy.sampler_helpers import convert_cond
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance.perturbations.shuffled_tokens import ShuffledTokens
from cfglab.guidance.perturbations.sparse_attention import entmax15

from .figures import note
from .models import WIDTH, sample, transformer
from .test_acceptance import CLOSE, difference, guided, rows_counted
from .test_transformers import SHAPES

TEXT, NEGATIVE = 7, 4
GRIDS = {"Wan": (3, 8, 8)}
MODULES: dict[str, tuple[Any, str]] = {
    "Flux": (comfy.ldm.flux.math, "optimized_attention"),
    "Chroma": (comfy.ldm.flux.math, "optimized_attention"),
    "SD3": (comfy.ldm.modules.diffusionmodules.mmdit, "optimized_attention"),
    "SD3.5": (comfy.ldm.modules.diffusionmodules.mmdit, "optimized_attention"),
    "Qwen-Image": (comfy.ldm.qwen_image.model, "optimized_attention_masked"),
    "Lumina 2": (comfy.ldm.lumina.model, "optimized_attention_masked"),
    "Wan": (comfy.ldm.wan.model, "optimized_attention"),
}
PRODUCTS = {"Flux": 4, "Chroma": 4, "SD3": 2, "SD3.5": 3, "Qwen-Image": 2, "Lumina 2": 4, "Wan": 4}
"""How many a call of the network has."""
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def text(seed: int, tokens: int = TEXT) -> list[Any]:
    """CONDITIONING with a pooled text of its own."""
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(1, WIDTH, generator=generator)
    return [[torch.randn(1, tokens, WIDTH, generator=generator), {"pooled_output": pooled}]]


OWN, UNCOND = text(1), text(2)


@contextmanager
def written(name: str, calls: tuple[int, ...], attention: Attention) -> Iterator[list[int]]:
    """ComfyUI's attention, of which the products with these numbers in a call of the network are `attention`."""
    module, function = MODULES[name]
    own, seen = getattr(module, function), list[int]()

    def replaced(q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any) -> Tensor:
        number = len(seen) % PRODUCTS[name]
        seen.append(number)
        if number not in calls:
            return own(q, k, v, heads, *args, **kwargs)
        if not kwargs.get("skip_reshape"):
            q, k, v = (tensor.reshape(len(q), -1, heads, q.shape[2] // heads).transpose(1, 2) for tensor in (q, k, v))
        return attention(q, k, v).transpose(1, 2).flatten(2)

    setattr(module, function, replaced)
    try:
        yield seen
    finally:
        setattr(module, function, own)


def by_weights(weights: Callable[[Tensor, slice, slice], Tensor], name: str) -> Attention:
    """Attention by its weights, which are made of logits, with the places of the image and of the text."""
    tokens = 0 if name == "Wan" else TEXT

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        joint = tokens if k.shape[2] == q.shape[2] else 0
        return weights(logits, slice(joint, None), slice(0, joint or None)) @ v

    return attention


def beside(model: Any, further: Any) -> tuple[Any, Callable[[], Any]]:
    """The model with a guider that prepares a further condition as its own, and a reader of that."""
    guiders: list[Any] = []

    def start(executor: Any, *args: Any, **kwargs: Any) -> Any:
        executor.class_obj.conds["further"] = convert_cond(further)
        guiders.append(executor.class_obj)
        return executor(*args, **kwargs)

    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "further", start)
    return patched, lambda: guiders[-1].conds["further"]


def drawn(name: str, model: Any, cfg: float = 1.0, positive: Any = OWN) -> Tensor:
    return sample(model, cfg, steps=2, shape=SHAPES.get(name, (4, 16, 16)), positive=positive, negative=UNCOND)


def oracle(
    name: str, model: Any, around: Any, s: float | None = None, conds: Callable[[Any], list[Any]] | None = None
) -> Tensor:
    """`g + s (c - c')`, or `u + w (c' - u)` without s, c' run again inside `around`, by a hook behind ComfyUI's CFG."""
    patched = model.clone()

    def perturbed(args: dict[str, Any]) -> Tensor:
        run = [args["cond"]] if conds is None else conds(args["cond"])
        with around():
            other = comfy.samplers.calc_cond_batch(
                args["model"], run, args["input"], args["sigma"], args["model_options"]
            )[0]
        if s is None:
            return args["uncond_denoised"] + 5 * (other - args["uncond_denoised"])
        return args["denoised"] + s * (args["cond_denoised"] - other)

    patched.set_model_sampler_post_cfg_function(perturbed)
    return drawn(name, patched, 5.0)


def compared(name: str, what: str, ours: Tensor, expected: Tensor, plain: Tensor) -> None:
    apart, moved = difference(ours, expected), difference(plain, expected)
    note("b", f"{what}, {name}", apart, f"it moves the sample by {moved:.2g}")
    assert apart < CLOSE < 1e-3 < moved


LAYERS = [
    # network, layers, their products with the image
    ("Flux", "1", (1,)),
    ("Flux", "'single_blocks.0-1'", (2, 3)),
    ("Chroma", "('double.0', 'single.1')", (0, 3)),
    ("SD3", "'joint_blocks.0'", (0,)),
    ("SD3.5", "0", (0, 1)),
    ("Qwen-Image", "1", (1,)),
    ("Lumina 2", "('0', 'noise_refiner.0')", (1, 2)),
    ("Wan", "'blocks.1'", (2,)),
]


def places(image: slice, logits: Tensor) -> slice:
    """The image: all of a sequence that holds no text, as in Lumina's refiner and in the second attention of SD 3.5."""
    return slice(0, None) if logits.shape[2] == 64 else image


@pytest.mark.parametrize(("name", "layers", "calls"), LAYERS)
def test_pag_lets_the_image_see_itself_and_the_text(name: str, layers: str, calls: tuple[int, ...]) -> None:
    model = transformer(name)

    def itself(logits: Tensor, image: slice, _: slice) -> Tensor:
        part = logits[:, :, (where := places(image, logits)), where]
        others = 1 - torch.eye(part.shape[-1])
        logits[:, :, where, where] = part.masked_fill(others.bool(), -float("inf"))
        return logits.softmax(-1)

    expected = oracle(name, model, lambda: written(name, calls, by_weights(itself, name)), 3.0)
    ours = guided(model, f"5 | pag(s=3, layers={layers})")
    compared(name, f"pag in {layers}", drawn(name, ours), expected, drawn(name, model, 5.0))
    assert not any(block._forward_pre_hooks for block in model.model.diffusion_model.modules())


@pytest.mark.parametrize("sigma", [None, 0.5])
@pytest.mark.parametrize(("name", "layers", "calls"), LAYERS)
def test_seg_blurs_the_logits_over_the_image(
    name: str, layers: str, calls: tuple[int, ...], sigma: float | None
) -> None:
    model = transformer(name)

    def blurred(logits: Tensor, image: slice, _: slice) -> Tensor:
        where = places(image, logits)
        own = logits[:, :, where].unflatten(2, GRIDS.get(name, (1, 8, 8))).numpy()
        if sigma is None:
            own = own * 0 + own.mean((3, 4), keepdims=True)
        else:
            for axis in (3, 4):
                own = gaussian_filter1d(own, sigma, axis=axis, mode="mirror", radius=1)
        logits[:, :, where] = torch.from_numpy(own).flatten(2, 4)
        return logits.softmax(-1)

    expected = oracle(name, model, lambda: written(name, calls, by_weights(blurred, name)), 3.0)
    argument = "" if sigma is None else f", sigma={sigma}"
    ours = guided(model, f"5 | seg(s=3, layers={layers}{argument})")
    compared(name, f"seg in {layers}{argument}", drawn(name, ours), expected, drawn(name, model, 5.0))


BLOCKS = [
    ("Flux", "double.1", "double_blocks.1", "img"),
    ("Flux", "single.0", "single_blocks.0", 0),
    ("Chroma", "single.1", "single_blocks.1", 0),
    ("SD3", "1", "joint_blocks.1", 1),
    ("Qwen-Image", "0", "transformer_blocks.0", "hidden_states"),
    ("Lumina 2", "1", "layers.1", 0),
    ("Wan", "0", "blocks.0", 0),
]


@pytest.mark.parametrize(("name", "layer", "block", "argument"), BLOCKS)
def test_tpg_shuffles_the_image_and_leaves_the_text_in_order(
    name: str, layer: str, block: str, argument: int | str
) -> None:
    model, step = transformer(name), iter(range(100))
    module = model.model.diffusion_model.get_submodule(block)
    joint = TEXT if block.partition(".")[0] in ("single_blocks", "layers") else 0

    @contextmanager
    def around() -> Iterator[None]:
        variation = ShuffledTokens((layer,), 0, next(step))

        def shuffled(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = list(args) if isinstance(argument, int) else kwargs
            hidden = given[argument]
            image = hidden[:, joint:]
            given[argument] = torch.cat([hidden[:, :joint], image[:, variation.order(0, image)]], 1)
            return (tuple(given), kwargs) if isinstance(argument, int) else (args, kwargs)

        handle = module.register_forward_pre_hook(shuffled, with_kwargs=True)
        yield
        handle.remove()

    expected = oracle(name, model, around, 3.0)
    ours = drawn(name, guided(model, f"5 | tpg(s=3, layers='{layer}')"))
    compared(name, f"tpg in {layer}", ours, expected, drawn(name, model, 5.0))


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        *[("Flux", (0, 1, 2, 3)), ("Chroma", (0, 1, 2, 3)), ("SD3", (0, 1)), ("Qwen-Image", (0, 1))],
        *[("SD3.5", (0, 2)), ("Lumina 2", (2, 3)), ("Wan", (1, 3))],
    ],
)
def test_pladis_mixes_the_weights_of_the_image_for_the_text(name: str, calls: tuple[int, ...]) -> None:
    model = transformer(name)

    def mixed(logits: Tensor, image: slice, where: slice) -> Tensor:
        weights, own = logits.softmax(-1), logits[:, :, image, where]
        sums = weights[:, :, image, where].sum(-1, keepdim=True)
        weights[:, :, image, where] = sums * (2 * entmax15(own) - own.softmax(-1))
        return weights

    plain = drawn(name, model, 5.0)
    with written(name, calls, by_weights(mixed, name)):
        expected = drawn(name, model, 5.0)
    compared(name, "pladis", drawn(name, guided(model, "5 | pladis()")), expected, plain)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "SD3.5"])
def test_nag_guides_the_image_in_every_product_with_the_text(name: str) -> None:
    model, negative = transformer(name), text(9)
    network = model.model.diffusion_model

    def held(own: Tensor, other: Tensor) -> Tensor:
        flat = [half.transpose(1, 2).flatten(2) for half in (own, other)]
        away = 4 * flat[0] - 3 * flat[1]
        lengths = [each.abs().sum(-1, keepdim=True) for each in (away, flat[0])]
        kept = away * (2 * lengths[1] / lengths[0]).clamp(max=1)
        return (0.25 * kept + 0.75 * flat[0]).unflatten(2, (own.shape[1], -1)).transpose(1, 2)

    def both(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Of rows that ComfyUI puts together as [negative; own]."""
        output = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1) @ v
        where = slice(0 if name == "Wan" else TEXT, None)
        output[:, :, where] = held(output[1:, :, where], output[:1, :, where])
        return output

    @contextmanager
    def around() -> Iterator[None]:
        modulations = [
            module for path, module in network.named_modules() if path.endswith(("img_mod", "x_block.adaLN_modulation"))
        ]
        handles = [m.register_forward_pre_hook(lambda _, args: (args[0][1:].expand_as(args[0]),)) for m in modulations]
        with written(name, (1, 3) if name == "Wan" else (2, 3) if name == "Lumina 2" else (0, 1, 2, 3), both):
            yield
        for handle in handles:
            handle.remove()

    patched, further = beside(model, negative)
    expected = oracle(name, patched, around, None, lambda cond: [cond, further()])
    ours = guided(model, "5 | nag(s=4, tau=2, alpha=0.25, prompt=blurry)", prompts=(negative,))
    with rows_counted(ours) as rows:
        got = drawn(name, ours)
    compared(name, "nag", got, expected, drawn(name, model, 5.0))
    assert sum(rows) == 2 * 2


@pytest.mark.parametrize("name", ["Flux", "Chroma", "Qwen-Image", "Wan"])
@pytest.mark.parametrize("tokens", [4, 9])
def test_nag_with_a_negative_prompt_of_another_length_reads_nothing_that_fills_it_up(name: str, tokens: int) -> None:
    """At s = 0 and alpha = 1 the image reads the negative prompt alone."""
    model = transformer(name)
    negative = [[text(9, tokens)[0][0], OWN[0][1]]]
    ours = guided(model, "1 | nag(s=0, tau=1e9, alpha=1, prompt=blurry)", prompts=(negative,))
    assert difference(drawn(name, ours), drawn(name, model, 1.0, negative)) < CLOSE
    assert difference(drawn(name, model, 1.0), drawn(name, model, 1.0, negative)) > 1e-3


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("SD3.5", "Lumina 2")])
def test_vsf_flips_the_values_of_a_text_behind_the_own_one(name: str) -> None:
    model, negative = transformer(name), text(9, NEGATIVE)
    both = [[torch.cat([OWN[0][0], negative[0][0]], 1), OWN[0][1]]]

    def flipped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        own, other, image = slice(0, TEXT), slice(TEXT, TEXT + NEGATIVE), slice(TEXT + NEGATIVE, None)

        def reading(rows: slice, *parts: tuple[slice, float, float]) -> Tensor:
            weights = torch.cat([logits[:, :, rows, part] - less for part, less, _ in parts], -1).softmax(-1)
            return weights @ torch.cat([factor * v[:, :, part] for part, _, factor in parts], 2)

        if name == "Wan":
            return reading(slice(None), (own, 0, 1), (other, 0.2, -1.7))
        return torch.cat(
            [
                reading(own, (own, 0, 1), (image, 0, 1)),
                reading(other, (other, 0, 1), (image, 0, 1)),
                reading(image, (own, 0, 1), (other, 0.2, -1.7), (image, 0, 1)),
            ],
            2,
        )

    patched, further = beside(model, both)
    calls = (1, 3) if name == "Wan" else (0, 1, 2, 3)
    expected = oracle(name, patched, lambda: written(name, calls, flipped), None, lambda _: [further()])
    given = [[torch.nn.functional.pad(negative[0][0], (0, 0, 0, 5)), negative[0][1]]] if name == "Wan" else negative
    ours = drawn(name, guided(model, "5 | vsf(s=1.7, offset=0.2, prompt=blurry)", prompts=(given,)))
    compared(name, "vsf", ours, expected, drawn(name, model, 5.0))


@pytest.mark.parametrize("name", ["Flux", "Lumina 2"])
def test_a_random_or_a_named_block_is_left_out(name: str) -> None:
    model = transformer(name)
    network, plain = model.model.diffusion_model, drawn(name, model, 5.0)
    stack = "single_blocks" if name == "Flux" else "layers"

    @contextmanager
    def around() -> Iterator[None]:
        whole = getattr(network, stack)
        setattr(network, stack, whole[:1])
        yield
        setattr(network, stack, whole)

    layer = "single.1" if name == "Flux" else "1"
    ours = drawn(name, guided(model, f"5 | skip_layers(s=3, layers='{layer}', start=0, stop=1)"))
    compared(name, f"skip_layers of {layer}", ours, oracle(name, model, around, 3.0), plain)
    assert difference(drawn(name, guided(model, "5 | s2(omega=1)")), plain) > 1e-3


@pytest.mark.parametrize(
    ("name", "guidance", "words"),
    [
        (
            "Flux",
            "5 | pag(layers=7)",
            "pag: no self-attention in layer '7' of Flux; it has 0 to 1, single.0 to single.1",
        ),
        ("SD3", "5 | tpg(layers=mid)", "tpg: no transformer block in layer 'mid' of OpenAISignatureMMDITWrapper"),
        (
            "Lumina 2",
            "5 | pladis(layers='noise_refiner.0')",
            "pladis: no attention to the text in layer 'noise_refiner.0'",
        ),
        ("Qwen-Image", "5 | skip_layers(layers=7, start=0, stop=1)", "skip_layers: no layer 'transformer_blocks.7' in"),
        ("Lumina 2", "1 | vsf(prompt=blurry)", "vsf on a NextDiT: there the image stands at another position"),
        ("Lumina 2", "1 | nag(s=5, prompt=blurry)", "nag on a NextDiT: a prompt of 7 tokens and a negative one of 4"),
    ],
)
def test_what_is_not_there_is_said_in_one_line_and_leaves_no_hook(name: str, guidance: str, words: str) -> None:
    model = transformer(name)
    prompts = (text(9, NEGATIVE),) if "blurry" in guidance else ()
    with pytest.raises(InputError) as caught:
        drawn(name, guided(model, guidance, prompts=prompts))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in model.model.diffusion_model.modules()
    )


def test_a_version_of_comfyui_without_a_hook_in_attention_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    model = transformer("Flux")
    own = comfy.ldm.flux.math.optimized_attention

    def without(*args: Any, transformer_options: Any = None, **kwargs: Any) -> Tensor:  # noqa: ARG001
        return own(*args, **kwargs)

    monkeypatch.setattr(comfy.ldm.flux.math, "optimized_attention", without)
    with pytest.raises(InputError, match=r"the network Flux ran without the layers 1; .*use a newer ComfyUI"):
        drawn("Flux", guided(model, "5 | pag(layers=1)"))
