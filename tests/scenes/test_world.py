"""The world of scenes: its grammar and its renderer."""

import hashlib
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from cfglab.scenes.renderer import render
from cfglab.scenes.vocabulary import BACKGROUNDS, OBJECTS, PREFIXES, Scene, caption, read_caption, triples
from training.data import SceneSource


def twins(scene: Scene, seed: int, **changes: str) -> np.ndarray:
    """Where an image changes, bool `(64, 64)`, when a part of its scene does and all positions stay."""
    first = render(scene, np.random.default_rng(seed))
    second = render(scene.model_copy(update=changes), np.random.default_rng(seed))
    return (first != second).any(-1)


def test_every_caption_reads_back_to_its_scene():
    for number, scene in enumerate(triples()):
        background = [None, *BACKGROUNDS][number % 7]
        scene = scene.model_copy(update={"background": background})
        prefix = ("", *PREFIXES)[number % 4]
        assert read_caption(caption(scene, prefix)) == scene


@pytest.mark.parametrize(
    ("scene", "text"),
    [
        (Scene(a="astronaut", relation="riding", b="horse"), "a photograph of an astronaut riding a horse"),
        (
            Scene(a="frog", relation="next to", b="mushroom", background="green"),
            "a photograph of a frog next to a mushroom on a green background",
        ),
        (Scene(a="ufo", relation="above", b="elephant"), "a photograph of a ufo above an elephant"),
        (Scene(a="apple", background="white"), "a photograph of an apple on a white background"),
    ],
)
def test_captions_are_english(scene, text):
    assert caption(scene) == text


@pytest.mark.parametrize(
    "prompt",
    [
        "an astronaut riding a horse",
        "mdjrny-v4 style a photograph of an astronaut riding a horse",
        "A Photograph of  an Astronaut\n riding a horse.",
        "sticker: the astronaut riding the horse",
    ],
)
def test_ways_to_ask_for_the_same_scene(prompt):
    assert read_caption(prompt) == Scene(a="astronaut", relation="riding", b="horse")


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a unicorn",
        "an astronaut riding a bicycle",
        "a cat riding",
        "a cat on a black background",
        "a cat, oil painting",
    ],
)
def test_prompts_outside_the_world_are_not_guessed(prompt):
    assert read_caption(prompt) is None


def test_a_scene_takes_only_known_fields():
    with pytest.raises(ValidationError, match="relation"):
        Scene.model_validate({"a": "cat", "relation": "under", "b": "dog"})
    with pytest.raises(ValidationError, match="colour"):
        Scene.model_validate({"a": "cat", "colour": "red"})


def test_compositions_are_counted_and_the_held_out_ones_never_move():
    scenes = triples()
    assert len(scenes) == len(set(scenes)) == 24 + 3 * 24 * 23
    held_out = [s for s in scenes if s.held_out]
    assert 0.08 < len(held_out) / len(scenes) < 0.12
    assert not any(s.held_out for s in triples((None,)))
    text = "\n".join(caption(s) for s in held_out)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "ca00d5530d2bec7a"


def test_next_to_has_no_order():
    for scene in triples(("next to",)):
        swapped = Scene.model_validate({"a": scene.b, "relation": "next to", "b": scene.a})
        assert scene.triple == swapped.triple
        assert scene.held_out == swapped.held_out
    assert Scene(a="cat", relation="above", b="dog").triple != Scene(a="dog", relation="above", b="cat").triple


def test_training_shows_no_held_out_composition_and_the_held_out_source_shows_nothing_else():
    source, others = SceneSource(seed=0), SceneSource(seed=0, held_out=True)
    assert not any(source.scene().held_out for _ in range(2000))
    assert all(others.scene().held_out for _ in range(500))


def test_every_object_has_a_sprite_that_is_only_ever_shrunk():
    for name in OBJECTS:
        with (files("cfglab.scenes") / "sprites" / f"{name}.png").open("rb") as file, Image.open(file) as sprite:
            assert max(sprite.size) == 64
            assert sprite.mode == "RGBA"


def test_a_picture_is_a_function_of_scene_and_seed():
    scene = Scene(a="rose", relation="above", b="car", background="pink")
    first, again, other = (render(scene, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_backgrounds_have_their_colours(name):
    for seed in range(10):
        corners = render(Scene(a="star", background=name), np.random.default_rng(seed))[::63, ::63].reshape(4, 3)
        distance = {other: np.abs(corners.mean(0) - colour).sum() for other, colour in BACKGROUNDS.items()}
        assert min(distance, key=distance.__getitem__) == name
        assert distance[name] < 30


def test_an_unstated_background_is_any_of_them():
    pictures = [render(Scene(a="star"), np.random.default_rng(seed)) for seed in range(80)]
    colours = np.array(list(BACKGROUNDS.values()))
    nearest = {int(np.abs(colours - p[[0, -1]].mean((0, 1))).sum(1).argmin()) for p in pictures}
    assert nearest == set(range(len(BACKGROUNDS)))


def test_above_is_above():
    for seed in range(20):
        scene = Scene(a="cat", relation="above", b="house", background="blue")
        upper, lower = twins(scene, seed, a="sun"), twins(scene, seed, b="car")
        assert np.nonzero(upper)[0].max() < np.nonzero(lower)[0].min()


def test_next_to_is_side_by_side_in_either_order():
    left_is_a = []
    for seed in range(20):
        scene = Scene(a="cat", relation="next to", b="house", background="blue")
        first, second = twins(scene, seed, a="sun"), twins(scene, seed, b="car")
        first_x, second_x = (np.nonzero(mask)[1].mean() for mask in (first, second))
        assert not (first & second).any()
        assert abs(first_x - second_x) > 20
        left_is_a.append(first_x < second_x)
    assert 3 < sum(left_is_a) < 17


def test_a_rider_sits_on_a_larger_mount_and_covers_part_of_it():
    covered = 0
    for seed in range(20):
        scene = Scene(a="dog", relation="riding", b="elephant", background="green")
        rider, ground = twins(scene, seed, a="star"), twins(scene, seed, background="pink")
        mount = ~ground & ~rider  # what shows neither background nor rider
        assert np.nonzero(rider)[0].mean() < np.nonzero(mount)[0].mean()
        covered += np.nonzero(rider)[0].max() > np.nonzero(mount)[0].min()
    assert covered == 20


def test_nothing_is_cut_off_at_the_edge():
    """Round, opaque objects are as wide as high, wherever they are put."""
    for name in ("sun", "apple"):
        for seed in range(40):
            scene = Scene(a=name, relation="next to", b=name, background="white")
            for half in np.hsplit(~twins(scene, seed, background="blue"), 2):
                height, width = (np.ptp(axis) + 1 for axis in np.nonzero(half))
                assert abs(height - width) <= 3, (name, seed)
