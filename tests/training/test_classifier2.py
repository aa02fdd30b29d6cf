"""The classifiers of the second edition, and the damaged scenes they learn from."""

from random import Random

import pytest
import torch

from training.scenes2 import classifier, common, draw, evaluate, spoil
from training.scenes2.common import Plan
from training.scenes2.spoil import PARTS, SPRITES, Labeller  # type: ignore[attr-defined]
from training.scenes2.world import Scene, SceneSource

CPU = torch.device("cpu")


def named(found: dict[str, int]) -> dict[str, str | None]:
    return {part: None if number == 0 else PARTS[part][number - 1] for part, number in found.items()}


def test_an_answer_names_what_the_scene_states():
    source = SceneSource(4)
    for _ in range(300):
        scene = source.scene()
        layout = draw.arrange(scene, source.random)
        found = named(spoil.answer(layout, scene))
        assert (found["whole"], found["background"]) == ("whole", scene.background)
        if scene.b is None:
            assert (found["a"], found["colour_a"], found["count"]) == (scene.a, scene.colour_a, str(scene.count))
            assert (found["b"], found["colour_b"], found["arranged"]) == (None, None, None)
            continue
        pair = [(found["a"], found["colour_a"]), (found["b"], found["colour_b"])]
        asked = [(scene.a, scene.colour_a), (scene.b, scene.colour_b)]
        assert found["count"] is None
        if scene.relation in ("riding", "above"):
            assert pair == asked
            assert found["arranged"] == scene.relation
        else:
            assert sorted(pair) == sorted(asked)
            left = min(layout.sprites, key=lambda placed: placed.y if found["arranged"] == "above" else placed.x)
            assert pair[0] == SPRITES[left.sprite]
            assert found["arranged"] == "beside" or scene.relation == "and"


def test_a_picture_of_a_scene_shows_it_and_hardly_any_other():
    source = SceneSource(9)
    scenes = [source.scene() for _ in range(80)]
    found = [named(spoil.answer(draw.arrange(scene, source.random), scene)) for scene in scenes]
    for i, scene in enumerate(scenes):
        assert evaluate.shows(scene, found[i])
        assert not evaluate.shows(scene, {**found[i], "whole": None})
        assert not evaluate.shows(scene, {**found[i], "background": None})
        others = [other for j, other in enumerate(found) if scenes[j] != scene and evaluate.shows(scene, other)]
        assert len(others) <= 1  # `and` is also right where the two happen to stand in another relation


def test_what_a_prompt_leaves_unstated_may_be_anything_and_order_matters_where_it_is_asked_for():
    car_by_rose = {
        **dict.fromkeys(PARTS),
        **{"whole": "whole", "a": "car", "b": "rose", "arranged": "beside", "colour_a": "red", "colour_b": "yellow"},
    }
    for a, b in (("car", "rose"), ("rose", "car")):
        assert evaluate.shows(Scene(a, "next to", b), car_by_rose)
        assert evaluate.shows(Scene(a, "and", b), car_by_rose)
        assert not evaluate.shows(Scene(a, "above", b), car_by_rose)
    assert evaluate.shows(Scene("rose", "next to", "car", colour_a="yellow"), car_by_rose)
    assert not evaluate.shows(Scene("rose", "next to", "car", colour_a="red"), car_by_rose)
    above = {**car_by_rose, "arranged": "above"}
    assert evaluate.shows(Scene("car", "above", "rose"), above)
    assert not evaluate.shows(Scene("rose", "above", "car"), above)
    assert not evaluate.shows(Scene("car"), car_by_rose)
    three = {**dict.fromkeys(PARTS), **{"whole": "whole", "a": "cat", "count": "3"}}
    assert evaluate.shows(Scene("cat", count=3), three)
    assert not evaluate.shows(Scene("cat"), three)


@pytest.mark.parametrize("damage", spoil.DAMAGES)
def test_a_damaged_sprite_stays_a_sprite(damage):
    for seed in range(4):
        made = damage(draw.bank().sprites[draw.bank().rows["horse", None]], Random(seed))
        assert made.shape == draw.bank().sprites[0].shape
        assert torch.isfinite(made).all()


def test_damage_is_visible_and_symmetric_objects_are_not_halved():
    random = Random(0)
    for row in range(0, len(SPRITES), 5):
        made, sprite = spoil.damaged(row, random), draw.bank().sprites[row]
        seen = torch.maximum(made[3], sprite[3]) > 0.3
        assert float(((made - sprite).abs().sum(0) > 0.35)[seen].float().mean()) > 0.2
        assert float((made[:3] - made[3:]).max()) < 1e-6


def test_a_spoiled_picture_is_not_whole_and_asks_nothing_else_but_its_background():
    pictures, answers = Labeller(2).pictures(60, CPU)
    assert pictures.shape == (60, 3, 128, 128)
    spoiled = answers["whole"] == 0
    assert 10 < int(spoiled.sum()) < 40
    assert (answers["background"] > 0).all()
    for part in ("a", "b", "count", "arranged"):
        asked = answers[part][spoiled & (answers["a"] != 0)]
        assert (asked == spoil.ASK_NOT).all()
    again, _ = Labeller(2).pictures(60, CPU)
    assert torch.equal(pictures, again)


@pytest.mark.parametrize("which", [1, 2])
def test_a_classifier_trains_without_an_autoencoder_and_resumes(which, tmp_path, monkeypatch):
    monkeypatch.setenv("CFGLAB_TRAINING2", str(tmp_path))
    report = classifier.report
    monkeypatch.setattr(classifier, "report", lambda network, name, step: report(network, name, step, count=12))
    assert not classifier.train(which, Plan(4, 1e-3, 4), 0, CPU)
    assert classifier.train(which, Plan(4, 1e-3, 2), 1, CPU)
    state = common.load(tmp_path / f"classifier{which}.pt")
    assert (state["step"], state["done"]) == (2, True)
    network = classifier.trained(which)
    found = network(torch.zeros(2, 3, 128, 128))
    assert {part: rows.shape[1] for part, rows in found.items()} == {p: 1 + len(n) for p, n in PARTS.items()}
