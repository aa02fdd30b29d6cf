"""How well an object is drawn: the scene of a prompt fitted to an image."""

from dataclasses import replace
from random import Random

import pytest
import torch

from cfglab.scenes import renderer
from cfglab.scenes.renderer import SHOWN, SPRITES
from cfglab.scenes.vocabulary import BACKGROUNDS, Scene
from training import drawn, fit, spoil

SCENES = [
    Scene("horse", background="pink"),
    Scene("dog", "riding", "apple", "white"),
    Scene("car", "above", "butterfly", "grey", colour_a="red", colour_b="green"),
    Scene("penguin", "next to", "cake", "blue"),
    Scene("turtle", "and", "rose", "yellow"),
    Scene("banana", count=3, background="black"),
]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: f"{scene.relation or scene.count}")
def test_a_scene_is_found_where_it_was_drawn(scene):
    layout = renderer.arrange(scene, Random(3))
    (found,) = fit.fit(renderer.draw([layout]) / 255, [scene])
    assert sorted(found.rows) == sorted(placed.sprite for placed in layout.sprites)
    assert min(found.similarity) > 0.93


def test_a_damaged_object_is_less_similar_than_the_whole_one_beside_it():
    scene, random = Scene("elephant", "next to", "house", "white"), Random(0)
    layout = renderer.arrange(scene, random)
    which = next(i for i, placed in enumerate(layout.sprites) if SPRITES[placed.sprite][0] == "elephant")
    broken = spoil.damaged(layout.sprites[which].sprite, random, spoil.DAMAGES[3:4])
    sprites = list(layout.sprites)
    sprites[which] = replace(sprites[which], sprite=len(SPRITES))
    bank = torch.cat([renderer.bank().sprites, broken[None]])
    (found,) = fit.fit(renderer.draw([replace(layout, sprites=tuple(sprites))], sprites=bank) / 255, [scene])
    by_name = {SPRITES[row][0]: similar for row, similar in zip(found.rows, found.similarity, strict=True)}
    assert by_name["elephant"] < drawn.DAMAGED < drawn.WHOLE < by_name["house"]
    shown = set(fit.named(found, drawn.WHOLE, drawn.DAMAGED).unique().tolist())
    assert shown == {-1, SHOWN, len(BACKGROUNDS) + renderer.bank().rows["house", None]}


def test_structural_similarity_is_one_of_the_same_image_and_forgives_two_pixels():
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(fit.similarity(image, image), torch.ones(1, 24, 24), atol=1e-4)
    middle = (slice(None), slice(8, 16), slice(8, 16))
    assert fit.similarity(image, image.roll(2, 3))[middle].min() > 0.99
    assert fit.similarity(image, image.roll(5, 3))[middle].mean() < 0.5
