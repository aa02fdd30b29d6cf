"""The world of scenes: its grammar, its held-out rule and its renderer."""

import hashlib
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cfglab.errors import InputError
from cfglab.scenes import png, renderer
from cfglab.scenes.vocabulary import (
    BACKGROUNDS,
    COLOURED,
    OBJECTS,
    PREFIXES,
    RELATIONS,
    SIZE,
    Scene,
    caption,
    read_caption,
    triples,
)
from training.source import STYLES, SceneSource


@st.composite
def scenes(pick: st.DrawFn) -> Scene:
    """Any scene of the world, with any of its optional parts unstated."""
    a, b = pick(st.lists(st.sampled_from(OBJECTS), min_size=2, max_size=2, unique=True))
    colour_a, colour_b = (pick(st.sampled_from((None, *COLOURED.get(name, ())))) for name in (a, b))
    background = pick(st.sampled_from((None, *BACKGROUNDS)))
    relation = pick(st.sampled_from((None, *RELATIONS)))
    if relation is None:
        return Scene(a, background=background, count=pick(st.sampled_from((1, 2, 3))), colour_a=colour_a)
    return Scene(a, relation, b, background, colour_a=colour_a, colour_b=colour_b)


@given(scenes(), st.sampled_from(("", *PREFIXES, *STYLES)))
def test_every_caption_reads_back_to_its_scene(scene, prefix):
    assert read_caption(caption(scene, prefix)) == scene
    assert read_caption(f"  {caption(scene, prefix).upper()}. ") == scene


@pytest.mark.parametrize(
    ("text", "scene"),
    [
        ("a photograph of an astronaut riding a horse", Scene("astronaut", "riding", "horse")),
        ("a frog next to a mushroom on a green background", Scene("frog", "next to", "mushroom", "green")),
        (
            "a red car next to a blue balloon",
            Scene("car", "next to", "balloon", colour_a="red", colour_b="blue"),
        ),
        ("an image of three butterflies on a grey background", Scene("butterfly", background="grey", count=3)),
        ("two yellow fish", Scene("fish", count=2, colour_a="yellow")),
        ("an orange next to a horse", Scene("horse")),
        ("a purple horse", None),
        ("three horse", None),
        ("a horse", Scene("horse")),
        ("seahorse", None),
        ("two cats next to a dog", Scene("dog")),
    ],
)
def test_prompts_are_read_as_a_person_reads_them(text, scene):
    assert read_caption(text) == scene


def test_an_astronaut_riding_a_horse_is_never_shown():
    assert Scene("astronaut", "riding", "horse").held_out
    assert Scene("astronaut", "riding", "horse", "blue").held_out
    assert not Scene("astronaut").held_out


def test_one_in_ten_pairs_is_held_out_by_the_first_byte_of_a_digest():
    pairs = triples(RELATIONS)
    share = sum(scene.held_out for scene in pairs) / len(pairs)
    assert 0.08 < share < 0.13
    key = "red car|yellow apple"
    scene = Scene("apple", "above", "car", colour_a="yellow", colour_b="red")
    plain = replace(scene, colour_a=None, colour_b=None)
    assert scene.held_out == (plain.held_out or hashlib.sha256(key.encode()).digest()[0] % 10 == 0)


@pytest.mark.parametrize("held_out", [False, True])
def test_a_source_shows_all_kinds_and_keeps_seen_and_held_out_apart(held_out):
    source = SceneSource(3, held_out)
    drawn = [source.scene() for _ in range(600)]
    assert all(scene.held_out == held_out and scene.background for scene in drawn)
    assert {scene.relation for scene in drawn} >= set(RELATIONS)
    assert {scene.count for scene in drawn} == {1, 2, 3}
    assert {scene.a for scene in drawn} == set(OBJECTS)
    again = SceneSource(3, held_out)
    assert [again.scene() for _ in range(600)] == drawn
    for scene in drawn[:200]:
        told = read_caption(source.caption(scene))
        assert told is not None
        assert (told.a, told.relation, told.b, told.count) == (scene.a, scene.relation, scene.b, scene.count)


@pytest.mark.parametrize("bad", [{"relation": "above"}, {"b": "cat"}, {"relation": "and", "b": "cat", "count": 2}])
def test_half_a_relation_is_no_scene(bad):
    with pytest.raises(ValueError, match="go together"):
        Scene("dog", **bad)
    with pytest.raises(ValueError, match="dog comes in no colour"):
        Scene("dog", colour_a="blue")


@pytest.mark.parametrize("part", ["a", "relation", "b", "background", "count"])
def test_what_is_not_in_the_world_is_named(part):
    known = {"a": "cat", "relation": "riding", "b": "dog"} if part in ("relation", "b") else {"a": "cat"}
    with pytest.raises(InputError, match=rf"^{part} 'unicorn': is not in the world of scenes; give one of "):
        Scene(**{**known, part: "unicorn"})


def boxes(scene: Scene, seed: int) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each sprite of a layout."""
    found = []
    for placed in renderer.arrange(scene, Random(seed)).sprites:
        width, height = (share * placed.side / 2 for share in renderer.bank().box[placed.sprite])
        found.append((placed.x - width, placed.y - height, placed.x + width, placed.y + height))
    return found


@given(scenes(), st.integers(0, 10_000))
@settings(max_examples=150, deadline=None)
def test_every_object_is_wholly_inside_the_picture_and_the_relation_holds(scene, seed):
    found = boxes(scene, seed)
    assert len(found) == (scene.count if scene.b is None else 2)
    assert all(min(box) >= -0.5 and max(box) <= SIZE + 0.5 for box in found)
    if scene.relation == "riding":
        mount, rider = found
        assert rider[1] < mount[3] - 30
        assert mount[0] < (rider[0] + rider[2]) / 2 < mount[2]
        assert rider[3] > mount[1]
        overlap = max(0, rider[3] - mount[1]) / (rider[3] - rider[1])
        hidden = max(0, min(rider[2], mount[2]) - max(rider[0], mount[0])) * max(0, rider[3] - max(mount[1], rider[1]))
        assert overlap > 0
        assert hidden < 0.62 * (mount[2] - mount[0]) * (mount[3] - mount[1])
    elif scene.relation == "above":
        upper, lower = found
        assert upper[3] < lower[1] + 4
    else:
        for i, one in enumerate(found):
            for other in found[:i]:
                apart_x = max(one[0], other[0]) - min(one[2], other[2])
                apart_y = max(one[1], other[1]) - min(one[3], other[3])
                assert max(apart_x, apart_y) > -5
        if scene.relation == "next to":
            assert abs(found[0][0] - found[1][0]) > 30


def test_a_picture_is_a_function_of_scene_and_seed_and_shows_the_sprite_in_its_colour():
    scene = Scene("car", background="white", colour_a="red")
    once, again = (renderer.render([scene], Random(5)) for _ in range(2))
    assert np.array_equal(once, again)
    assert once.shape == (1, 128, 128, 3)
    for colour, strong in (("red", 0), ("green", 1), ("blue", 2)):
        picture = renderer.render([replace(scene, colour_a=colour)], Random(5))[0].astype(float)
        body = picture[np.ptp(picture, -1) > 100]
        assert body.mean(0).argmax() == strong


def test_sprites_are_resized_as_pillow_does_and_never_mirrored():
    row = renderer.bank().rows["horse", None]
    for seed in range(20):
        for placed in renderer.arrange(Scene("horse"), Random(seed)).sprites:
            assert placed.sprite == row
    side = 64.0
    ours = renderer.draw([renderer.Layout((renderer.Placed(row, 64, 64, side),), (0.0, 0.0, 0.0), 0.0)])[0]
    sprite = renderer.bank().sprites[row][:, renderer.MARGIN : -renderer.MARGIN, renderer.MARGIN : -renderer.MARGIN]
    pixels = (sprite[:3] * 255).round().byte().permute(1, 2, 0).numpy()
    small = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
    theirs = torch.tensor(list(small.tobytes())).view(64, 64, 3).permute(2, 0, 1)
    assert (ours[:, 32:96, 32:96].int() - theirs).abs().float().mean() < 1.0


def test_a_batch_is_drawn_as_each_picture_alone():
    source = SceneSource(8)
    layouts = [renderer.arrange(source.scene(), source.random) for _ in range(12)]
    batch = renderer.draw(layouts).int()
    alone = torch.cat([renderer.draw([layout]) for layout in layouts]).int()
    assert (batch - alone).abs().max() <= 1


def test_png_files_are_read_as_pillow_reads_them(tmp_path):
    for path in sorted((Path(renderer.__file__).parent / "sprites").glob("*.png"))[:6]:
        picture = Image.open(path).convert("RGBA")
        expected = torch.tensor(list(picture.tobytes())).view(picture.height, picture.width, 4).permute(2, 0, 1)
        assert torch.equal(png.read(path).int(), expected.int())
    pixels = torch.randint(0, 256, (3, 7, 5), dtype=torch.uint8)
    png.write(tmp_path / "x.png", pixels)
    assert torch.equal(png.read(tmp_path / "x.png"), pixels)
    picture = Image.open(tmp_path / "x.png")
    assert list(picture.tobytes()) == pixels.permute(1, 2, 0).flatten().tolist()
    (tmp_path / "bad.png").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"bad.png: not a PNG file"):
        png.read(tmp_path / "bad.png")
