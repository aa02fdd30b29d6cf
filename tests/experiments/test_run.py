"""Runs on a tiny random model: resuming, failing, repairing, and drawing an image again."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cfglab.errors import InputError, MachineError
from cfglab.experiments.backends.pipeline import PipelineBackend
from cfglab.experiments.execution import run as running
from cfglab.experiments.execution.reproduce import reproduce
from cfglab.experiments.execution.run import Run
from cfglab.experiments.spec import batching as planning
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.storage.png import read_pixels, read_record
from cfglab.experiments.storage.store import Store
from cfglab.pipelines.loading import load as loading

Small = Callable[..., Experiment]
real_generate = PipelineBackend.generate
real_load = loading.load


@pytest.fixture(autouse=True)
def batches_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four batches in the small experiment: one for each prompt and seed. A model is read from disk once."""
    monkeypatch.setattr(planning, "largest", lambda *_: 3)
    monkeypatch.setattr(loading, "load", load_once)


@cache
def load_once(name: str, **options: Any) -> Any:
    return real_load(name, **options)


@pytest.fixture(scope="module")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The small experiment, run once without interruption."""
    from tests.experiments.examples import SMALL

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "largest", lambda *_: 3)
        return running.run(
            Experiment.from_yaml(SMALL, model=str(tiny)), tmp_path_factory.mktemp("runs") / "a", "cpu", score=False
        )


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "images").iterdir()}


def test_a_run_draws_every_cell(finished: Run) -> None:
    assert (finished.drawn, finished.failed) == (12, 0)
    results = finished.store.results()
    assert [it.position for it in results] == list(range(12))
    assert {it.status for it in results} == {"done"}
    assert {(it.setting, it.prompt, it.seed) for it in results} == {
        (setting.name, prompt, seed)
        for setting in finished.store.experiment.settings
        for prompt in finished.store.experiment.prompts
        for seed in (0, 1)
    }
    for it in results:
        record = read_record(finished.folder / str(it.image))
        assert record.cell.id == it.cell
        assert (record.cell.prompt, record.cell.seed) == (it.prompt, it.torch_seed)
        assert read_pixels(finished.folder / str(it.image)).shape == (64, 64, 3)
        assert set(it.metrics) == {"saturation", "clipped_share", "contrast"}
    # three settings share their noise and their first scale: of 6 rows in each of 3 steps, two steps run 2
    assert sum(it.rows_run for it in results) == 4 * (2 + 2 + 6)
    assert sum(it.rows_run + it.rows_saved for it in results) == 12 * 2 * 3
    hidden = {".lock", ".session.json", "results.sqlite-shm", "results.sqlite-wal"}
    names = {path.name for path in finished.folder.iterdir()} - hidden
    assert names == {"images", "results.sqlite", "results.csv", "experiment.yaml", "versions.json"}
    assert len((finished.folder / "results.csv").read_text().splitlines()) == 13


def test_a_picture_is_what_the_pipeline_itself_draws(finished: Run, tiny: Path) -> None:
    """A constant scale, the noise drawn here: the plain pipeline gives the same image."""
    from cfglab.pipelines import load

    pipe = load(tiny, device="cpu", sampler="lms")
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(1))
    expected = pipe("a cat", latents=noise, num_inference_steps=3, guidance_scale=7.5).images[0]
    it = next(it for it in finished.store.results() if (it.setting, it.prompt, it.seed) == ("constant", "a cat", 1))
    actual = read_pixels(finished.folder / str(it.image))
    assert np.abs(actual.astype(int) - np.asarray(expected).astype(int)).max() <= 1


def test_a_finished_run_is_known_without_the_model_and_stays_as_it_is(
    finished: Run, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pictures(finished.folder)
    monkeypatch.setattr(running, "load_model", lambda *_: pytest.fail("the model was loaded"))
    again = running.run(small(), finished.folder, "cpu", score=False)
    assert (again.drawn, again.failed) == (0, 0)
    assert pictures(finished.folder) == before


def test_a_finished_run_loads_no_torch(finished: Run) -> None:
    code = (
        "import sys; from cfglab.experiments import Experiment, run;"
        "from cfglab.experiments.spec import batching as plan; plan.largest = lambda *_: 3;"
        f"folder = {str(finished.folder)!r};"
        "again = run(Experiment.from_yaml(folder + '/experiment.yaml'), folder, score=False);"
        "print(again.drawn, sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 []"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MachineError])
def test_an_interrupted_run_continues_to_the_same_bytes(
    finished: Run, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    calls: list[int] = []

    def interrupted(backend: Any, batch: Any) -> Any:
        calls.append(len(batch))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real_generate(backend, batch)

    def full(path: Path, content: bytes) -> None:
        if path.suffix == ".png" and len(list(path.parent.iterdir())) == 7:
            raise MachineError("the disk is full")
        real_write(path, content)

    real_write = running.write_whole  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        if stop is KeyboardInterrupt:
            patch.setattr(PipelineBackend, "generate", interrupted)
        else:
            patch.setattr(running, "write_whole", full)
        with pytest.raises(stop):
            running.run(small(), tmp_path / "run", "cpu", score=False)
    with Store.open(tmp_path / "run") as store:
        assert len(store.results()) == 6  # whole batches, nothing of the third
    assert len((tmp_path / "run" / "results.csv").read_text().splitlines()) == 7
    again = running.run(small(), tmp_path / "run", "cpu", score=False)
    assert again.drawn == 6
    assert pictures(tmp_path / "run") == pictures(finished.folder)


def test_a_model_that_fails_is_recorded_and_tried_again(
    finished: Run, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(backend: Any, batch: Any) -> Any:
        if batch[0].seed == 1 and batch[0].prompt == "a cat":
            raise RuntimeError("no memory\nfor this")
        return real_generate(backend, batch)

    with monkeypatch.context() as patch:
        patch.setattr(PipelineBackend, "generate", failing)
        run = running.run(small(), tmp_path / "run", "cpu", score=False)
    assert (run.drawn, run.failed) == (9, 3)
    failed = [it for it in run.store.results() if it.status == "failed"]
    assert {(it.prompt, it.seed) for it in failed} == {("a cat", 1)}
    assert "Traceback" in str(failed[0].error)
    assert "no memory" in str(failed[0].error)
    assert failed[0].image is None
    run.store.close()
    again = running.run(small(), tmp_path / "run", "cpu", score=False)
    assert (again.drawn, again.failed) == (3, 0)
    assert pictures(tmp_path / "run") == pictures(finished.folder)


def test_pictures_that_are_not_finite_fail_alone_and_for_good(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(backend: Any, batch: Any) -> Any:
        drawn = real_generate(backend, batch)
        drawn.pixels[1, 0, 3, 3] = np.nan
        return drawn

    monkeypatch.setattr(PipelineBackend, "generate", spoilt)
    run = running.run(small(seeds=0, prompts=["a cat"]), tmp_path / "run", "cpu", score=False)
    assert (run.drawn, run.failed) == (2, 1)
    bad = next(it for it in run.store.results() if it.status == "failed")
    assert bad.setting == "falling k=0.3"
    assert "not finite (NaN or infinity); try dtype float32" in str(bad.error)
    run.store.close()
    again = running.run(small(seeds=0, prompts=["a cat"]), tmp_path / "run", "cpu", score=False)
    assert (again.drawn, again.failed) == (0, 1)


def test_a_guidance_that_overflows_fails_alone_and_for_good(small: Small, tmp_path: Path) -> None:
    wild = small(seeds=0, prompts=["a cat"], set={"baseline.guidance": "1e38"})
    run = running.run(wild, tmp_path / "run", "cpu", score=False)
    assert (run.drawn, run.failed) == (2, 1)
    bad = next(it for it in run.store.results() if it.status == "failed")
    assert bad.setting == "constant"
    assert str(bad.error).startswith("NaN in the guided prediction at step ")
    run.store.close()
    again = running.run(wild, tmp_path / "run", "cpu", score=False)
    assert (again.drawn, again.failed) == (0, 1)


def test_damaged_and_missing_pictures_are_made_again(finished: Run, small: Small, tmp_path: Path) -> None:
    run = running.run(small(), tmp_path / "run", "cpu", score=False)
    names = sorted(pictures(run.folder))
    whole = (run.folder / "images" / names[0]).read_bytes()
    (run.folder / "images" / names[0]).write_bytes(whole[:-9] + b"x" + whole[-8:])
    (run.folder / "images" / names[7]).unlink()
    again = running.run(small(), tmp_path / "run", "cpu", score=False)
    assert 3 <= again.drawn <= 6  # the batches of the two, no others
    assert pictures(run.folder) == pictures(finished.folder)


def test_what_fails_when_a_batch_is_drawn_again_takes_nothing_from_its_good_pictures(
    finished: Run, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("this card is broken")

    run = running.run(small(), tmp_path / "run", "cpu", score=False)
    name = sorted(pictures(run.folder))[0]
    (run.folder / "images" / name).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(PipelineBackend, "generate", broken)
        again = running.run(small(), tmp_path / "run", "cpu", score=False)
    assert (again.drawn, again.failed) == (0, 1)
    lost = [it for it in again.store.results() if it.status == "failed"]
    assert [f"{it.cell}.png" for it in lost] == [name]
    again.store.close()
    assert running.run(small(), tmp_path / "run", "cpu", score=False).failed == 0
    assert pictures(run.folder) == pictures(finished.folder)


def test_pictures_are_judged_as_their_batches_are_done(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    def stopped(backend: Any, batch: Any) -> Any:
        if drawn:
            raise KeyboardInterrupt
        drawn.append(batch)
        return real_generate(backend, batch)

    caption = "a photograph of an astronaut riding a horse"
    with monkeypatch.context() as patch:
        patch.setattr(PipelineBackend, "generate", stopped)
        with pytest.raises(KeyboardInterrupt):
            running.run(small(prompts=[caption], width=128, height=128), tmp_path / "run", "cpu")
    expected = {"alignment", "alignment_whole", "alignment_a", "alignment_b", "alignment_relation", "contrast"}
    with Store.open(tmp_path / "run") as store:
        assert [set(it.metrics) >= expected for it in store.results()] == [True] * 3
        assert store.set_metrics() == {}


def test_beside_another_writer_no_model_is_loaded(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = running.run(small(), tmp_path / "run", "cpu", score=False)
    next((run.folder / "images").iterdir()).unlink()
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    with Store.create(run.folder, small()), pytest.raises(InputError, match="is writing there"):
        running.run(small(), run.folder, "cpu", score=False)


def test_a_row_that_lost_its_picture_is_drawn_again(finished: Run, small: Small, tmp_path: Path) -> None:
    run = running.run(small(), tmp_path / "run", "cpu", score=False)
    with sqlite3.connect(run.folder / "results.sqlite") as database:
        database.execute("UPDATE results SET image = NULL, sha256 = NULL WHERE position = 5")
    database.close()
    assert running.run(small(), tmp_path / "run", "cpu", score=False).drawn == 3
    assert pictures(run.folder) == pictures(finished.folder)
    assert run.store.results() == finished.store.results()


def test_a_refused_run_leaves_nothing_behind(small: Small, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model 'scense'.* did you mean scenes"):
        running.run(small(model="scense"), tmp_path / "run", "cpu")
    with pytest.raises(InputError, match="would be lost; shorten it"):
        running.run(small(prompts=["a cat " * 60]), tmp_path / "run", "cpu")
    with pytest.raises(InputError, match="no device 'gpu'"):
        running.run(small(), tmp_path / "run", "gpu")
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_and_another_experiment_are_refused(finished: Run, small: Small) -> None:
    before = pictures(finished.folder)
    with Store.create(finished.folder, small()), pytest.raises(InputError, match="is writing there"):
        running.run(small(), finished.folder, "cpu", score=False)
    with pytest.raises(InputError, match="'small' with steps 3, not 4; choose another --out"):
        running.run(small(steps=4), finished.folder, "cpu", score=False)
    assert pictures(finished.folder) == before


def test_other_weights_are_another_run(
    small: Small, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = small(seeds=0, prompts=["a cat"])
    running.run(one, tmp_path / "run", "cpu", score=False)
    facts = running.model_facts(str(tiny))  # type: ignore[attr-defined]
    monkeypatch.setattr(running, "model_facts", lambda *_, **__: facts.model_copy(update={"weights": "f" * 64}))
    with pytest.raises(InputError, match=f"weights {facts.weights[:12]}, but the model here has ffffffffffff"):
        running.run(one, tmp_path / "run", "cpu", score=False)


@pytest.mark.parametrize("sampler", ["lms", "euler-a"])
def test_reproduce_makes_the_same_pixels(
    small: Small, tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = running.run(small(sampler=sampler, seeds="0..1", prompts=["a cat"]), tmp_path / "run", "cpu", score=False)
    monkeypatch.setattr(planning, "largest", lambda *_: 48)  # the recorded batch counts, not today's plan
    for it in run.store.results()[::2]:
        copy = reproduce(run.folder / str(it.image), tmp_path / "copy.png", "cpu")
        assert copy.identical
        assert (read_pixels(copy.path) == read_pixels(run.folder / str(it.image))).all()
        assert read_record(copy.path).cell.id == it.cell
        assert str(copy) == f"{copy.path}: the same pixels, torch seed {read_record(copy.path).cell.seed}"


def test_reproduce_says_what_differs_and_refuses_other_weights(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = finished.folder / str(finished.store.results()[0].image)
    module = sys.modules["cfglab.experiments.execution.reproduce"]
    monkeypatch.setattr(module, "versions", lambda: {**read_record(image).versions, "torch": "9"})
    copy = reproduce(image, tmp_path / "copy.png", "cpu")
    assert copy.notes == (f"torch: {version('torch')} then, 9 now",)
    facts = running.model_facts(read_record(image).cell.model)  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "model_facts", lambda *_, **__: facts.model_copy(update={"weights": "f" * 64}))
    with pytest.raises(InputError, match="the ones here are ffffffffffff; install the version that drew it"):
        reproduce(image, tmp_path / "other.png", "cpu")
    assert not (tmp_path / "other.png").exists()


def test_the_progress_bar_is_silent_without_a_terminal(
    small: Small, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    running.run(small(seeds=0, prompts=["a cat"]), tmp_path / "run", "cpu", score=False)
    assert capfd.readouterr() == ("", "")


def test_a_run_compares_and_settings_are_really_different(finished: Run) -> None:
    comparison = finished.compare("contrast")
    assert comparison.baseline == "constant"
    assert {row.n for row in comparison.rows} == {4}
    by_setting: dict[str, list[float]] = {}
    for it in finished.store.results():
        by_setting.setdefault(it.setting, []).append(it.metrics["contrast"])
    assert len({tuple(values) for values in by_setting.values()}) == 3


def test_pictures_stay_the_same_in_other_batches(
    finished: Run, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is no part of a cell: the noise of each image is its own, only rounding differs."""
    monkeypatch.setattr(planning, "largest", lambda *_: 48)
    run = running.run(small(), tmp_path / "run", "cpu", score=False)
    for name in pictures(finished.folder):
        one, other = (read_pixels(folder / "images" / name).astype(int) for folder in (finished.folder, run.folder))
        assert np.abs(one - other).max() <= 1
