"""Scores of a run in the world of scenes, with a judge whose answers are known."""

import hashlib
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np
import pytest

from cfglab.errors import InputError, MachineError
from cfglab.experiments.analysis.compare import compare
from cfglab.experiments.scoring import scorer as scoring
from cfglab.experiments.scoring.alignment_scores import chance
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import ModelFacts
from cfglab.experiments.storage.feature_cache import FeatureCache, ImageFeatures
from cfglab.experiments.storage.png import encode
from cfglab.experiments.storage.results import Result, ResultRow
from cfglab.experiments.storage.store import Store
from cfglab.scenes.classifier import SceneClassifier
from cfglab.scenes.renderer import render
from cfglab.scenes.vocabulary import Scene, SceneLabels, read_caption

FACTS = ModelFacts(weights="0" * 64, sampler_config={}, width=128, height=128, factor=8)
YAML = """
name: judged
prompts: [a photograph of a cat riding a dog, a photograph of a frog on a blue background, something else]
seeds: 0..3
baseline: {name: real scenes, guidance: 1}
groups: [{name: noise, guidance: 15}]
"""


class Judge:
    """Sees a cat riding a dog everywhere; its features are coarse pixels."""

    calls = 0
    seen: ClassVar[list[int]] = []

    def classify(self, pixels: np.ndarray) -> list[SceneLabels]:
        Judge.calls += 1
        Judge.seen.append(len(pixels))
        found = SceneLabels(whole=True, a="cat", arranged="riding", b="dog", background="blue")
        return [found] * len(pixels)

    def read(self, pixels: np.ndarray) -> tuple[np.ndarray, list[SceneLabels]]:
        return self.features(pixels), self.classify(pixels)

    def features(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.dtype == np.float32
        assert np.abs(pixels).max() <= 1
        coarse = pixels.reshape(len(pixels), 3, 4, 32, 4, 32).mean(axis=(3, 5))
        return coarse.reshape(len(pixels), -1)


@pytest.fixture(autouse=True)
def judge(monkeypatch: pytest.MonkeyPatch) -> None:
    Judge.calls = 0
    monkeypatch.setattr(
        SceneClassifier, "load", lambda which: Judge() if which == 2 else pytest.fail("the wrong judge")
    )
    monkeypatch.setattr(scoring, "REFERENCE", 200)


def fill(folder: Path, experiment: Experiment, picture: Callable[[str, str, np.random.Generator], np.ndarray]) -> None:
    """A run with an image in every cell."""
    with Store.create(folder, experiment) as store:
        for position, (setting, cell) in enumerate(experiment.cells(FACTS)):
            rng = np.random.default_rng([position, 7])
            pixels = picture(setting.name, cell.prompt, rng)
            (file,) = encode(pixels[None], [cell], {})
            (folder / "images" / f"{cell.id}.png").write_bytes(file)
            seed = experiment.seeds[position % len(experiment.seeds)]
            known: dict[str, Any] = {"setting": setting.name, "prompt": cell.prompt, "seed": seed}
            result = Result(cell=cell.id, position=position, status="done", image=f"images/{cell.id}.png", **known)
            store.record([ResultRow(result=result, settled=True, sha256=hashlib.sha256(file).hexdigest())])


def scene_or_noise(setting: str, prompt: str, rng: np.random.Generator) -> np.ndarray:
    if setting == "noise":
        return rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
    (image,) = render([read_caption(prompt) or Scene(a="cat")], Random(int(rng.integers(2**32))))
    return image


def test_alignment_is_what_the_judge_read_and_other_prompts_are_left_alone(tmp_path: Path) -> None:
    experiment = Experiment.from_yaml(YAML)
    fill(tmp_path, experiment, scene_or_noise)
    with Store.create(tmp_path, experiment) as store:
        scoring.score(store)
        by_prompt = {result.prompt: result.metrics for result in store.results()}
        sets = store.set_metrics()
    riding, frog, other = experiment.prompts
    parts = ("whole", "a", "b", "relation", "seen")
    assert by_prompt[riding] == {"alignment": 1.0, **{f"alignment_{part}": 1.0 for part in parts}}
    assert by_prompt[frog] == {
        "alignment": 0.0,
        "alignment_whole": 1.0,
        "alignment_a": 0.0,
        "alignment_background": 1.0,
    }
    assert by_prompt[other] == {}
    # eight images a setting: too few for distances to real scenes, two prompts: too few for intervals
    assert set(sets) == {"real scenes", "noise", "real"}
    assert {frozenset(row) for row in sets.values()} == {frozenset(("vendi", "pairwise_distance"))}
    assert {estimate.n for row in sets.values() for estimate in row.values()} == {8}
    assert all(estimate.low is None for row in sets.values() for estimate in row.values())


def test_sets_of_enough_pictures_are_held_against_real_ones(tmp_path: Path) -> None:
    experiment = Experiment.from_yaml(YAML, prompts="scenes:8", seeds="0..15")
    fill(tmp_path, experiment, scene_or_noise)
    with Store.create(tmp_path, experiment) as store:
        scoring.score(store)
        sets = store.set_metrics()
    wanted = {"kid", "fid", "precision", "recall", "density", "coverage", "vendi", "pairwise_distance"}
    assert all(set(row) == wanted for row in sets.values())
    assert sets["noise"]["fid"].value > 5 * sets["real scenes"]["fid"].value
    assert sets["noise"]["kid"].value > 5 * abs(sets["real scenes"]["kid"].value)
    assert sets["noise"]["recall"].value == 0
    assert sets["real scenes"]["recall"].value > 0.5
    floor, drawn = sets["real"]["fid"], sets["real scenes"]["fid"]  # both are real scenes: the floor is no better
    assert floor.value == pytest.approx(drawn.value, rel=0.5)
    assert floor.n == drawn.n == 128
    assert drawn.low is not None
    assert drawn.high is not None
    assert drawn.low < drawn.value < drawn.high


def test_scores_are_kept_and_made_anew_when_pictures_came_in(tmp_path: Path) -> None:
    experiment = Experiment.from_yaml(YAML)
    fill(tmp_path, experiment, scene_or_noise)
    with Store.create(tmp_path, experiment) as store:
        scoring.score(store)
        after = Judge.calls
        scoring.score(store)
        assert Judge.calls == after
        redrawn = [row for row in store.rows() if row.result.position == 0]
        bare = [row.model_copy(update={"result": row.result.model_copy(update={"metrics": {}})}) for row in redrawn]
        store.record(bare)  # the same image: what the judge saw is still there
        scoring.score(store)
        assert Judge.calls == after
        assert store.results()[0].metrics["alignment"] == 1.0
        image = tmp_path / str(bare[0].result.image)
        cell = experiment.cells(FACTS)[0][1]
        (file,) = encode(np.zeros((1, 128, 128, 3), np.uint8), [cell], {})
        image.write_bytes(file)
        other = {"sha256": hashlib.sha256(file).hexdigest()}
        store.record([row.model_copy(update=other) for row in bare])  # another image in its place
        scoring.score(store)
        assert Judge.calls == after + 1
        assert Judge.seen[-1] == 1


def test_a_run_that_is_scored_is_found_scored_without_torch(tmp_path: Path) -> None:
    experiment = Experiment.from_yaml(YAML)
    fill(tmp_path, experiment, scene_or_noise)
    with Store.create(tmp_path, experiment) as store:
        scoring.score(store)
    code = (
        "import sys; from cfglab.experiments.scoring.scorer import score; from cfglab.experiments import Store\n"
        "with Store.open(sys.argv[1]) as stored: experiment = stored.experiment\n"
        "with Store.create(sys.argv[1], experiment) as store: score(store)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_missing_judge_is_said_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(_: int) -> None:
        raise InputError("classifier2.safetensors: not here")

    monkeypatch.setattr(SceneClassifier, "load", missing)
    experiment = Experiment.from_yaml(YAML)
    fill(tmp_path, experiment, scene_or_noise)
    with Store.create(tmp_path, experiment) as store, caplog.at_level(logging.WARNING):
        scoring.score(store)
        assert store.set_metrics() == {}
    assert [record.getMessage() for record in caplog.records] == [
        "no alignment and no set metrics: classifier2.safetensors: not here"
    ]


def test_pictures_of_another_size_and_other_worlds_need_no_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SceneClassifier, "load", lambda _: pytest.fail("the judge was asked"))
    scenes, others = Experiment.from_yaml(YAML), Experiment.from_yaml(YAML, prompts=["something else"])
    for experiment, side in ((scenes, 64), (scenes, 256), (others, 128)):
        folder = tmp_path / f"{len(experiment.prompts)}-{side}"
        fill(folder, experiment, lambda *_, side=side: np.zeros((side, side, 3), np.uint8))
        with Store.create(folder, experiment) as store:
            scoring.score(store)
            assert store.set_metrics() == {}


def test_reference_and_floor_are_fixed_and_apart() -> None:
    scene = Scene(a="cat", relation="riding", b="dog")
    judge: Any = Judge()
    one = scoring.real_features(judge, scene, 5, 0)
    assert one.shape == (5, 48)
    assert (one == scoring.real_features(judge, scene, 5, 0)).all()
    assert not (one == scoring.real_features(judge, scene, 5, 1)).any(axis=1).all()


def test_with_prompts_shuffled_alignment_is_that_of_other_prompts(tmp_path: Path) -> None:
    experiment = Experiment.from_yaml(YAML)
    fill(tmp_path, experiment, scene_or_noise)
    with Store.create(tmp_path, experiment) as store:
        scoring.score(store)
        found = compare(store, "alignment", "real scenes", shuffled=True)
    # the judge sees a cat riding a dog everywhere: wrong for the frog, right for the images of the frog's prompt
    # once they are held against the other prompt; a third prompt is no scene and has no say
    assert found.chance is not None
    assert (found.chance.value, found.chance.n) == (0.5, 16)
    assert str(found).splitlines()[3].split()[:6] == ["prompts", "shuffled", "(chance)", "16", "0.5"]


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        # two prompts that differ in the background alone are no opposites: an image fits both
        (["a photograph of a cat on a blue background", "a photograph of a cat on a green background"], None),
        # the cats' images meet the frog, the frog's images the first cat, and the classifier reads one cat everywhere
        (
            [
                "a photograph of a cat on a blue background",
                "a photograph of a cat on a green background",
                "a photograph of a frog on a blue background",
            ],
            (1 / 3, 12),
        ),
    ],
)
def test_chance_takes_prompts_that_differ_in_more_than_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[str], expected: tuple[float, int] | None
) -> None:
    class Cat(Judge):
        def classify(self, pixels: np.ndarray) -> list[SceneLabels]:
            return [SceneLabels(whole=True, a="cat", count=1, background="blue")] * len(pixels)

    monkeypatch.setattr(SceneClassifier, "load", lambda _: Cat())
    experiment = Experiment.from_yaml(YAML, prompts=prompts, seeds="0..1")
    fill(tmp_path, experiment, scene_or_noise)
    with Store.create(tmp_path, experiment) as store:
        scoring.score(store)
        estimate = chance(store)
    assert (estimate and (pytest.approx(estimate.value), estimate.n)) == expected


def test_the_cache_keeps_features_by_judge_and_picture(tmp_path: Path) -> None:
    one = ImageFeatures(np.arange(3, dtype=np.float32), {"a": "cat", "b": None})
    many = ImageFeatures(np.ones((4, 3), np.float32), {})
    with FeatureCache(tmp_path) as cache:
        cache.put("judge", {"x": one, "real": many})
    with FeatureCache(tmp_path) as cache:
        found = cache.get("judge", ["x", "real", "other", "x"])
        assert cache.get("another", ["x"]) == {}
    assert found["x"].features.tolist() == [0, 1, 2]
    assert found["x"].labels == {"a": "cat", "b": None}
    assert found["real"].features.shape == (4, 3)
    assert set(found) == {"x", "real"}
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "features.sqlite").write_text("no database " * 100)
    with pytest.raises(
        MachineError, match=r"features\.sqlite: .*; delete the file, it only keeps what can be computed"
    ):
        FeatureCache(tmp_path / "bad")
