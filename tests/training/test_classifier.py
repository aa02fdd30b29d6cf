"""The classifiers and the damaged scenes they learn from."""

from random import Random

import pytest
import torch

from cfglab.scenes import renderer
from cfglab.scenes.alignment import alignment
from cfglab.scenes.classifier_network import PARTS, labels_of
from cfglab.scenes.renderer import SPRITES
from cfglab.scenes.vocabulary import Scene, SceneLabels
from training import classifier, common, drawn, spoil
from training.common import Plan
from training.source import SceneSource
from training.spoil import Labeller

CPU = torch.device("cpu")


def aligned(scene: Scene, found: SceneLabels) -> bool:
    return alignment(scene, found)["alignment"] == 1


def named(found: dict[str, int]) -> dict[str, str | None]:
    return {part: None if number == 0 else PARTS[part][number - 1] for part, number in found.items()}


def test_an_answer_names_what_the_scene_states():
    source = SceneSource(4)
    for _ in range(300):
        scene = source.scene()
        layout = renderer.arrange(scene, source.random)
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
    answers = [spoil.answer(renderer.arrange(scene, source.random), scene) for scene in scenes]
    found = [labels_of(answer) for answer in answers]
    for i, scene in enumerate(scenes):
        assert aligned(scene, found[i])
        assert not aligned(scene, labels_of({**answers[i], "whole": 0}))
        assert not aligned(scene, labels_of({**answers[i], "background": 0}))
        others = [other for j, other in enumerate(found) if scenes[j] != scene and aligned(scene, other)]
        assert len(others) <= 1  # `and` is also right where the two happen to stand in another relation


@pytest.mark.parametrize("damage", spoil.DAMAGES)
def test_a_damaged_sprite_stays_a_sprite(damage):
    for seed in range(4):
        made = damage(renderer.bank().sprites[renderer.bank().rows["horse", None]], Random(seed))
        assert made.shape == renderer.bank().sprites[0].shape
        assert torch.isfinite(made).all()


def test_damage_is_visible_and_symmetric_objects_are_not_halved():
    random = Random(0)
    for row in range(0, len(SPRITES), 5):
        made, sprite = spoil.damaged(row, random, spoil.DAMAGES), renderer.bank().sprites[row]
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


def test_a_classifier_learns_damage_from_images_of_models_that_show_what_was_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("CFGLAB_TRAINING2", str(tmp_path))
    assert drawn.batches(4, 0) is None
    scenes = [Scene("sun", background="blue"), Scene("star", count=2, background="pink")]
    pictures = renderer.draw_scenes(scenes * 4, Random(1))
    common.save(drawn.path_of(0), drawn.judged(pictures, scenes * 4)._asdict())
    shown, asked, whole, cells = next(drawn.batches(6, 0))
    assert shown.shape == (6, 3, 128, 128)
    assert set(asked) == set(scenes)
    assert whole.tolist() == [1.0] * 6
    assert cells.max() > 0

    answers = [spoil.answer(renderer.arrange(scene, Random(2)), scene) for scene in scenes]
    logits = {part: torch.zeros(2, 1 + len(names)) for part, names in PARTS.items()}
    for row, answer in enumerate(answers):
        for part, number in answer.items():
            logits[part][row, number] = 1
    logits["whole"] = -logits["whole"]  # damaged, or not: it does not count
    assert classifier.as_asked(logits, scenes).tolist() == [True, True]
    assert classifier.as_asked(logits, scenes[::-1]).tolist() == [False, False]

    assert classifier.train(1, Plan(16, 1e-3, 2), 1, CPU)
    assert common.load(tmp_path / "classifier1.pt")["step"] == 2


def test_a_label_by_eye_counts_more_than_the_similarity(tmp_path, monkeypatch):
    pictures = torch.randint(0, 256, (4, 3, 128, 128), dtype=torch.uint8)
    cells = torch.full((4, 8, 8), renderer.SHOWN)
    judged = drawn.Drawn(pictures, ["a sun"] * 4, torch.tensor([0.1, 0.2, 0.9, 0.4]), cells)
    names = [drawn.hash_of(picture) for picture in pictures]
    monkeypatch.setattr(drawn, "LABELS", tmp_path / "labels.csv")
    drawn.LABELS.write_text(f"image,chunk,label\n{names[0]},0,1\n{names[1]},0,0.5\n{names[2]},0,0\n")
    found = drawn.labelled(judged, drawn.read_labels())
    assert found.whole.tolist() == pytest.approx([1, 0.5, 0, 0.4])
    assert (found.cells[0] == -1).all()
    assert torch.equal(found.cells[1:], cells[1:])
    assert judged.whole[0] == pytest.approx(0.1)


def test_the_labels_by_eye_are_those_of_distinct_images():
    labels = drawn.read_labels()
    assert len(labels) == 2304
    assert set(labels.values()) == {0.0, 0.5, 1.0}
