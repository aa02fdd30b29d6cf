"""A batch that fails is drawn in halves: what fits is drawn, what cannot be drawn fails alone, nothing else changes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cfglab.errors import InputError
from cfglab.experiments.backends.pipeline import PipelineBackend
from cfglab.experiments.execution import run as running
from cfglab.experiments.execution.outcome import LOST, generate_in_pieces, is_refusal
from cfglab.experiments.execution.reproduce import reproduce
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.png import read_record, to_bytes

Small = Callable[..., Experiment]
real_generate = PipelineBackend.generate
NO_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
)


def failing(when: Callable[[Sequence[Cell]], bool], error: BaseException, seen: list[int]) -> Callable[..., Any]:
    def generate(backend: PipelineBackend, batch: Sequence[Cell]) -> Any:
        seen.append(len(batch))
        if when(batch):
            raise error
        return real_generate(backend, batch)

    return generate


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "images").iterdir()}


@pytest.fixture(scope="module")
def batch() -> tuple[Cell, ...]:
    """Seven images of the shipped model: settings that share their first steps, two prompts, two seeds."""
    experiment = Experiment.preset(
        "k-decay", prompts="scenes:2", seeds="0..1", steps=3, set={"groups.0.axes.k": [0.3], "groups.1.axes.k": [0.3]}
    )
    return tuple(cell for _, cell in experiment.cells())[:7]


def pixels_of(found: Iterator[tuple[Sequence[Cell], Any]]) -> tuple[list[int], np.ndarray]:
    pieces = list(found)
    return [len(cells) for cells, _ in pieces], np.concatenate([drawn.pixels for _, drawn in pieces])


@pytest.fixture(scope="module")
def whole(scenes: Any, batch: tuple[Cell, ...]) -> np.ndarray:
    """The images of the batch, generated at once."""
    sizes, pixels = pixels_of(generate_in_pieces(PipelineBackend(scenes), batch))
    assert sizes == [7]
    return pixels


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda it: type(it).__name__)
def test_out_of_memory_a_batch_goes_on_in_halves_with_the_same_pictures(
    scenes: Any, batch: tuple[Cell, ...], whole: np.ndarray, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    tried: list[int] = []
    monkeypatch.setattr(PipelineBackend, "generate", failing(lambda it: len(it) > 2, error, tried))
    sizes, halved = pixels_of(generate_in_pieces(PipelineBackend(scenes), batch))
    assert sizes == [2, 2, 2, 1]
    assert tried == [7, 4, 2, 2, 3, 2, 1]
    assert 0 < np.abs(halved - whole).max() <= 1e-4
    levels = np.abs(to_bytes(halved).astype(int) - to_bytes(whole).astype(int))
    assert levels.max() <= 1
    assert (levels > 0).mean() <= 0.001


def test_a_failed_attempt_holds_nothing_while_its_halves_are_drawn(
    batch: tuple[Cell, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import weakref

    class Latents:
        """Stands for what the attempt had on the device."""

    living: list[weakref.ref[Latents]] = []

    def draw(_: Any, cells: Sequence[Cell]) -> Any:
        assert all(held() is None for held in living)
        mine = Latents()
        living.append(weakref.ref(mine))
        raise torch.OutOfMemoryError(f"{len(cells)} are too many")

    monkeypatch.setattr(PipelineBackend, "generate", draw)
    errors = [str(error) for _, error in generate_in_pieces(PipelineBackend(None), batch[:4])]
    assert len(living) == 7
    assert all(error.endswith("OutOfMemoryError: 1 are too many\n") for error in errors)


def test_a_stop_ends_the_run_at_once(batch: tuple[Cell, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(PipelineBackend, "generate", failing(lambda _: True, KeyboardInterrupt(), tried))
    with pytest.raises(KeyboardInterrupt):
        list(generate_in_pieces(PipelineBackend(None), batch))
    assert tried == [7]


def test_a_setting_that_the_model_refuses_fails_alone_and_a_refused_baseline_ends_the_run(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = small()
    other, base = experiment.settings[1], experiment.baseline

    def refusing(setting: Setting) -> Any:
        return failing(
            lambda cells: any(cell.guidance == setting.guidance for cell in cells), InputError("no layer 'mid'"), []
        )

    with monkeypatch.context() as patch:
        patch.setattr(PipelineBackend, "generate", refusing(other))
        run = running.run(experiment, tmp_path / "run", "cpu", score=False)
        wrong = {result.setting for result in run.store.results() if result.status == "failed"}
        assert wrong == {other.name}
        assert {result.error for result in run.store.results() if result.error} == {"no layer 'mid'"}
        patch.setattr(PipelineBackend, "generate", refusing(base))
        assert run.refused == run.failed > 0
        with pytest.raises(InputError, match="no layer 'mid'"):
            running.run(experiment, tmp_path / "other", "cpu", score=False)
    again = running.run(experiment, tmp_path / "run", "cpu", score=False)
    assert again.failed == 0


def test_a_cell_that_cannot_be_drawn_fails_alone_and_is_tried_again(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = small()
    finished = running.run(experiment, tmp_path / "whole", "cpu", score=False)
    bad = experiment.cells()[4][1]  # a setting, a prompt and a seed in the midst of the one batch of twelve
    with monkeypatch.context() as patch:
        patch.setattr(
            PipelineBackend, "generate", failing(lambda it: bad in it, ValueError("of this cell\nnothing comes"), [])
        )
        run = running.run(experiment, tmp_path / "run", "cpu", score=False)
        (failed,) = [it for it in run.store.results() if it.status == "failed"]
        assert (run.drawn, run.failed) == (11, 1)
        assert (failed.cell, failed.image) == (bad.id, None)
        assert str(failed.error).startswith("Traceback (most recent call last):")
        assert str(failed.error).endswith("ValueError: of this cell\nnothing comes\n")
        done = [it for it in run.store.results() if it.status == "done"]
        # each neighbour knows the piece that it was drawn in, and so comes back bit for bit
        image = run.folder / str(done[0].image)
        assert bad not in read_record(image).batch
        run.store.close()
        before = pictures(run.folder)
        again = running.run(experiment, tmp_path / "run", "cpu", score=False)
        assert (again.drawn, again.failed) == (11, 1)
        assert pictures(run.folder) == before
    assert reproduce(image, tmp_path / "copy.png", "cpu").identical
    again = running.run(experiment, tmp_path / "run", "cpu", score=False)
    assert (again.drawn, again.failed) == (12, 0)
    assert pictures(tmp_path / "run") == pictures(finished.folder)
    assert (tmp_path / "run" / "results.csv").read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()


def test_a_refusal_is_neither_a_traceback_nor_a_lost_worker() -> None:
    assert is_refusal("layer 'x': this network has none; name another.")
    assert not any(map(is_refusal, (None, LOST, "Traceback (most recent call last):\nMemoryError\n")))
