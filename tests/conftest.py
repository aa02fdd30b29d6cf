"""Fixtures shared by the whole suite."""

import gc
from collections.abc import Iterator

import pytest

from cfglab.guidance.registry import TRANSFORMS
from cfglab.schedules.registry import KINDS, PUBLISHED
from tests.oracles import Published, install_published

FIRST = (
    *("tests/ui/test_playground.py", "tests/integrations/test_ray.py", "tests/torture/test_killed.py"),
    *("tests/report/test_browser.py", "tests/notebook/test_kernel.py", "tests/test_package.py"),
)
"""What these start for all of their tests takes seconds: a server, a cluster, a kernel, a browser, a wheel."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files of FIRST first: a worker that is done takes tests from the end of the other one's, and would start
    everything once more for the last few of them."""
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


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
