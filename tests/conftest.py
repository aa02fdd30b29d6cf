"""Fixtures shared by the whole suite."""

import gc
from collections.abc import Iterator

import pytest

from cfglab.guidance.registry import TRANSFORMS
from cfglab.schedules.registry import KINDS, PUBLISHED
from tests.oracles import Published, install_published


def pytest_collection_finish() -> None:
    """What the tests import stays to their end: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def published() -> Published:
    """cf-guidance 0.0.3 and min-diffusion 0.0.3: `published.module("cf_guidance.schedules").get_cos_sched(...)`."""
    return install_published()


@pytest.fixture
def names_as_before() -> Iterator[None]:
    """Schedules and transforms that a test defines lose their names at its end."""
    before = [registry.names() for registry in (KINDS, PUBLISHED, TRANSFORMS)]
    yield
    for registry, names in zip((KINDS, PUBLISHED, TRANSFORMS), before, strict=True):
        for name in registry.names() - names:
            del registry[name]


@pytest.fixture
def models_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cfglab.load` reads a model folder from disk once in a process; each load is a copy."""
    from tests.tiny import read_once

    monkeypatch.setattr("cfglab.pipelines.loading.load._read_pipeline", read_once)
