"""LTX-2: video and sound of one network, each with a scale, and the terms that the pipeline adds itself."""

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import register_weak_model
from cfglab.pipelines import guide
from tests.pipelines.families import case, ltx2
from tests.pipelines.results import ROUNDS
from tests.pipelines.test_switches import set_at

VIDEO = 4 * 3 * 4 * 4
"""The numbers of the video; those of the sound follow."""
call = ltx2.both()
"""With the scales and the further passes that the pipeline has by default."""


@cache
def pipe() -> Any:
    return ltx2.text()


def near(guided: Tensor, untouched: Tensor) -> bool:
    """Both parts, each against its own size."""
    parts = [(tensor[:, :VIDEO], tensor[:, VIDEO:]) for tensor in (guided, untouched)]
    shares = [float((one - other).norm() / other.norm()) for one, other in zip(*parts, strict=True)]
    return bool(shares == pytest.approx([0, 0], abs=ROUNDS))


@pytest.mark.parametrize(
    ("guidance", "untouched"),
    [
        ("3", {}),  # the sound keeps the scale of the call
        ("3 | audio_guidance(w=7)", {}),
        ("3 | audio_guidance(w=7) | modality_guidance()", {}),
        ("3 | audio_guidance(w=2)", {"audio_guidance_scale": 2.0}),
        ("3 | modality_guidance(s=2, audio=4)", {"modality_scale": 2.0, "audio_modality_scale": 4.0}),
        ("1 | audio_guidance(w=1)", {"guidance_scale": 1.0, "audio_guidance_scale": 1.0}),
        ("5 | audio_guidance(w=1) | modality_guidance(s=1, audio=1)", {
            "guidance_scale": 5.0, "audio_guidance_scale": 1.0, "modality_scale": 1.0, "audio_modality_scale": 1.0,
        }),
    ],
)  # fmt: skip
def test_the_scales_are_those_of_the_untouched_pipeline(guidance: str, untouched: dict[str, Any]) -> None:
    plain = call(pipe(), untouched.get("guidance_scale", 3.0), **untouched)
    decided = {"guidance_scale": 9.0}
    decided |= {"audio_guidance_scale": 9.0} if "audio_guidance" in guidance else {}
    decided |= {"modality_scale": 9.0, "audio_modality_scale": 9.0} if "modality" in guidance else {}
    with guide(pipe(), guidance):
        guided = call(pipe(), 9.0, **decided)
    assert near(guided, plain)
    others = (call(pipe(), 3.0), call(pipe(), 5.0))
    assert sum(near(guided, other) for other in others) == (guidance.startswith("3") and not untouched)


def test_a_skipped_block_gives_video_and_sound_what_it_was_given() -> None:
    class Through(torch.nn.Module):
        def forward(self, hidden_states: Tensor, audio_hidden_states: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
            return hidden_states, audio_hidden_states

    with guide(pipe(), "1 | audio_guidance(w=1) | autoguidance(w=2, skip=1)"):
        got = call(pipe(), 9.0, steps=1)
    weak = copy.deepcopy(pipe().transformer)
    weak.transformer_blocks[1] = Through()
    register_weak_model("shorter_ltx2", weak)
    with guide(pipe(), "1 | audio_guidance(w=1) | autoguidance(w=2, model=shorter_ltx2)", share_rows=True):
        expected = call(pipe(), 9.0, steps=1)
    assert near(got, expected)
    with guide(pipe(), "1 | audio_guidance(w=1)"):
        assert not near(got, call(pipe(), 9.0, steps=1))


def test_every_pass_is_counted_and_rows_that_nobody_reads_are_left_out() -> None:
    with guide(pipe(), "table([3, 1, 3]) | audio_guidance(w='table([7, 7, 1])') | modality_guidance()") as trace:
        call(pipe(), 9.0)
    assert [record.rows_run for record in trace.steps] == [4, 4, 4]  # both, apart, and the pipeline's own blocks
    assert [record.rows_varied for record in trace.steps] == [2, 2, 2]
    with guide(pipe(), "table([3, 1, 3]) | audio_guidance(w='table([7, 1, 1])')") as trace:
        call(pipe(), 9.0, stg_scale=0.0, audio_stg_scale=0.0, modality_scale=1.0, audio_modality_scale=1.0)
    assert [record.rows_run for record in trace.steps] == [2, 1, 2]
    assert [record.rows_saved for record in trace.steps] == [0, 1, 0]
    assert [record.shares for record in trace.steps] == [((2, 0),), ((1, 1),), ((2, 0),)]


def test_every_scale_follows_a_schedule() -> None:
    scales = ("_guidance_scale", "_audio_guidance_scale", "_modality_scale", "_audio_modality_scale")

    def change(pipe: Any, index: int, _time: Any, values: Any) -> Any:
        for name, value in zip(scales, ((5.0, 2.0, 2.0, 4.0), (2.0, 6.0, 4.0, 1.5), (0,) * 4)[index], strict=True):
            setattr(pipe, name, value)
        return values

    plain = call(pipe(), 3.0, callback=change)
    text = (
        "table([3, 5, 2]) | audio_guidance(w='table([7, 2, 6])')"
        " | modality_guidance(s='table([3, 2, 4])', audio='table([3, 4, 1.5])')"
    )
    with guide(pipe(), text):
        assert near(call(pipe(), 9.0), plain)


def test_images_of_a_batch_have_guidances_of_their_own() -> None:
    specs = ["3 | audio_guidance(w=5, strength=0.5)", "2 | modality_guidance(s=2, audio=4) | apg()"]
    with guide(pipe(), specs):
        together = call(pipe(), 9.0, images=2)
    alone = []
    for spec in specs:
        with guide(pipe(), spec):
            alone.append(call(pipe(), 9.0, images=2))
    assert near(together[:1], alone[0][:1])
    assert near(together[1:], alone[1][1:])
    half = call(pipe(), 3.0, images=2, audio_guidance_scale=6.0)  # half of the way from 7 to 5
    assert near(together[:1], half[:1])


def test_methods_act_on_each_of_both_in_numbers_of_its_own() -> None:
    """In one step video and sound do not mix: neither depends on the other's scale."""

    def first_step(w: float, sound: float) -> tuple[Tensor, ...]:
        with guide(pipe(), f"{w} | update_norm(space=model) | audio_guidance(w={sound})"):
            made = call(pipe(), 9.0, steps=1, guidance_rescale=0.0, audio_guidance_rescale=0.0)
        return made.split([VIDEO, made.shape[1] - VIDEO], dim=1)

    video, sound = first_step(3, 7)
    assert torch.equal(first_step(3, 2)[0], video)
    assert torch.equal(first_step(9, 7)[1], sound)
    assert not torch.allclose(first_step(9, 7)[0], video)
    assert not torch.allclose(first_step(3, 2)[1], sound)


class Half:
    """A guidance of a program's own."""

    def start(self, _prediction: Any) -> "Half":
        return self

    def combine(self, uncond: Tensor, cond: Tensor, _step: Any, _latents: Tensor) -> Tensor:
        return uncond + 3 * (cond - uncond)


def test_an_object_guides_the_video_and_the_call_the_sound() -> None:
    with guide(pipe(), Half()):
        assert near(call(pipe(), 9.0), call(pipe(), 3.0))


@pytest.mark.parametrize(
    ("name", "guidance", "words"),
    [
        ("StableDiffusionPipeline", "3 | audio_guidance()", "guides no sound beside a video"),
        ("WanPipeline", "3 | audio_guidance()", "guides no sound beside a video"),
        ("LTX2HDRPipeline", "3 | audio_guidance()", "guides no sound beside a video"),
        ("LTXPipeline", "3 | modality_guidance()", "called without 'isolate_modalities'"),
    ],
)
def test_a_pipeline_without_sound_refuses_them(name: str, guidance: str, words: str) -> None:
    made = case(name)
    other = made.build()
    with pytest.raises(InputError, match=words) as caught, guide(other, guidance):
        made.call(other, 5.0)
    assert "\n" not in str(caught.value)


def test_embeddings_without_negative_ones_are_refused() -> None:
    """As distilled models are called: the untouched pipeline runs with its scales at 1."""
    embeddings = {"prompt": None, "prompt_embeds": torch.zeros(1, 4, 8), "guidance_scale": 1.0}
    with guide(pipe(), "1"), pytest.raises(InputError, match=r"without negative_prompt_embeds .* outside"):
        pipe()(**embeddings)


@pytest.mark.parametrize(
    ("name", "instead"),
    [("_audio_guidance_scale", r"audio_guidance\(w="), ("_modality_scale", r"modality_guidance\(s=")],
)
def test_a_callback_cannot_change_a_scale_that_the_guidance_decides(name: str, instead: str) -> None:
    with guide(pipe(), "3"), pytest.raises(InputError, match=f"{name} of LTX2Pipeline .* {instead}"):
        call(pipe(), 9.0, callback=set_at(name, 4.0))
