"""The classifiers of scenes: they read drawn scenes, and are not flattered by damage or rubbish."""

from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Literal

import numpy as np
import pytest
import torch

from cfglab.errors import InputError
from cfglab.scenes import classifier as module
from cfglab.scenes import classifier_file, renderer
from cfglab.scenes.alignment import alignment
from cfglab.scenes.classifier import SceneClassifier
from cfglab.scenes.renderer import SPRITES, render
from cfglab.scenes.vocabulary import Scene, SceneLabels
from training import spoil
from training.source import SceneSource

NOTHING = SceneLabels()


def tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


@cache
def fresh(count: int, seed: int, held_out: bool) -> tuple[list[Scene], torch.Tensor]:
    source = SceneSource(seed, held_out)
    scenes = [source.scene() for _ in range(count)]
    return scenes, tensor(render(scenes, Random(seed)))


def aligned(scenes: list[Scene], labels: list[SceneLabels]) -> float:
    return float(np.mean([alignment(*pair)["alignment"] for pair in zip(scenes, labels, strict=True)]))


@pytest.fixture(scope="module", params=[1, 2])
def classifier(request: pytest.FixtureRequest) -> Iterator[SceneClassifier]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield SceneClassifier.load(request.param)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("held_out", [False, True])
def test_reads_scenes_it_has_not_seen(classifier, held_out):
    scenes, pixels = fresh(200, seed=77, held_out=held_out)
    assert aligned(scenes, classifier.classify(pixels)) >= 0.95


def test_a_wrong_scene_is_not_read_as_the_one_asked_for(classifier):
    scenes, pixels = fresh(200, seed=78, held_out=False)
    assert aligned(scenes[1:] + scenes[:1], classifier.classify(pixels)) < 0.02


def test_noise_is_read_as_no_whole_object(classifier):
    rng = np.random.default_rng(0)
    grey = np.zeros((20, 3, 128, 128), np.float32)
    for rubbish in (rng.uniform(-1, 1, (40, 3, 128, 128)), rng.standard_normal((40, 3, 128, 128)), grey, grey - 1):
        labels = classifier.classify(rubbish)
        assert np.mean([found.whole and found.a is not None for found in labels]) <= 0.03


def test_two_scenes_laid_over_each_other_are_neither(classifier):
    scenes, pixels = fresh(100, seed=5, held_out=False)
    _, others = fresh(100, seed=6, held_out=False)
    assert aligned(scenes, classifier.classify((pixels + others) / 2)) <= 0.02


def test_damaged_objects_are_not_whole(classifier):
    """Halves, doubles, two heads, melted, half of another object: 300 of them, each alone on its background."""
    random = Random(3)
    layouts: list[renderer.Layout] = []
    sprites = [renderer.bank().sprites]
    for _ in range(300):
        scene = Scene(*random.choice(SPRITES)[:1])
        layout = renderer.arrange(scene, random)
        sprites.append(spoil.damaged(layout.sprites[0].sprite, random, spoil.DAMAGES)[None])
        placed = renderer.Placed(len(SPRITES) + len(layouts), 64, 64, layout.sprites[0].side)
        layouts.append(renderer.Layout((placed,), layout.colour, layout.shade, layout.background))
    images = renderer.draw(layouts, sprites=torch.cat(sprites))
    labels = classifier.classify(images.float() / 127.5 - 1)
    assert np.mean([not found.whole for found in labels]) >= 0.75


def test_softness_and_saturation_of_a_generated_image_are_no_error(classifier):
    scenes, pixels = fresh(200, seed=79, held_out=False)
    soft = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    noisy = torch.lerp(pixels, soft, 0.5) + 0.04 * torch.randn(soft.shape, generator=torch.Generator().manual_seed(0))
    grey = noisy.mean(1, keepdim=True)
    assert aligned(scenes, classifier.classify(grey + 1.2 * (noisy - grey))) >= 0.9


def test_two_side_by_side_are_read_from_left_to_right(classifier):
    scenes = [Scene("car", "next to", "rose", "white", colour_a="red", colour_b="yellow")] * 40
    pixels = tensor(render(scenes, Random(80)))
    found, mirrored = classifier.classify(pixels), classifier.classify(pixels.flip(-1))
    swapped = [
        (x.a, x.colour_a, x.b, x.colour_b) == (y.b, y.colour_b, y.a, y.colour_a)
        for x, y in zip(found, mirrored, strict=True)
    ]
    assert np.mean(swapped) >= 0.9
    assert {found.a for found in found} == {"car", "rose"}


def test_labels_are_of_one_object_or_of_two(classifier):
    scenes, pixels = fresh(200, seed=77, held_out=False)
    labels = classifier.classify(pixels)
    for found in labels:
        assert found.arranged is None or (found.a is not None and found.b is not None)
        assert found.count is None or found.b is None
    several = [found.count == scene.count for scene, found in zip(scenes, labels, strict=True) if scene.count > 1]
    assert np.mean(several) >= 0.9


def test_features_are_128_floats_and_repeatable(classifier):
    _, pixels = fresh(10, seed=1, held_out=False)
    features = classifier.features(pixels)
    assert features.shape == (10, 128)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features, classifier.features(pixels))
    assert len(np.unique(features.round(3), axis=0)) == 10
    assert classifier.features(pixels[:0]).shape == (0, 128)
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
    assert aligned(scenes, classifier.classify(pixels)) == 1


def test_a_broken_image_shows_nothing_and_spoils_no_other(classifier):
    _, pixels = fresh(3, seed=4, held_out=False)
    broken = pixels.clone()
    broken[1, 0, 5, 5] = float("nan")
    readings = classifier.classify(broken)
    assert readings[1] == NOTHING
    assert [readings[0], readings[2]] == [classifier.classify(pixels)[i] for i in (0, 2)]


def test_the_two_classifiers_are_independent():
    first, second = SceneClassifier.load(1), SceneClassifier.load(2)
    assert type(first.network.body) is not type(second.network.body)
    assert all(classifier_file(number).stat().st_size <= 3_000_000 for number in (1, 2))


@pytest.mark.parametrize(
    "pixels", [torch.zeros(3, 128, 128), torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 128, 128).byte()]
)
def test_other_shapes_are_refused_with_the_rule(pixels):
    with pytest.raises(InputError, match=r"takes floats \(n, 3, 128, 128\) in \[-1, 1\]"):
        SceneClassifier.load(1).classify(pixels)


def test_there_is_no_third_classifier():
    with pytest.raises(InputError, match="classifier 3: there are two classifiers; give 1 or 2"):
        SceneClassifier.load(3)  # type: ignore[arg-type]


def test_missing_weights_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "classifier_file", lambda number: tmp_path / f"classifier{number}.safetensors")
    with pytest.raises(InputError, match=r"classifier2.safetensors: .* reinstall cfglab, or .*training classifier2"):
        SceneClassifier.load(2)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "other"])
def test_damaged_weights_are_refused(monkeypatch, tmp_path, damage):
    whole = classifier_file(1).read_bytes()
    content = {
        "truncated": whole[: len(whole) // 2],
        "text": b"hello",
        "empty": b"",
        "other": classifier_file(2).read_bytes(),
    }
    path = tmp_path / "classifier1.safetensors"
    path.write_bytes(content[damage])
    monkeypatch.setattr(module, "classifier_file", lambda _: path)
    with pytest.raises(InputError, match=r"classifier1.safetensors: .* weights are damaged .*; reinstall cfglab"):
        SceneClassifier.load(1)


@pytest.mark.parametrize("which", [1, 2])
def test_what_is_seen_does_not_depend_on_which_others_are_looked_at(which: Literal[1, 2]) -> None:
    """Not in the last bit: a run that is resumed looks at its images in other company."""
    classifier = SceneClassifier.load(which)
    pixels = np.random.default_rng(0).uniform(-1, 1, (37, 3, 128, 128)).astype(np.float32)
    whole, order = classifier.features(pixels), np.random.default_rng(1).permutation(37)
    for size in (1, 5, 16):
        parts = [classifier.features(pixels[order[start : start + size]]) for start in range(0, 37, size)]
        assert np.array_equal(np.concatenate(parts), whole[order])
    assert classifier.classify(pixels[order[:3]]) == [classifier.classify(pixels)[i] for i in order[:3]]
