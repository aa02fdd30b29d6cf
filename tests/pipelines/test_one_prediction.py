"""guide() where the pipeline makes one prediction, as of distilled models: a negative prompt at w = 1, and others."""

from functools import cache
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3PAGPipeline
from torch import Tensor

from cfglab.errors import InputError
from cfglab.pipelines import guide
from cfglab.pipelines.interception.prompt_encoding import Encodings
from cfglab.pipelines.profiles.table import profiles
from tests.pipelines.families import Case, case
from tests.pipelines.families.parts import PROMPT, WIDTH
from tests.pipelines.reference_loop import counted
from tests.pipelines.test_builders import every, shared

CALLS: dict[str, dict[str, Any]] = {
    # name of the case, and what its call is given so that the pipeline makes one prediction
    "StableDiffusion3Pipeline": {},
    "FluxPipeline": {"negative": None},
    "FluxPipeline-embedded": {},
    "QwenImagePipeline": {"negative": None},
    "ChromaPipeline": {},
    "WanPipeline": {},
    "ZImagePipeline": {},
    "StableDiffusionPipeline": {},
}
OFF = {"ZImagePipeline": 0.0}
W = {"FluxPipeline-embedded": 3}
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-4}


@cache
def made(name: str) -> tuple[Case, Any]:
    one = case(name)
    pipe = one.build()
    pipe.set_progress_bar_config(disable=True)
    return one, pipe


def draw(name: str, text: str | None, **arguments: Any) -> tuple[Tensor, Any]:
    """The latents of an untouched call, or of one under `text`, and its trace."""
    one, pipe = made(name)
    scale = W.get(name, OFF.get(name, 1.0))
    arguments = {**CALLS[name], **arguments}
    if text is None:
        return one.call(pipe, scale, **arguments), None
    with guide(pipe, text) as trace:
        return one.call(pipe, scale, **arguments), trace


@pytest.mark.parametrize("name", CALLS)
def test_a_negative_prompt_acts_at_w_1_in_one_row_a_step(name: str) -> None:
    w, plain = W.get(name, 1), draw(name, None)[0]
    got, trace = draw(name, f"{w} | nag(s=5, prompt='a grey dog')")
    other, _ = draw(name, f"{w} | nag(s=5, prompt=snow)")
    assert (got - plain).abs().max() > 1e-3
    assert (got - other).abs().max() > 1e-3
    for text in ("nag(s=1, prompt=snow)", f"nag(s=5, prompt='{PROMPT}')"):
        torch.testing.assert_close(draw(name, f"{w} | {text}")[0], plain, **CLOSE)
    assert [(record.rows_run, record.rows_varied, record.w) for record in trace.steps] == [(1, 1, (w,))] * 3
    assert torch.equal(draw(name, None)[0], plain)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "ZImagePipeline"])
def test_flipped_values_act_at_w_1_in_one_row_a_step(name: str) -> None:
    w, plain = W.get(name, 1), draw(name, None)[0]
    got, trace = draw(name, f"{w} | vsf(prompt=snow)")
    assert (got - plain).abs().max() > 1e-3
    assert (got - draw(name, f"{w} | vsf(prompt='a grey dog')")[0]).abs().max() > 1e-4
    far = draw(name, f"{w} | vsf(prompt=snow, offset=1000)")[0]  # nothing of it is read
    torch.testing.assert_close(far, plain, **CLOSE)
    assert [(record.rows_run, record.rows_varied, record.w) for record in trace.steps] == [(1, 1, (w,))] * 3


def test_a_prompt_without_padding_has_the_tokens_that_it_needs() -> None:
    sd3, wan = made("StableDiffusion3Pipeline")[1], made("WanPipeline")[1]
    text = torch.zeros(1, 5, 64)
    own = {"encoder_hidden_states": text, "pooled_projections": torch.zeros(1, 64)}
    tokenizers = (sd3.tokenizer, sd3.tokenizer_2, sd3.tokenizer_3)
    encoded = Encodings(sd3, {"max_sequence_length": 24}).insert("snow", own, False)["encoder_hidden_states"]
    counts = [len(tokenizer("snow").input_ids) for tokenizer in (sd3.tokenizer, sd3.tokenizer_3)]
    assert encoded.shape == (1, sum(counts), 64)
    assert (sd3.tokenizer, sd3.tokenizer_2, sd3.tokenizer_3) == tokenizers
    video = Encodings(wan, {}).insert("snow", {"encoder_hidden_states": text[..., :32]}, False)["encoder_hidden_states"]
    assert video.shape == (1, len(wan.tokenizer("snow").input_ids), 32)
    whole = Encodings(wan, {"max_sequence_length": 512}).insert(
        "snow", {"encoder_hidden_states": torch.zeros(1, 512, 32)}
    )
    torch.testing.assert_close(whole["encoder_hidden_states"][:, : video.shape[1]], video)


def test_another_prompt_brings_its_mask_to_chroma_and_the_image_is_read() -> None:
    pipe = made("ChromaPipeline")[1]
    own = {"encoder_hidden_states": torch.zeros(2, 24, WIDTH), "img_ids": torch.zeros(6, 3)}
    own["attention_mask"] = torch.cat([torch.zeros(2, 24), torch.full((2, 6), 2.0)], 1)
    tokens = len(pipe.tokenizer("snow").input_ids)
    got = Encodings(pipe, {"max_sequence_length": 24}).insert("snow", own)
    text = [1.0] * (tokens + 1) + [0.0] * (23 - tokens)  # the first of those that fill it up is read
    assert got["attention_mask"].tolist() == [text + [2.0] * 6] * 2
    short = Encodings(pipe, {"max_sequence_length": 24}).insert("snow", own, False)
    assert short["encoder_hidden_states"].shape == (2, tokens, WIDTH)
    assert short["attention_mask"].tolist() == [[1.0] * tokens + [2.0] * 6] * 2


@pytest.mark.parametrize("name", ["ZImagePipeline", "FluxPipeline-embedded", "QwenImagePipeline"])
def test_a_batch_is_its_images_and_each_has_its_own_guidance(name: str) -> None:
    w = W.get(name, 1)
    texts = [f"{w} | nag(s=5, prompt=snow)", f"{w} | nag(s=3, prompt='a grey dog')"]
    one, pipe = made(name)
    scale = W.get(name, OFF.get(name, 1.0))
    with guide(pipe, texts):
        together = one.call(pipe, scale, images=2, **CALLS[name])
    with guide(pipe, texts[0]):
        same = one.call(pipe, scale, images=2, **CALLS[name])
    torch.testing.assert_close(together[:1], same[:1], **CLOSE)
    assert (together[1:] - same[1:]).abs().max() > 1e-4


@pytest.mark.parametrize(
    "text", ["1 | pag(layers=0)", "1 | skip_layers(layers=1, start=0, stop=1)", "1 | tpg(layers=1)"]
)
def test_a_perturbed_pass_is_one_more_row(text: str) -> None:
    plain = draw("StableDiffusion3Pipeline", None)[0]
    got, trace = draw("StableDiffusion3Pipeline", text)
    assert (got - plain).abs().max() > 1e-3
    assert [(record.rows_run, record.rows_saved, record.rows_varied) for record in trace.steps] == [(2, 0, 1)] * 3


@pytest.mark.parametrize("w", [1.0, 5.0])
def test_pag_is_diffusers_pag_pipeline_for_stable_diffusion_3(w: float) -> None:
    one, pipe = made("StableDiffusion3Pipeline")
    parts = {name: part for name, part in pipe.components.items() if name not in ("image_encoder", "feature_extractor")}
    theirs = StableDiffusion3PAGPipeline(**parts, pag_applied_layers=["blocks.1"])
    theirs.set_progress_bar_config(disable=True)
    processors = pipe.transformer.attn_processors
    try:
        expected = one.call(theirs, w, pag_scale=2.0)
    finally:
        pipe.transformer.set_attn_processor(processors)
    with guide(pipe, f"{w:g} | pag(s=2, layers='blocks.1')"):
        got = one.call(pipe, w)
    torch.testing.assert_close(got, expected, **CLOSE)
    assert (got - one.call(pipe, w)).abs().max() > 1e-2


@pytest.mark.filterwarnings("ignore:every row is run at every step of this run")
@pytest.mark.parametrize("one", every("batched", "lists", "two calls"))
def test_w_1_alone_is_the_untouched_pipeline(one: Case) -> None:
    if one.off is None:
        pytest.skip("guidance is never off")
    pipe = shared(one)
    arguments = {"negative": None} if profiles()[one.cls].negatives else {}
    plain = one.call(pipe, one.off, **arguments)
    with guide(pipe, 1) as trace, counted(pipe, one.denoisers) as rows:
        got = one.call(pipe, one.off, **arguments)
    assert torch.equal(got, plain)
    assert {w for record in trace.steps for w in record.w} == {1}
    assert (trace.rows_run, {record.rows_varied for record in trace.steps}) == (sum(rows), {0})


def test_w_1_alone_is_an_embedded_pipeline_whose_network_reads_no_scale() -> None:
    one = case("FluxControlPipeline-embedded")
    pipe = one.build()
    pipe.transformer = type(pipe.transformer).from_config({**pipe.transformer.config, "guidance_embeds": False})
    plain = one.call(pipe, 1.0)
    with guide(pipe, 1):
        assert torch.equal(one.call(pipe, 1.0), plain)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in W])
def test_w_1_alone_stands_beside_a_method_in_one_batch(name: str) -> None:
    one, pipe = made(name)
    text, off = "1 | nag(s=5, prompt=snow)", OFF.get(name, 1.0)
    plain = one.call(pipe, off, images=2, **CALLS[name])
    with guide(pipe, text):
        guided = one.call(pipe, off, images=2, **CALLS[name])
    with guide(pipe, ["1", text]) as trace:
        both = one.call(pipe, off, images=2, **CALLS[name])
    torch.testing.assert_close(both, torch.cat([plain[:1], guided[1:]]), **CLOSE)
    assert (plain[1:] - guided[1:]).abs().max() > 1e-3
    assert [(record.rows_run, record.rows_varied, record.w) for record in trace.steps] == [(2, 1, (1, 1))] * 3


def test_what_reads_two_predictions_is_refused() -> None:
    off = r"guidance_scale=1.0 inside guide\(\): so called"
    for name, text, words in (
        ("StableDiffusion3Pipeline", "1 | apg()", off),
        ("StableDiffusion3Pipeline", "2 | nag(s=5)", off),
        ("StableDiffusion3Pipeline", "2", off),
        ("StableDiffusion3Pipeline", "0", off),
        ("StableDiffusion3Pipeline", "constant(2).inside(progress=(0.5, 1))", off),
        ("FluxPipeline-embedded", "3 | apg()", "there is one prediction, and what acts on cond - uncond has nothing"),
    ):
        with pytest.raises(InputError, match=words):
            draw(name, text)
    one, pipe = made("StableDiffusion3Pipeline")
    with pytest.raises(InputError, match=off), guide(pipe, ["1", "2"]):
        one.call(pipe, 1.0, images=2)
