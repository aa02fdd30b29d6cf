"""Further predictions through guide(): diffusers' PAG pipeline, the twin, and prompts encoded by the pipeline."""

import functools
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPAGPipeline
from torch import Tensor

from cfglab.denoising.trace import Trace
from cfglab.errors import InputError
from cfglab.guidance import register_weak_model
from cfglab.guidance.perturbations.weak_models import _WEAK
from cfglab.pipelines import guide, load
from cfglab.pipelines.interception.prompt_encoding import Encodings
from cfglab.pipelines.loading.weak_twin import twin
from tests.pipelines.families import case

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 2e-3}
"""Latents of size 10 to 100 after a few steps; kernels round differently for another number of rows."""


@functools.cache
def pipe_of(name: str) -> Any:
    """A tiny pipeline of the families."""
    return case(name).build()


def draw(
    pipe: Any, guidance: Any, prompt: str | list[str] | None = "a cat", seeds: Sequence[int] = (0,), **kwargs: Any
) -> tuple[Tensor, Trace]:
    """Final latents (B, channels, 16, 16) and the trace."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    kwargs = {"num_inference_steps": 4, "output_type": "latent", **kwargs}
    with guide(pipe, guidance) as trace:
        return pipe(prompt, generator=generators, **kwargs).images, trace


@pytest.mark.parametrize(("w", "text"), [(5.0, "5 | pag(s=2)"), (1.0, "1 | pag(s=2)")])
def test_pag_is_diffusers_pag_pipeline(pipe: Any, w: float, text: str) -> None:
    theirs = StableDiffusionPAGPipeline(**pipe.components, pag_applied_layers="mid", requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        "a cat",
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(0),
        guidance_scale=w,
        pag_scale=2.0,
        output_type="latent",
    ).images
    got, trace = draw(pipe, text)
    torch.testing.assert_close(got, expected, **CLOSE)
    assert (got - draw(pipe, w)[0]).abs().max() > 0.05
    assert [record.rows_run for record in trace.steps] == [3 if w != 1 else 2] * 4


EVERY = [
    "5 | pag()",
    "5 | seg(sigma=1)",
    "5 | skip_layers(layers=mid, start=0, stop=0.5)",
    "1 | autoguidance(w=2, skip=mid)",
    "5 | s2(omega=1)",
    "5 | icg()",
    "5 | sag()",
    "1 | tsg(w=2, s=1)",
    "5 | cads(tau1=0.2)",
    "5 | nag(s=5, prompt=dog)",
    "1 | nag(s=5)",
    "5 | perp_neg(prompt=dog)",
    "5 | composed(prompt=dog, weight=0.5)",
    "5 | dual_cfg(prompt=dog)",
]
ROWS = {"icg": 2, "cads": 2, "nag": 2, "autoguidance": 2, "tsg": 2, "sag": 4}


@pytest.mark.parametrize("text", EVERY)
def test_a_batch_is_its_images_and_rows_are_counted(pipe: Any, text: str) -> None:
    alone, trace = draw(pipe, text)
    together, _ = draw(pipe, [text, "3", text], ["a dog", "a cat", "a cat"], (3, 0, 0))
    torch.testing.assert_close(together[2:], alone, **CLOSE)
    plain = draw(pipe, text.split(" |")[0])[0]
    assert (alone - plain).abs().max() > 0.05
    kind = text.split("| ")[1].split("(")[0]
    windows = {"skip_layers": [3, 3, 2, 2], "s2": [2, 3, 3, 3]}
    expected = windows[kind] if kind in windows else [ROWS.get(kind, 3) - text.startswith("1 | nag")] * 4
    assert [record.rows_run for record in trace.steps] == expected
    assert torch.equal(draw(pipe, text)[0], alone)


def test_equal_rows_run_once_under_a_further_prompt(pipe: Any) -> None:
    specs = ["5 | perp_neg(prompt=dog)", "3 | perp_neg(prompt=dog)", "5 | perp_neg(prompt=fish)"]
    _, trace = draw(pipe, specs, ["a cat"] * 3, (0, 0, 0))
    assert trace.steps[0].rows_run == 4  # uncond, cond, dog, fish


def test_a_further_prompt_is_what_the_pipeline_makes_of_it(pipe: Any) -> None:
    # c' of the same prompt: composed with weight 1 doubles the scale, with weight -1 leaves the unconditional one
    twice = draw(pipe, "2 | composed(prompt='a cat')")[0]
    torch.testing.assert_close(twice, draw(pipe, "4")[0], **CLOSE)
    torch.testing.assert_close(draw(pipe, "2 | composed(prompt='a cat', weight=-1)")[0], draw(pipe, "0")[0], **CLOSE)
    torch.testing.assert_close(draw(pipe, "5 | dual_cfg(prompt='a cat', middle=2)")[0], draw(pipe, "2")[0], **CLOSE)
    nothing = draw(pipe, "5 | dual_cfg(prompt='', middle=2)")[0]  # m is u
    torch.testing.assert_close(nothing, draw(pipe, "5")[0], **CLOSE)


NOISED = ("cads()", "icg()")
FILLED_UP = {
    "QwenImagePipeline": (*NOISED, "vsf(prompt=b)", "nag(s=5, prompt=b)", "pladis(layers=0)", "perp_neg(prompt=b)"),
    "BriaFiboPipeline": NOISED,
    "LongCatAudioDiTPipeline": NOISED,
    "LuminaPipeline": NOISED,
}
"""Pipelines that fill a text up to the longest of its batch, and tell their network which tokens to read."""


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in FILLED_UP.items() for text in texts])
def test_an_image_is_the_same_beside_one_with_a_longer_prompt(name: str, text: str) -> None:
    made = case(name)
    filled = made.build()

    def run(prompts: Any, negatives: Any, *seeds: int) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with guide(filled, f"4 | {text}"):
            return made.call(filled, 5.0, prompt=prompts, negative=negatives, generator=generators)

    together = run(["a red fox", "b"], ["grey", "grey"], 0, 1)
    torch.testing.assert_close(together[:1], run("a red fox", "grey", 0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[1:], run("b", "grey", 1), rtol=1e-4, atol=1e-5)


def test_a_prompt_is_encoded_once_a_run(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    encode = type(pipe).encode_prompt

    @functools.wraps(encode)
    def counted(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["prompt"] if "prompt" in kwargs else args[1])
        return encode(*args, **kwargs)

    monkeypatch.setattr(type(pipe), "encode_prompt", counted)
    with guide(pipe, "5 | perp_neg(prompt=dog) | composed(prompt=dog)"):
        for _ in range(2):
            pipe("a cat", num_inference_steps=3, output_type="latent")
    assert seen == ["a cat", "dog", "a cat", "dog"]


AS_ITS_OWN = {
    "Flux2KleinPipeline": "text_encoder_out_layers",
    "QwenImageEditPipeline": "image",
    "QwenImageEditPlusPipeline": "image",
    "LongCatImageEditPipeline": "image",
    "BlipDiffusionPipeline": "query_embeds",
}


@pytest.mark.parametrize(("name", "argument"), AS_ITS_OWN.items())
def test_a_prompt_is_encoded_as_the_pipelines_own(name: str, argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = case(name)
    asked = made.build()
    encode, seen = type(asked).encode_prompt, []

    @functools.wraps(encode)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        seen.append(inspect.signature(encode).bind(*args, **kwargs).arguments)
        return encode(*args, **kwargs)

    monkeypatch.setattr(type(asked), "encode_prompt", recorded)
    with guide(asked, "4 | perp_neg(prompt=b)"):
        made.call(asked, 5.0)
    assert seen[-1]["prompt"] == "b"
    assert seen[-1][argument] is seen[0][argument]
    assert seen[0][argument] is not None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("AceStepPipeline", "encode_prompt gives something else than texts"),
        ("Ideogram4Pipeline", "encode_prompt gives something else than texts"),
        ("BriaFiboPipeline", "encode_prompt gives something else than texts"),
        ("JoyImageEditPipeline", "it does not encode its own prompt by its encode_prompt"),
        ("Kandinsky5I2IPipeline", "its own prompt was given as embeddings, and how it reads image for one is not"),
    ],
)
def test_what_cannot_be_encoded_as_the_pipelines_own_is_refused(name: str, reason: str) -> None:
    made = case(name)
    asked = made.build()
    with guide(asked, "4 | perp_neg(prompt=b)"), pytest.raises(InputError, match=f"put into a {name}: {reason}"):
        made.call(asked, 5.0)


def test_embeddings_without_a_text_encoder_leave_no_further_prompt(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own, negative = pipe.encode_prompt("a cat", "cpu", 1, True, "")
    given = {"prompt_embeds": own, "negative_prompt_embeds": negative}
    expected = draw(pipe, "5 | perp_neg(prompt=dog)")[0]
    torch.testing.assert_close(draw(pipe, "5 | perp_neg(prompt=dog)", None, **given)[0], expected, **CLOSE)
    monkeypatch.setattr(pipe, "text_encoder", None)
    draw(pipe, "5", None, **given)
    for text in ("5 | perp_neg(prompt=dog)", "5 | nag(s=5, prompt=dog)", "5 | vsf(prompt=dog)"):
        with pytest.raises(InputError, match=r"'dog' cannot .* its text_encoder is None; keep the text encoders in"):
            draw(pipe, text, None, **given)


def test_what_each_of_several_prompts_has_of_its_own_is_refused() -> None:
    class Pipe:
        _execution_device = "cpu"

        def encode_prompt(self, prompt: Any, lyrics: Any, layers: Any = ()) -> tuple[Tensor, None]:
            assert (prompt, layers) == ("dog", (1, 2))
            return torch.full((1, 7, 4), float(lyrics)), None

    text = {"encoder_hidden_states": torch.zeros(2, 7, 4)}
    shared = Encodings(Pipe(), {"prompt": ["a", "b"]})
    shared.note((["a", "b"],), {"lyrics": "3", "layers": (1, 2)})
    assert shared.insert("dog", text)["encoder_hidden_states"].unique().tolist() == [3]
    apart = Encodings(Pipe(), {"prompt": ["a", "b"]})
    apart.note((["a", "b"], ["3", "4"]), {"layers": (1, 2)})
    with pytest.raises(InputError, match=r"each of its 2 prompts has lyrics of its own; generate them one call each"):
        apart.insert("dog", text)


def test_a_prompt_that_cannot_be_put_in_is_refused() -> None:
    class Pipe:
        _execution_device = "cpu"

        def encode_prompt(self, prompt: str, device: Any) -> tuple[Tensor, Tensor]:  # noqa: ARG002
            return torch.zeros(1, 7, 4), torch.ones(1)

    put = Encodings(Pipe()).insert
    text = torch.zeros(2, 7, 4)
    assert torch.equal(put("dog", {"encoder_hidden_states": text + 1})["encoder_hidden_states"], text)
    with pytest.raises(InputError, match=r"prompt 'dog' cannot be put into a Pipe: its text is no single tensor"):
        put("dog", {"class_labels": text})
    with pytest.raises(InputError, match="its text has encoder_attention_mask"):
        put("dog", {"encoder_hidden_states": text, "encoder_attention_mask": text})
    with pytest.raises(InputError, match=r"it encodes to \(7, 4\), where the rows have \(9, 4\)"):
        put("dog", {"encoder_hidden_states": torch.zeros(2, 9, 4)})
    with pytest.raises(InputError, match="no text_embeds comes of it"):
        put("dog", {"encoder_hidden_states": text, "added_cond_kwargs": {"text_embeds": text[:, 0]}})


def test_an_error_inside_leaves_the_pipeline_as_it_was(pipe: Any) -> None:
    plain = draw(pipe, 3)[0]
    for text in ("3 | pag(layers=7)", "3 | autoguidance(w=2, model=nobody)", "3 | autoguidance(w=2, model=twin)"):
        with pytest.raises(InputError):
            draw(pipe, text)
    assert torch.equal(draw(pipe, 3)[0], plain)


LATER = [
    "skip_layers(layers=77)",
    "skip_layers(layers='9-7')",
    "pag(layers=77, start=0.5)",
    "tpg(layers=nonsense, start=0.9, stop=0.95)",
    "autoguidance(w=2, model=nobody, start=0.5)",
]


@pytest.mark.parametrize("text", LATER)
def test_a_layer_is_looked_for_at_the_first_step_of_a_run_that_does_not_reach_its_window(pipe: Any, text: str) -> None:
    steps: list[int] = []
    with pytest.raises(InputError, match=r"layer|weak model"), guide(pipe, ["3", f"3 | {text}"]):
        pipe(
            ["a cat"] * 2,
            num_inference_steps=3,
            output_type="latent",
            callback_on_step_end=lambda _, index, *__: steps.append(index) or {},
        )
    assert steps == []


# -- text and image as one sequence ----------------------------------------------------------------------------------

ONE_SEQUENCE = [
    *(("Lumina2Pipeline", "0"), ("AuraFlowPipeline", "single.0"), ("Flux2KleinPipeline", "single.0")),
    *(("BriaFiboPipeline", "single.0"), ("Krea2Pipeline", "0"), ("ErnieImagePipeline", "0")),
    *(("Ideogram4Pipeline", "0"), ("OmniGenPipeline", "0")),
    ("BriaFibo2Pipeline", "1"),  # the block is given another text beside the sequence of text and image
]
TWO_STREAMS = [("CogVideoXPipeline", "0"), ("SanaWMPipeline", "0"), ("LattePipeline", "0")]
"""The text is given beside the image, or is read in another block."""


@pytest.mark.parametrize(("name", "layer"), ONE_SEQUENCE)
@pytest.mark.parametrize("kind", ["tpg", "pag", "seg"])
def test_nothing_is_done_to_a_text_that_may_be_taken_for_the_image(name: str, layer: str, kind: str) -> None:
    made = case(name)
    said = "is given no text beside the image" if kind == "tpg" else "share one attention|no self-attention in layer"
    with pytest.raises(InputError, match=said), guide(pipe_of(name), f"3 | {kind}(layers='{layer}')"):
        made.call(pipe_of(name), 5.0, steps=2)


PARTS_THAT_ACT = [
    *(("AmusedPipeline", method, r"it has 0; name one", "0") for method in ("pag", "seg", "tpg", "skip_layers")),
    *(
        (
            "Kandinsky5T2VPipeline",
            method,
            r"it has text_transf.*\.0, visual_t.*\.0; name",
            "visual_transformer_blocks.0",
        )
        for method in ("tpg", "skip_layers")
    ),
    *(("LTX2Pipeline", method, r"it has 0 to 1; name one", "1") for method in ("tpg", "skip_layers")),
    *(("Kandinsky5T2VPipeline", method, r"no layer of this network.*; leave the", None) for method in ("pag", "seg")),
]


@pytest.mark.parametrize(("name", "method", "said", "layer"), PARTS_THAT_ACT)
def test_the_layers_that_a_refusal_names_are_those_with_which_a_method_acts(
    name: str, method: str, said: str, layer: str | None
) -> None:
    made, pipe = case(name), pipe_of(name)
    window = ", start=0, stop=1" if method == "skip_layers" else ""
    with pytest.raises(InputError, match=said), guide(pipe, f"3 | {method}(layers=mid{window})"):
        made.call(pipe, 5.0, steps=2)
    if layer is not None:
        plain = made.call(pipe, 5.0, steps=2)
        with guide(pipe, f"3 | {method}(layers='{layer}'{window})"):
            assert not torch.equal(made.call(pipe, 5.0, steps=2), plain)


@pytest.mark.parametrize(("name", "layer"), TWO_STREAMS)
def test_tpg_takes_the_tokens_beside_a_text_for_the_image(name: str, layer: str) -> None:
    made, pipe = case(name), pipe_of(name)
    with guide(pipe, "3"):
        plain = made.call(pipe, 5.0, steps=2)
    with guide(pipe, f"3 | tpg(layers='{layer}')"):
        assert not torch.equal(made.call(pipe, 5.0, steps=2), plain)


# -- the twin --------------------------------------------------------------------------------------------------------


def test_the_twin_is_the_bundled_models_and_no_others(pipe: Any) -> None:
    with pytest.raises(InputError, match=r"model=twin: .* have a twin, and this UNet2DCond"):
        twin(pipe.unet)


@pytest.fixture(scope="module")
def scenes() -> Any:
    pipe = load("scenes", device="cpu", sampler="ddim")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_autoguidance_with_the_twin_extrapolates_from_it(scenes: Any) -> None:
    weak = twin(scenes.unet)
    assert weak is twin(scenes.unet)
    assert weak.dtype == scenes.unet.dtype
    assert not weak.training
    got, trace = draw(scenes, "1 | autoguidance(w=1.8, model=twin)", "a red apple", num_inference_steps=3)
    assert [record.rows_run for record in trace.steps] == [2] * 3
    scheduler = scenes.scheduler
    with torch.no_grad():
        text, _ = scenes.encode_prompt("a red apple", "cpu", 1, False)
        scheduler.set_timesteps(3)
        x = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            seen = scheduler.scale_model_input(x, t)
            good, bad = (unet(seen, t, encoder_hidden_states=text).sample for unet in (scenes.unet, weak))
            x = scheduler.step(torch.lerp(bad, good, 1.8), t, x).prev_sample
    torch.testing.assert_close(got, x, **CLOSE)


def test_a_weaker_model_of_ones_own(pipe: Any, tiny_v_folder: Path) -> None:
    other = load(tiny_v_folder, device="cpu").unet
    register_weak_model("mine", other)
    try:
        got = draw(pipe, "1 | autoguidance(w=0, model=mine)")[0]  # all of it the weaker one's
    finally:
        del _WEAK["mine"]
    theirs, pipe.unet = pipe.unet, other
    try:
        torch.testing.assert_close(got, draw(pipe, 1)[0], **CLOSE)
    finally:
        pipe.unet = theirs
