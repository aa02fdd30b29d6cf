"""The simulated device and its models, built once."""

import gc
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from torch.utils._python_dispatch import _disable_current_modes

from tests.cuda.models import Model
from tests.cuda.simulated import Device


@pytest.fixture(scope="session")
def session_device() -> Device:
    return Device()


@pytest.fixture
def device(session_device: Device) -> Iterator[Device]:
    """The simulated device; nothing has been recorded on it. Tensors made in the test are fakes."""
    gc.freeze()  # `Device.measured` collects what the test makes, without a look at everything before it
    session_device.waits.clear()
    session_device.launched = 0
    with session_device.active():
        yield session_device


@cache
def built(model: Model, device: Device, *, few_layers: bool) -> Any:
    """The pipeline of a model, built once, outside of the simulation: schedulers keep their values."""
    with _disable_current_modes():
        return model.build(device, few_layers)
