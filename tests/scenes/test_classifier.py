"""The judge of scenes: it reads real images, and is not flattered by rubbish."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from cfglab.errors import InputError
from cfglab.scenes import classifier as module
from cfglab.scenes.classifier import PARTS, SceneClassifier, SceneLabels
from cfglab.scenes.renderer import render
from cfglab.scenes.vocabulary import BACKGROUNDS, Scene, triples
from training.label import ASK_NOT, Labeller


def tensor(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


@cache
def fresh(count: int, seed: int, held_out: bool) -> tuple[list[Scene], torch.Tensor]:
    rng = np.random.default_rng(seed)
    known = [s for s in triples() if s.held_out == held_out]
    scenes = [
        known[i].model_copy(update={"background": str(rng.choice(list(BACKGROUNDS)))})
        for i in rng.integers(0, len(known), count)
    ]
    return scenes, tensor([render(scene, rng) for scene in scenes])


def same(reading: SceneLabels, scene: Scene) -> bool:
    """All parts right; `next to` has no order."""
    found, wanted = (reading.a, reading.b), (scene.a, scene.b)
    objects = found == wanted or (scene.relation == "next to" and found == wanted[::-1])
    return objects and (reading.relation, reading.background) == (scene.relation, scene.background)


@pytest.fixture(scope="module", params=[1, 2])
def classifier(request: pytest.FixtureRequest) -> Iterator[SceneClassifier]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield SceneClassifier.load(request.param)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("held_out", [False, True])
def test_reads_scenes_it_has_not_seen(classifier, held_out):
    scenes, pixels = fresh(200, seed=77, held_out=held_out)
    right = [same(found, scene) for found, scene in zip(classifier.classify(pixels), scenes, strict=True)]
    assert np.mean(right) >= 0.97


def test_a_wrong_scene_is_not_read_as_the_one_asked_for(classifier):
    scenes, pixels = fresh(200, seed=78, held_out=False)
    shuffled = scenes[1:] + scenes[:1]
    assert (
        np.mean([same(found, scene) for found, scene in zip(classifier.classify(pixels), shuffled, strict=True)]) < 0.02
    )


def test_noise_is_read_as_none(classifier):
    rng = np.random.default_rng(0)
    grey = np.zeros((20, 3, 64, 64), np.float32)
    for rubbish in (rng.uniform(-1, 1, (60, 3, 64, 64)), rng.standard_normal((60, 3, 64, 64)), grey, grey - 1):
        readings = classifier.classify(rubbish)
        assert np.mean([r == SceneLabels(None, None, None, None) for r in readings]) >= 0.97


def test_two_scenes_laid_over_each_other_are_neither(classifier):
    scenes, pixels = fresh(100, seed=5, held_out=False)
    _, others = fresh(100, seed=6, held_out=False)
    readings = classifier.classify((pixels + others) / 2)
    assert np.mean([same(found, scene) for found, scene in zip(readings, scenes, strict=True)]) <= 0.01
    assert np.mean([found.a is None and found.b is None for found in readings]) >= 0.9


def test_a_spoiled_object_is_none_and_the_other_stays(classifier):
    labeller = Labeller(seed=500_000)
    images, answers = zip(*(labeller.spoiled_object() for _ in range(200)), strict=True)
    readings = classifier.classify(tensor(list(images)))
    for part in ("a", "b"):
        column = list(PARTS).index(part)
        wanted = [(None, *PARTS[part])[row[column]] for row in answers]
        assert np.mean([getattr(found, part) == name for found, name in zip(readings, wanted, strict=True)]) >= 0.9


def test_softness_and_saturation_of_a_generated_image_are_no_error(classifier):
    scenes, pixels = fresh(200, seed=79, held_out=False)
    soft = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    noisy = soft + 0.05 * torch.randn(soft.shape, generator=torch.Generator().manual_seed(0))
    grey = noisy.mean(1, keepdim=True)
    readings = classifier.classify(grey + 1.3 * (noisy - grey))
    assert np.mean([same(found, scene) for found, scene in zip(readings, scenes, strict=True)]) >= 0.95


def test_next_to_is_read_from_left_to_right(classifier):
    scenes, pixels = fresh(400, seed=80, held_out=False)
    pairs = [i for i, scene in enumerate(scenes) if scene.relation == "next to"]
    found, mirrored = classifier.classify(pixels[pairs]), classifier.classify(pixels[pairs].flip(-1))
    swapped = [(x.a, x.b) == (y.b, y.a) for x, y in zip(found, mirrored, strict=True)]
    assert np.mean(swapped) >= 0.95


def test_features_are_64_floats_and_repeatable(classifier):
    _, pixels = fresh(10, seed=1, held_out=False)
    features = classifier.features(pixels)
    assert features.shape == (10, 64)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features, classifier.features(pixels))
    assert len(np.unique(features.round(3), axis=0)) == 10
    assert classifier.features(pixels[:0]).shape == (0, 64)
    assert classifier.classify(pixels[:0]) == []


def test_a_batch_equals_one_by_one(classifier, monkeypatch):
    _, pixels = fresh(33, seed=2, held_out=False)
    readings, features = classifier.classify(pixels), classifier.features(pixels)
    monkeypatch.setattr(module, "CHUNK", 8)
    assert classifier.classify(pixels) == readings
    assert [classifier.classify(one[None])[0] for one in pixels] == readings
    alone = np.concatenate([classifier.features(one[None]) for one in pixels])
    np.testing.assert_allclose(alone, features, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(classifier.features(pixels), features, rtol=1e-4, atol=1e-4)


def test_a_numpy_array_and_values_outside_the_range_are_taken(classifier):
    scenes, pixels = fresh(4, seed=3, held_out=False)
    burnt = pixels * 1.4
    assert classifier.classify(burnt.numpy()) == classifier.classify(burnt.clamp(-1, 1))
    assert classifier.classify(pixels.double().numpy()) == classifier.classify(pixels)
    assert all(same(found, scene) for found, scene in zip(classifier.classify(pixels), scenes, strict=True))


def test_a_broken_image_shows_nothing_and_spoils_no_other(classifier):
    _, pixels = fresh(3, seed=4, held_out=False)
    broken = pixels.clone()
    broken[1, 0, 5, 5] = float("nan")
    readings = classifier.classify(broken)
    assert readings[1] == SceneLabels(None, None, None, None)
    assert [readings[0], readings[2]] == [classifier.classify(pixels)[i] for i in (0, 2)]


def test_the_two_classifiers_are_independent():
    first, second = SceneClassifier.load(1), SceneClassifier.load(2)
    assert first.network.architecture != second.network.architecture
    for which in (1, 2):
        weights = Path(module.__file__).parent / "weights/readers" / f"reader{which}.safetensors"
        assert weights.stat().st_size <= 1_500_000


@pytest.mark.parametrize(
    "pixels", [torch.zeros(3, 64, 64), torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 64, 64).byte()]
)
def test_other_shapes_are_refused_with_the_rule(pixels):
    with pytest.raises(InputError, match=r"takes floats \(n, 3, 64, 64\) in \[-1, 1\]"):
        SceneClassifier.load(1).classify(pixels)


def test_there_is_no_third_classifier():
    with pytest.raises(InputError, match="classifier 3: there are two classifiers; give 1 or 2"):
        SceneClassifier.load(3)  # type: ignore[arg-type]


def test_missing_weights_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "files", lambda _: tmp_path)
    with pytest.raises(InputError, match=r"reader2.safetensors: .* reinstall cfglab, or .*training.reader --which 2"):
        SceneClassifier.load(2)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "other"])
def test_damaged_weights_are_refused(monkeypatch, tmp_path, damage):
    whole = (Path(module.__file__).parent / "weights/readers/reader1.safetensors").read_bytes()
    folder = tmp_path / "weights/readers"
    folder.mkdir(parents=True)
    wrong = whole.replace(b'"grid', b'"grit').replace(b'\\"grid', b'\\"grit')
    content = {"truncated": whole[: len(whole) // 2], "text": b"hello", "empty": b"", "other": wrong}[damage]
    (folder / "reader1.safetensors").write_bytes(content)
    monkeypatch.setattr(module, "files", lambda _: tmp_path)
    with pytest.raises(InputError, match=r"reader1.safetensors: .* weights are damaged .*; reinstall cfglab"):
        SceneClassifier.load(1)


def test_answers_of_labelled_images_say_what_was_done():
    """The images that the readers learn from: `next to` from the left, and a none for every spoiled part."""
    labeller = Labeller(seed=9)
    for _ in range(30):
        scene = labeller.scene("next to")
        state = labeller.rng.bit_generator.state
        image, (left, relation, right, background) = labeller.pictured(scene)
        labeller.rng.bit_generator.state = state
        other = render(scene.model_copy(update={"a": scene.b}), labeller.rng)
        a_is_left = np.nonzero((image != other).any((0, 2)))[0].mean() < 32
        names = [PARTS["a"][left - 1], PARTS["b"][right - 1]]
        assert names == ([scene.a, scene.b] if a_is_left else [scene.b, scene.a])
        assert (PARTS["relation"][relation - 1], PARTS["background"][background - 1]) == ("next to", scene.background)
    for make in (
        labeller.crowded,
        labeller.mixed,
        labeller.halves,
        labeller.unreadable,
        labeller.rubbish,
        labeller.empty,
    ):
        assert all(make()[1][:3] == (0, 0, 0) for _ in range(10))
    assert all(labeller.on_odd_canvas()[1][3] == 0 for _ in range(10))
    assert all(0 in (row[0], row[2]) and row[1] == 0 for row in (labeller.spoiled_object()[1] for _ in range(20)))
    assert labeller.diagonal()[1][:3] == (ASK_NOT, 0, ASK_NOT)


def test_labelled_images_repeat_with_their_seed():
    first, again, other = (Labeller(seed).labelled(20) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0].shape == (20, 64, 64, 3)
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize("which", [1, 2])
def test_what_is_seen_does_not_depend_on_which_others_are_looked_at(which: Literal[1, 2]) -> None:
    """Not in the last bit: a run that is resumed looks at its images in other company."""
    classifier = SceneClassifier.load(which)
    pixels = np.random.default_rng(0).uniform(-1, 1, (37, 3, 64, 64)).astype(np.float32)
    whole, order = classifier.features(pixels), np.random.default_rng(1).permutation(37)
    for size in (1, 5, 16):
        parts = [classifier.features(pixels[order[start : start + size]]) for start in range(0, 37, size)]
        assert np.array_equal(np.concatenate(parts), whole[order])
    assert classifier.classify(pixels[order[:3]]) == [classifier.classify(pixels)[i] for i in order[:3]]
