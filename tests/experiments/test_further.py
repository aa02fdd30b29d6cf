"""Further judges of a run: what they say is recorded once, goes on where it stopped, and is compared as any metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from cfglab.cli import call
from cfglab.errors import InputError
from cfglab.experiments.analysis.compare import compare
from cfglab.experiments.scoring import metric_models as further
from cfglab.experiments.scoring import scorer as scoring
from cfglab.experiments.scoring.metric_models import measure
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.store import Store
from cfglab.experiments.tuning.objective import Objective, SharedModel
from cfglab.experiments.tuning.search import Search
from cfglab.guidance import Guidance
from cfglab.integrations import metric_models
from cfglab.metrics.byprompt import Reference, distances, set_metrics
from tests.experiments.test_scoring import YAML, fill, scene_or_noise


class Bright:
    """A critic: the mean of the image, and a little for the length of its prompt."""

    metrics: ClassVar[tuple[str, ...]] = ("clip_score",)

    def __init__(self, key: str = "bright", breaks_after: int | None = None) -> None:
        self.key, self.looked, self._left = key, 0, breaks_after

    def scores(self, pixels: np.ndarray, prompts: Sequence[str]) -> list[float]:
        assert pixels.dtype == np.uint8
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        self.looked += len(pixels)
        return [one.mean() + len(prompt) / 1000 for one, prompt in zip(pixels, prompts, strict=True)]


class Coarse:
    """An eye: coarse pixels."""

    metrics: ClassVar[tuple[str, ...]] = ("kid_dinov2", "fd_dinov2")

    def __init__(self, key: str = "coarse") -> None:
        self.key, self.looked = key, 0

    def features(self, pixels: np.ndarray) -> np.ndarray:
        self.looked += len(pixels)
        coarse = pixels.reshape(len(pixels), 4, 32, 4, 32, 3).mean(axis=(2, 4), dtype=np.float32)
        return coarse.reshape(len(pixels), -1) / 255


@pytest.fixture
def few(tmp_path: Path) -> Path:
    folder = tmp_path / "few"
    fill(folder, Experiment.from_yaml(YAML), scene_or_noise)
    return folder


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(further, "REFERENCE", 256)
    folder = tmp_path / "many"
    fill(folder, Experiment.from_yaml(YAML, prompts="scenes:8", seeds="0..15"), scene_or_noise)
    return folder


def opened(folder: Path) -> Store:
    with Store.open(folder) as store:
        experiment = store.experiment
    return Store.create(folder, experiment)


def test_a_critic_looks_at_every_picture_once(few: Path) -> None:
    with opened(few) as store:
        assert measure(store, first := Bright()) == first.looked == len(store.results()) == 24
        found = [result.metrics["clip_score"] for result in store.results()]
        assert len(set(found)) > 20
        assert measure(store, again := Bright()) == again.looked == 0
        table = compare(store, "clip_score", "real scenes")
        assert [row.setting for row in table.rows] == ["noise"]
        assert measure(store, other := Bright("other weights")) == other.looked == 24
        assert measure(store, Bright("other weights")) == 0


def test_a_critic_goes_on_where_it_was_stopped(few: Path) -> None:
    with opened(few) as store:
        with pytest.raises(KeyboardInterrupt):
            measure(store, Bright(breaks_after=1))
        there = sum("clip_score" in result.metrics for result in store.results())
        assert there == further.AT_ONCE
        assert measure(store, Bright()) == 24 - there
        assert all("clip_score" in result.metrics for result in store.results())


def test_an_eye_measures_sets_beside_the_floor_and_keeps_the_others(many: Path) -> None:
    with opened(many) as store:
        store.record_set_metrics({}, {}, ("kid",))
        assert measure(store, eye := Coarse()) == 256
        assert eye.looked == 256 + 256 + 128  # the run, the real ones, the floor
        sets = store.set_metrics()
        assert set(sets) == {"real", "real scenes", "noise"}
        assert all(set(row) == {"kid_dinov2", "fd_dinov2"} for row in sets.values())
        assert sets["noise"]["kid_dinov2"].value > 10 * abs(sets["real scenes"]["kid_dinov2"].value)
        assert sets["real scenes"]["kid_dinov2"].low is not None
        assert sets["real scenes"]["fd_dinov2"].low is None  # no interval, as documented
        table = compare(store, "kid_dinov2", "real scenes")
        assert table.floor is not None
        assert table.rows[0].low is not None
        assert table.rows[0].low > 0
        assert measure(store, Coarse()) == 0  # from the cache
        scoring.record_sets(store, {}, Reference.of(np.random.default_rng(0).normal(size=(20, 4))), None)
        assert store.set_metrics() == sets


def test_the_distances_are_those_of_all_set_metrics() -> None:
    random = np.random.default_rng(0)
    rows = {name: random.normal(size=(20, 6)) for name in "abcdefgh"}
    reference = Reference.of(random.normal(size=(300, 6)))
    all_, far = set_metrics(rows, reference), distances(rows, reference)
    assert far["kid"] == all_["kid"]
    assert far["fid"].value == all_["fid"].value
    assert far["fid"].without == ()
    assert set(distances({name: some[:1] for name, some in rows.items()}, reference)) == {"kid"}  # 8 < 2 x 6


def test_real_pictures_can_be_ones_own(many: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "notes.txt").write_text("no image")
    random = np.random.default_rng(0)
    for number in range(128):
        Image.fromarray(random.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(real / f"{number}.png")
    with opened(many) as store:
        measure(store, Coarse(), real)
        sets = store.set_metrics()
    assert "real" not in sets
    assert sets["noise"]["kid_dinov2"].value < sets["real scenes"]["kid_dinov2"].value


def test_some_of_many_real_pictures_against_the_others_are_the_floor(many: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    random = np.random.default_rng(0)
    for number in range(300):
        Image.fromarray(random.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(real / f"{number}.png")
    with opened(many) as store:
        assert measure(store, eye := Coarse(), real) == 256
        assert eye.looked == 256 + 300
        floor = compare(store, "kid_dinov2", "real scenes").floor
        assert floor is not None
        assert (floor.n, floor.low) == (128, None)
        assert abs(floor.value) < 0.01 * store.set_metrics()["real scenes"]["kid_dinov2"].value
        measure(store, again := Coarse(), real)
        assert again.looked == 0  # what it saw of the real ones is kept, too


def test_what_cannot_be_measured_is_one_line(few: Path, many: Path, tmp_path: Path) -> None:
    with opened(few) as store:
        with pytest.raises(InputError, match="needs 128 images of a setting, and there are 12; draw more"):
            measure(store, Coarse())
        assert store.set_metrics() == {}
    empty = tmp_path / "empty"
    empty.mkdir()
    with opened(many) as store:
        with pytest.raises(InputError, match="nowhere: is no folder; --real names"):
            measure(store, Coarse(), tmp_path / "nowhere")
        with pytest.raises(InputError, match="empty: has 0 images, and 128 real ones are needed"):
            measure(store, Coarse(), empty)
        for side in (32, 64):
            Image.new("RGB", (side, side)).save(empty / f"{side}.png")
        with pytest.raises(InputError, match="empty: its images have several sizes"):
            measure(store, Coarse(), empty)
    other = Experiment.from_yaml(YAML, seeds="0..63")
    fill(tmp_path / "other", other, scene_or_noise)
    with opened(tmp_path / "other") as store, pytest.raises(InputError, match=r"give a folder of them, --real FOLDER"):
        measure(store, Coarse())
    with Store.create(tmp_path / "new", other) as store, pytest.raises(InputError, match="has no images yet"):
        measure(store, Bright())


def test_a_search_can_have_a_judge(tiny: Path, tmp_path: Path) -> None:
    search = Search.of(
        "constant({w:1..4})", ("clip_score",), ["a cat", "a dog", "a frog", "a fox"], steps=2, model=str(tiny)
    )
    draw = SharedModel(search, "cpu", None, False, [critic := Bright()])
    measured = Objective(search, tmp_path, draw).measure(Guidance(2), 0)
    assert critic.looked == len(measured.by_image) == 2
    assert measured.values == (pytest.approx(np.mean(list(measured.by_image.values()))),)


def test_the_command_scores_and_writes_the_report(
    few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metric_models, "metric_models_of", lambda *_: [Bright()])
    assert call(["score", str(few), "clip_score"]) == 0
    said = capsys.readouterr().out
    assert "clip_score: 24 images looked at" in said
    assert "CLIPScore" in (few / "report.html").read_text()
    assert "clip_score" in (few / "results.csv").read_text()
    assert call(["compare", str(few), "--metric", "clip_score"]) == 0
    assert call(["score", str(few / "nowhere"), "clip_score"]) == 2
    capsys.readouterr()
    monkeypatch.setattr(metric_models, "metric_models_of", lambda *_: pytest.fail("weights were downloaded"))
    assert call(["score", str(few), "kid_dinov2"]) == 2
    assert "needs 128 images of a setting" in capsys.readouterr().err
    assert call(["compare", str(few), "--metric", "kid_dinov2"]) == 2
    assert f"cfglab score {few} kid_dinov2 measures it" in capsys.readouterr().err
    assert call(["compare", str(few), "--metric", "pick_score"]) == 2
    assert "cfglab score RUN pick_score measures it" in capsys.readouterr().err
