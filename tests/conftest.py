"""Fixtures shared by the whole suite."""

import pytest

from tests.oracles import Published, install_published


@pytest.fixture(scope="session")
def published() -> Published:
    """cf-guidance 0.0.3 and min-diffusion 0.0.3: `published.module("cf_guidance.schedules").get_cos_sched(...)`."""
    return install_published()
