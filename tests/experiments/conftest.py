"""A tiny random model on disk, and small experiments on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfglab.experiments.spec.experiment import Experiment
from cfglab.pipelines import load
from tests.experiments.examples import SMALL
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random pipeline that draws images of 64×64."""
    return tiny_pipeline(tmp_path_factory.mktemp("tiny") / "model", factor=4)


@pytest.fixture(scope="session")
def scenes() -> Any:
    """The shipped model, with the sampler of the notebooks."""
    pipe = load("scenes", device="cpu", sampler="lms")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def small(tiny: Path) -> Callable[..., Experiment]:
    """`small(steps=2, set={…})`: three settings, two prompts, two seeds, twelve images on the tiny model."""

    def make(**changes: Any) -> Experiment:
        return Experiment.from_yaml(SMALL, **{"model": str(tiny), **changes})

    return make


@pytest.fixture(autouse=True)
def _once(models_read_once: None) -> None:
    """For every test of this folder."""
