"""Further prompts in networks that are told which tokens of the text are read: predictions, images and attention."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance.perturbations.flipped_values import FlippedValues
from cfglab.guidance.perturbations.normalized_attention import NormalizedAttention
from cfglab.pipelines import guide
from cfglab.pipelines.interception.prompt_encoding import Encodings
from tests.pipelines.families import Case, case, parts
from tests.pipelines.families.parts import OMIT

pytestmark = pytest.mark.filterwarnings("ignore:every row is run at every step of this run")

OTHER = "a grey dog, asleep"
"""Another length than that of the cases' own prompt."""

IN_ATTENTION = [
    *("PixArtAlphaPipeline", "PixArtSigmaPipeline", "PixArtSigmaPAGPipeline"),
    *("SanaPipeline", "SanaPAGPipeline", "SanaVideoPipeline", "SanaImageToVideoPipeline", "AllegroPipeline"),
    *("CosmosTextToWorldPipeline", "Cosmos2TextToImagePipeline", "Cosmos2VideoToWorldPipeline"),
    "Cosmos2_5_PredictBasePipeline",
]
"""Pipelines whose network reads the text in cross-attention alone: nag and vsf act there, too."""
NAMES = [
    *IN_ATTENTION,
    *("LuminaPipeline", "Lumina2Pipeline", "Krea2Pipeline", "PRXPipeline", "MochiPipeline"),
    *("HunyuanVideoPipeline", "HunyuanVideoFramepackPipeline"),
    *("HunyuanVideoImageToVideoPipeline", "HunyuanSkyreelsImageToVideoPipeline"),
    *("Kandinsky3Pipeline", "Kandinsky3Img2ImgPipeline"),
    *("LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline"),
]
METHODS = ["perp_neg", "composed", "dng", "snf", "and_salt", "and_topk", "contrastive_cfg", "dual_cfg"]
MODEL = dict.fromkeys(("dng", "snf", "and_salt", "contrastive_cfg"), ", space=model")
"""In their own spaces these say nothing of a flow at pure noise, or where the prediction is not known."""
PACKED = {"Krea2Pipeline", "LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline"}
"""Pipelines whose predictions have no height and width, which snf needs."""
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


@functools.cache
def pipe_of(name: str) -> Any:
    pipe = case(name).build()
    if name == "PRXPipeline":  # its own cleaning needs a further package
        with parts.calm(seed=0):
            pipe.register_modules(text_encoder=parts.t5().eval().requires_grad_(False))
        pipe.text_preprocessor = SimpleNamespace(clean_text=lambda text: text)
    return pipe


def call(name: str, text: str, *, steps: int = 2, **more: Any) -> Tensor:
    """The latents of a run under a guidance."""
    made = case(name)
    if name == "PRXPipeline":
        more = {"prompt": parts.PROMPT, **dict.fromkeys(parts.told(mask="_attention_mask"), OMIT), **more}
    with guide(pipe_of(name), text):
        return made.call(pipe_of(name), made.scales[1], steps=steps, **more)


@contextmanager
def recorded(made: Case) -> Iterator[list[Tensor]]:
    """Every row that the network of a pipeline predicts."""
    rows: list[Tensor] = []

    def add(_: Any, __: Any, output: Any) -> None:
        rows.extend(output if isinstance(output, Tensor) else output[0])

    handle = getattr(pipe_of(made.name), made.denoisers[0]).register_forward_hook(add)
    try:
        yield rows
    finally:
        handle.remove()


@functools.cache
def first_prediction(name: str, prompt: str) -> list[Tensor]:
    """The predictions of the first step of a plain run; the parts of the batch side by side."""
    with recorded(case(name)) as rows:
        call(name, "3", prompt=prompt)
    return rows[: 3 if "PAG" in name else 2]


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for name in NAMES for method in METHODS if method != "snf" or name not in PACKED],
)
def test_the_prediction_for_a_further_prompt_is_that_of_a_run_with_it(name: str, method: str) -> None:
    own, other = first_prediction(name, parts.PROMPT), first_prediction(name, OTHER)
    changed = [row for row, before in zip(other, own, strict=True) if (row - before).abs().max() > 0.02]
    assert changed
    with recorded(case(name)) as rows:
        call(name, f"3 | {method}(prompt='{OTHER}'{MODEL.get(method, '')})")
    first = rows[: 2 * len(own)]  # a pipeline whose rows may be mixed runs all of them for the further prompt
    for row in changed:
        assert min((row - one).abs().max() for one in first) < 1e-4


FOLLOWS_COND = {"LuminaPipeline", "Lumina2Pipeline", "PixArtSigmaPAGPipeline", "SanaPAGPipeline"}
"""Pipelines in which more than `u + w (c - u)` is made of the prompt."""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FOLLOWS_COND])
def test_an_image_of_a_further_prompt_alone_is_that_of_a_run_with_it(name: str) -> None:
    got = call(name, f"0 | dual_cfg(prompt='{OTHER}', middle=3)")  # u + 3 (m - u) + 0 (c - m)
    expected = call(name, "3", prompt=OTHER)
    torch.testing.assert_close(got, expected, **CLOSE)
    assert (got - call(name, "3")).abs().max() > 0.01


SEVERAL = [name for name in IN_ATTENTION[:8] if name != "SanaImageToVideoPipeline"]
"""Pipelines of these that take several prompts and fill them up."""
BESIDE = [
    *((name, text) for name in SEVERAL for text in ("nag(s=5, prompt=b)", "vsf(prompt=b)")),
    *((name, "perp_neg(prompt=b)") for name in (*SEVERAL, "LuminaPipeline", "Lumina2Pipeline", "LTXPipeline")),
]


@pytest.mark.parametrize(("name", "text"), BESIDE)
def test_an_image_is_the_same_beside_one_with_a_longer_prompt(name: str, text: str) -> None:
    def run(prompts: Any, negatives: Any, *seeds: int) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        generator = generators if len(seeds) > 1 else generators[0]
        return call(name, f"3 | {text}", prompt=prompts, negative=negatives, generator=generator)

    together = run(["a red fox", "b"], ["grey", "grey"], 0, 1)
    torch.testing.assert_close(together[:1], run("a red fox", "grey", 0), **CLOSE)
    torch.testing.assert_close(together[1:], run("b", "grey", 1), **CLOSE)


@pytest.mark.parametrize("name", [*IN_ATTENTION, "SanaSprintPipeline"])
def test_nag_and_vsf_change_an_image_and_nag_away_from_its_own_prompt_does_not(name: str) -> None:
    plain = call(name, "3")
    for text in (f"nag(s=5, prompt='{OTHER}')", f"vsf(prompt='{OTHER}')"):
        assert (call(name, f"3 | {text}") - plain).abs().max() > 1e-3
    torch.testing.assert_close(call(name, f"3 | nag(s=5, prompt='{parts.PROMPT}')"), plain, **CLOSE)


# -- attention -------------------------------------------------------------------------------------------------------

S, TAU, ALPHA, OFFSET = 4.0, 1.2, 0.4, 0.3
READ = torch.tensor([[1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0]])
"""Which tokens of the own texts are read; those of the other text: the first 3 of 4."""
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-10}


def outputs(attn: Any, hidden: Tensor, text: Tensor, value: Callable[[Tensor], Tensor], less: Tensor) -> Tensor:
    """Attention of one row to the tokens of a text, each with `less` off its logits."""

    def by_head(states: Tensor, norm: Any = None) -> Tensor:
        of_all = norm is not None and len(norm.weight) == states.shape[1]
        split = (norm(states) if of_all else states).unflatten(1, (attn.heads, -1))
        return (split if of_all or norm is None else norm(split)).transpose(0, 1)

    q, k = by_head(attn.to_q(hidden), attn.norm_q), by_head(attn.to_k(text), attn.norm_k)
    v = by_head(value(attn.to_v(text)))
    weights = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 - less).softmax(-1)
    return (weights @ v).transpose(0, 1).flatten(1)


class ByHand:
    """A processor that reads, row by row, the tokens of two texts that are read, and no other."""

    def __init__(self, kind: str, own: list[Tensor], other: Tensor) -> None:
        self.kind, self.own, self.other = kind, own, other

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        rows = [getattr(self, self.kind)(attn, row, own) for row, own in zip(hidden_states, self.own, strict=True)]
        return attn.to_out[0](torch.stack(rows))

    def nag(self, attn: Any, row: Tensor, own: Tensor) -> Tensor:
        positive, negative = (outputs(attn, row, text, lambda v: v, row.new_zeros(())) for text in (own, self.other))
        away = S * positive - (S - 1) * negative
        ratio = away.abs().sum(-1, keepdim=True) / positive.abs().sum(-1, keepdim=True)
        return ALPHA * away * ratio.clamp(max=TAU) / ratio + (1 - ALPHA) * positive

    def vsf(self, attn: Any, row: Tensor, own: Tensor) -> Tensor:
        factors = torch.cat([row.new_ones(len(own)), row.new_full((len(self.other),), -S)])
        less = torch.cat([row.new_zeros(len(own)), row.new_full((len(self.other),), OFFSET)])
        return outputs(attn, row, torch.cat([own, self.other]), lambda v: factors[:, None] * v, less)


def pixart(network: Any, text: Tensor) -> Tensor:
    return network.caption_projection(text)


def sana(network: Any, text: Tensor) -> Tensor:
    return network.caption_norm(network.caption_projection(text))


@pytest.mark.parametrize("kind", ["nag", "vsf"])
@pytest.mark.parametrize(
    ("name", "projected", "rank"),
    [
        ("PixArtSigmaPipeline", pixart, 3),
        ("SanaPipeline", sana, 3),
        ("SanaVideoPipeline", sana, 3),
        ("AllegroPipeline", pixart, 4),
    ],
)
def test_each_text_is_read_with_its_own_mask(name: str, projected: Any, rank: int, kind: str) -> None:
    network = case(name).build().transformer.double()
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).double()

    channels = network.config.in_channels
    sample = (
        normal(2, channels, 2, 8, 8) if name in ("SanaVideoPipeline", "AllegroPipeline") else normal(2, channels, 8, 8)
    )
    own, other = normal(2, 7, parts.WIDTH), normal(1, 4, parts.WIDTH).expand(2, -1, -1)
    shown = (lambda text: text[:, None]) if rank == 4 else (lambda text: text)
    more: dict[str, Any] = {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}} if "PixArt" in name else {}
    if name == "AllegroPipeline":
        more["image_rotary_emb"] = None
    named = {**more, "encoder_hidden_states": shown(own), "encoder_attention_mask": READ}
    prompted = {
        **more,
        "encoder_hidden_states": shown(other),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 0]]).expand(2, -1),
    }
    variation: Any = NormalizedAttention("x", S, TAU, ALPHA) if kind == "nag" else FlippedValues("x", S, OFFSET)
    time = torch.tensor([500.0, 500.0]).double()
    with torch.no_grad(), variation.applied(network) as module:
        x, t, arguments = variation.inputs(sample, time, {**named, "prompted": prompted})
        got = module(hidden_states=x, timestep=t, return_dict=False, **arguments)[0]
    with torch.no_grad():
        plain = network(hidden_states=sample, timestep=time, return_dict=False, **named)[0]
        texts = [text[used.bool()] for text, used in zip(projected(network, own), READ, strict=True)]
        for module_name, attention in network.named_modules():
            if module_name.endswith("attn2"):
                attention.set_processor(ByHand(kind, texts, projected(network, other)[0, :3]))
        expected = network(hidden_states=sample, timestep=time, return_dict=False, **named)[0]
    torch.testing.assert_close(got, expected, **EXACT)
    assert (got - plain).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["nag", "vsf"])
def test_the_texts_of_cosmos_are_read_without_a_mask(kind: str) -> None:
    network = case("Cosmos2TextToImagePipeline").build().transformer
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, network.config.in_channels, 1, 4, 4), (2, 5, parts.WIDTH), (1, 5, parts.WIDTH))
    sample, own, other = (torch.randn(shape, generator=generator) for shape in shapes)
    more = {"padding_mask": torch.zeros(1, 1, 32, 32)}
    time = torch.tensor([0.5, 0.5])
    named = {**more, "encoder_hidden_states": own}
    prompted = {**more, "encoder_hidden_states": other.expand(2, -1, -1)}
    variation: Any = NormalizedAttention("x", S, TAU, ALPHA) if kind == "nag" else FlippedValues("x", S, OFFSET)
    with torch.no_grad(), variation.applied(network) as module:
        x, t, arguments = variation.inputs(sample, time, {**named, "prompted": prompted})
        got = module(hidden_states=x, timestep=t, return_dict=False, **arguments)[0]
    with torch.no_grad():
        plain = network(hidden_states=sample, timestep=time, return_dict=False, **named)[0]
        for name, attention in network.named_modules():
            if name.endswith("attn2"):
                attention.set_processor(ByHand(kind, list(own), other[0]))
        expected = network(hidden_states=sample, timestep=time, return_dict=False, **named)[0]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert (got - plain).abs().max() > 1e-3


@pytest.mark.parametrize("text", ["composed(prompt=b)", "nag(s=5, prompt=b)", "vsf(prompt=b)"])
def test_of_stable_audio_vsf_alone_takes_a_text_without_the_duration(text: str) -> None:
    lengths: list[tuple[int, ...]] = []
    pipe = pipe_of("StableAudioPipeline")
    projection = pipe.transformer.cross_attention_proj.register_forward_hook(
        lambda _, args, __: lengths.append(tuple(args[0].shape))
    )
    try:
        if text.startswith("vsf"):
            call("StableAudioPipeline", f"3 | {text}")
            own, longer = sorted({shape[1] for shape in lengths})
            texts = [shape for shape in lengths if shape[1] == longer]
            alone = pipe.tokenizer("b").input_ids
            assert longer == own + len(alone)
            assert texts
        else:
            with pytest.raises(InputError, match=r"it encodes to \(64, 32\), where the rows have \(66, 32\)"):
                call("StableAudioPipeline", f"3 | {text}")
    finally:
        projection.remove()


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("HunyuanDiTPipeline", "perp_neg(prompt=b)", "its text has text_embedding_mask"),
        ("AudioLDM2Pipeline", "perp_neg(prompt=b)", "its text has encoder_attention_mask_1"),
        ("QwenImage21Pipeline", "perp_neg(prompt=b)", "its text has img_mask"),
        ("LTX2Pipeline", "perp_neg(prompt=b)", "its text has audio_encoder_attention_mask"),
        ("StableAudio3Pipeline", "perp_neg(prompt=b)", r"it encodes to \(64, 32\), where the rows have \(65, 32\)"),
        ("LuminaPipeline", "nag(s=5, prompt=b)", "LuminaNextDiT2DModel reads a mean of its text beside attention"),
        ("LuminaPipeline", "vsf(prompt=b)", "LuminaNextDiT2DModel reads a mean of its text beside attention"),
        ("Kandinsky3Pipeline", "vsf(prompt=b)", "Kandinsky3UNet reads a mean of its text beside attention"),
        ("WanAnimatePipeline", "vsf(prompt=b)", "of this network reads something beside the text"),
        ("StableDiffusionPipeline-IP-Adapter", "nag(s=5, prompt=b)", "reads something beside the text"),
    ],
)
def test_what_is_no_text_and_its_mask_is_refused(name: str, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        call(name, f"3 | {text}")


def test_the_mask_of_the_prompt_takes_the_place_of_the_rows_own() -> None:
    class Pipe:
        _execution_device = "cpu"

        def encode_prompt(self, prompt: str, device: Any) -> tuple[Tensor, Tensor, None, None]:  # noqa: ARG002
            return torch.ones(1, 4, 8), torch.tensor([[1, 1, 1, 0]]), None, None

    put = Encodings(Pipe()).insert
    for length in (4, 9):
        own = {"encoder_hidden_states": torch.zeros(2, length, 8), "encoder_attention_mask": torch.ones(2, length)}
        got = put("dog", own)
        assert got["encoder_hidden_states"].shape == (2, 4, 8)
        assert got["encoder_attention_mask"].tolist() == [[1, 1, 1, 0]] * 2
        assert got["encoder_attention_mask"].dtype == torch.float32
    with pytest.raises(InputError, match=r"it encodes to \(4, 8\), where the rows have \(9, 8\)"):
        put("dog", {**own, "position_ids": torch.zeros(9, 3)})
    with pytest.raises(InputError, match="something else than a text and its encoder_attention_mask"):
        Encodings(
            SimpleNamespace(encode_prompt=lambda prompt, _: (torch.ones(1, 4, 8), prompt), _execution_device="")
        ).insert("dog", own)
