"""Tiny random models for the tests of the notebooks' packages."""

import warnings
from pathlib import Path
from typing import Literal

import pytest

from tests.tiny import tiny_pipeline


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that predicts epsilon: latents 16 x 16, 8 pixels each."""
    return _built(tmp_path_factory.mktemp("models") / "epsilon", "epsilon")


@pytest.fixture(scope="session")
def tiny_v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that predicts v."""
    return _built(tmp_path_factory.mktemp("models") / "v", "v_prediction")


def _built(folder: Path, prediction_type: Literal["epsilon", "v_prediction"]) -> Path:
    with warnings.catch_warnings():  # diffusers on the scheduler's steps_offset
        warnings.simplefilter("ignore")
        return tiny_pipeline(folder, prediction_type)


@pytest.fixture(autouse=True)
def _once(models_read_once: None) -> None:
    """For every test of this folder."""
