"""Tiny pipelines, built once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cfglab.pipelines import load
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("tiny") / "epsilon")


@pytest.fixture(scope="session")
def tiny_v_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("tiny") / "v", "v_prediction")


@pytest.fixture(scope="session")
def loaded(tiny_folder: Path) -> Any:
    pipe = load(tiny_folder, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pipe(loaded: Any) -> Iterator[Any]:
    """The tiny pipeline; its sampler may be replaced. Fails the test if its denoiser is not as it was."""
    scheduler, kind, keys = loaded.scheduler, type(loaded.unet), set(vars(loaded.unet))
    yield loaded
    loaded.scheduler = scheduler
    assert type(loaded.unet) is kind
    assert set(vars(loaded.unet)) == keys
