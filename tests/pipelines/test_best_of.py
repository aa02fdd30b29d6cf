"""generate(best_of=…): the seeds with the largest accumulated difference, from their first steps alone."""

from inspect import signature
from typing import Any

import pytest
import torch

from cfglab.errors import InputError
from cfglab.pipelines import generate, guide
from tests.pipelines.families import case
from tests.pipelines.test_classic import draw

ARGUMENTS: dict[str, Any] = {"num_inference_steps": 4, "output_type": "latent"}


def test_it_keeps_the_seeds_whose_predictions_differ_most_in_the_first_steps(pipe: Any) -> None:
    """The mean of torch.norm(cond - uncond) over the first steps, as WSX20003/CFG-Rejection sorts by it."""
    expected = {}
    for seed in range(3, 8):
        with guide(pipe, 5) as trace:
            draw(pipe, seeds=[seed])
        expected[seed] = sum(float(record.difference[0] or 0) for record in trace.steps[:2]) / 2
    found = generate(pipe, "a cat", 5, best_of=5, count=2, early=2, seed=3, **ARGUMENTS)
    assert found.differences == pytest.approx(expected, rel=1e-4)
    assert list(found.seeds) == sorted(expected, key=lambda seed: -expected[seed])[:2]
    assert found.rows_run == 5 * 2 * 2 + 2 * 4 * 2
    with guide(pipe, 5):
        assert torch.equal(found.images, draw(pipe, ["a cat"] * 2, seeds=found.seeds))


def test_without_best_of_it_is_a_guided_call(pipe: Any) -> None:
    found = generate(pipe, "a cat", "1 | momentum()", seed=1, **ARGUMENTS)
    with guide(pipe, "1 | momentum()"):
        plain = draw(pipe, seeds=[1])
    assert torch.equal(found.images, plain)
    assert (found.seeds, dict(found.differences), found.rows_run) == ((1,), {}, 4)


@pytest.mark.parametrize("negative", ["a dog", ["a dog"], ("a dog",), None])
def test_a_negative_prompt_is_that_of_every_candidate(pipe: Any, negative: Any) -> None:
    found = generate(pipe, "a cat", 5, best_of=3, count=2, early=2, negative_prompt=negative, **ARGUMENTS)
    texts = None if negative is None else ["a dog"] * 2
    with guide(pipe, 5):
        assert torch.equal(found.images, draw(pipe, ["a cat"] * 2, seeds=found.seeds, negative_prompt=texts))


@pytest.mark.parametrize("name", ["StableDiffusionXLPipeline", "ZImagePipeline", "WanPipeline", "AnimateDiffPipeline"])
def test_other_pipelines_take_one_negative_prompt_and_give_what_they_make(name: str) -> None:
    """The second text encoder's prompts too, and the frames of a video."""
    made = case(name).build()
    sizes = {"height": 16, "width": 16, "num_frames": 5, "prompt_2": "a dog", "negative_prompt_2": ["a bird"]}
    taken = signature(type(made).__call__).parameters
    given = {key: value for key, value in sizes.items() if key in taken} | ARGUMENTS
    found = generate(made, "a cat", 5, best_of=2, early=1, negative_prompt="a cow", **given)
    assert len(found.images) == 1
    several = {key: [value] if key.startswith("prompt") else value for key, value in given.items()}
    generator = torch.Generator().manual_seed(found.seeds[0])
    with guide(made, 5):
        plain = made(["a cat"], negative_prompt=["a cow"], generator=[generator], **several)[0]
    assert torch.equal(found.images, plain)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"best_of": 0}, "best_of=0: it is a whole number from 1 to 64; write best_of=1."),
        ({"best_of": 2, "count": 3}, "count=3: it is a whole number from 1 to 2; write count=1."),
        ({"best_of": 2, "early": 0}, "early=0: it is a whole number 1 or more; write early=1."),
        ({"best_of": 2, "seed": -1}, "seed=-1: it is a whole number from 0 to 18446744073709551614; write seed=0."),
        (
            {"best_of": 2, "seed": 2**64 - 1},
            "seed=18446744073709551615: it is a whole number from 0 to 18446744073709551614",
        ),
        ({"prompt": ["a cat", "a dog"]}, "prompt ['a cat', 'a dog']: generate makes images of one prompt, a text;"),
        (
            {"negative_prompt": ["a dog", "a cow"]},
            "generate(negative_prompt=['a dog', 'a cow']): generate makes images of one prompt, so it is one text;",
        ),
        ({"best_of": 2, "negative_prompt": 3}, "generate(negative_prompt=3): generate makes images of one prompt"),
        ({"prompt": None}, "prompt None: generate makes images of one prompt, a text;"),
        ({"best_of": 2, "latents": None}, "generate(latents=…): generate sets it itself"),
        ({"generator": None}, "generate(generator=…): generate sets it itself; leave it out, or call the pipeline."),
        (
            {"best_of": 2, "guidance": 1},
            "best_of with the guidance '1': candidates are compared by |cond - uncond| in the first 5 steps, and at "
            "the first one w is 1, which needs one of the two; give a guidance that starts there.",
        ),
        ({"num_videos_per_prompt": 2}, "generate(num_videos_per_prompt=…): generate sets it itself; leave it out"),
        ({"num_waveforms_per_prompt": 1}, "generate(num_waveforms_per_prompt=…): generate sets it itself;"),
        ({"lyrics": ["la", "lu"]}, "generate(lyrics=['la', 'lu']): generate makes images of one prompt, so it is one"),
        ({"best_of": 4, "guidance": ["5"] * 4}, "4 guidances for the best 1 of 4: candidates are compared under one"),
        ({"best_of": 4, "guidance": [5, 3]}, "2 guidances for the best 1 of 4: candidates are compared under one"),
        ({"guidance": ["5", "3"]}, "2 guidances for 1 images: a list holds one per image; give that many, or a single"),
    ],
)
def test_what_it_cannot_do_is_one_line(pipe: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        generate(pipe, **{"prompt": "a cat", **arguments}, **ARGUMENTS)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("guidance", "reason"),
    [
        ("5 | icg()", "icg takes the place of one of the two; leave icg out, or best_of."),
        ("5 | nag(s=3)", "nag takes the place of one of the two; leave nag out, or best_of."),
        ("5 | cfg_zero_star()", "cfg_zero_star runs neither at the first one; leave cfg_zero_star out, or best_of."),
        (
            "constant(5).inside(steps=(1, 4))",
            "at the first one w is 1, which needs one of the two; give a guidance that",
        ),
        (
            "constant(5).inside(steps=(0, 2))",
            "from step 2 on one of the two is left out; compare by the steps before it",
        ),
        ("5 | adaptive(similarity=0.1)", "on one of the two is left out; compare by the steps before it, early="),
    ],
)
def test_why_candidates_cannot_be_compared(pipe: Any, guidance: str, reason: str) -> None:
    """The advice holds: with the number of early steps that it names, they are compared."""
    with pytest.raises(InputError) as error:
        generate(pipe, "a cat", guidance, best_of=2, early=3, **ARGUMENTS)
    assert reason in str(error.value)
    if named := str(error.value).partition("early=")[2]:
        assert generate(pipe, "a cat", guidance, best_of=2, early=int(named[0]), **ARGUMENTS).differences


def test_a_network_that_reads_the_scale_has_nothing_to_compare() -> None:
    made = case("FluxPipeline-embedded").build()
    with pytest.raises(InputError, match="this pipeline, so called, makes one prediction a step; leave best_of out"):
        generate(made, "a cat", 5, best_of=2, early=1, height=16, width=16, **ARGUMENTS)


@pytest.mark.parametrize("guidance", [["5"], (5,), [5, 3]])
def test_a_list_is_one_guidance_for_each_image(pipe: Any, guidance: Any) -> None:
    found = generate(pipe, "a cat", guidance, best_of=len(guidance), count=len(guidance), **ARGUMENTS)
    with guide(pipe, guidance):
        assert torch.equal(found.images, draw(pipe, ["a cat"] * len(guidance), seeds=found.seeds))


def test_several_guidances_are_refused_before_anything_runs(pipe: Any) -> None:
    def run(*_: Any) -> None:
        raise AssertionError("the network ran")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(pipe.unet), "forward", run)
        with pytest.raises(InputError, match="4 guidances"):
            generate(pipe, "a cat", ["5", "3", "4", "5"], best_of=4, **ARGUMENTS)


def test_lyrics_are_those_of_every_candidate() -> None:
    made = case("AceStepPipeline").build()
    given = {"audio_duration": 0.4, "num_inference_steps": 2, "output_type": "latent", "vocal_language": "en"}
    found = generate(made, "a song", 5, best_of=2, early=1, lyrics="la", **given)
    assert len(found.seeds) == 1
    generator = torch.Generator().manual_seed(found.seeds[0])
    with guide(made, 5):
        plain = made(["a song"], lyrics=["la"], generator=[generator], **given)[0]
    assert torch.equal(found.images, plain)
