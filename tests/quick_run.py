"""A run without a model, drawn in milliseconds: what an experiment's folder goes through, without torch."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfglab.experiments.execution import run as running
from cfglab.experiments.execution.outcome import Batch, Executor, Outcome, Workers
from cfglab.experiments.execution.run import Run
from cfglab.experiments.spec import batching as plan
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import ModelFacts
from cfglab.experiments.storage.png import encode

YAML = """
name: quick
prompts: [a cat, a dog]
seeds: 0..1
steps: 2
baseline: {name: constant, guidance: 3}
groups:
  - {name: more, guidance: 7.5}
"""
FACTS = ModelFacts(weights="0" * 64, sampler_config={}, width=8, height=8, factor=4)


def quick(**changes: Any) -> Experiment:
    """Two settings, two prompts, two seeds: eight images in four batches."""
    return Experiment.from_yaml(YAML, **changes)


def drawing(before: Callable[[int], object] = lambda _: None) -> Executor:
    """An executor that makes up images; `before` is called with the number of the batch that comes."""

    @contextmanager
    def executor(_load: Any, _device: str, _most: int) -> Iterator[Workers]:
        def draw(batches: Sequence[Batch]) -> Iterator[list[Outcome]]:
            for number, batch in enumerate(batches):
                before(number)
                pixels = np.stack([np.full((8, 8, 3), int(cell.id[:2], 16), np.uint8) for cell in batch])
                files = encode(pixels, batch, {})
                yield [Outcome(cell, file, metrics={"contrast": 0.5}) for cell, file in zip(batch, files, strict=True)]

        yield Workers({"torch": "none"}, draw)

    return executor


def run_quickly(
    folder: Path, before: Callable[[int], object] = lambda _: None, experiment: Experiment | None = None
) -> Run:
    """Run the experiment in a folder, in batches of two images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "model_facts", lambda *_, **__: FACTS)
        patch.setattr(plan, "largest", lambda *_: 2)
        return running.run(experiment or quick(), folder, quiet=True, executor=drawing(before))


def contents(folder: Path) -> dict[str, Any]:
    """Everything that a run folder holds, byte by byte; of databases every row of every table."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name in (".lock", ".session.json") or name.endswith(("-shm", "-wal")):
            continue
        if path.suffix == ".sqlite":
            with closing(sqlite3.connect(path)) as database:
                found[name] = sorted(database.iterdump())
        else:
            found[name] = path.read_bytes()
    return found
