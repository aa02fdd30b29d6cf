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
            "best_of with the guidance '1': candidates are compared by |cond - uncond| in the",
        ),
    ],
)
def test_what_it_cannot_do_is_one_line(pipe: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        generate(pipe, **{"prompt": "a cat", **arguments}, **ARGUMENTS)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
