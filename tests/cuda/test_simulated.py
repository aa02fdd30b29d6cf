"""The simulated device sees what it is there to see."""

from typing import Any

import pytest
import torch

from cfglab.guidance.methods.adaptive_guidance import _OnDevice
from tests.cuda.simulated import DEVICE, Device


def test_mixing_devices_raises_as_on_a_device(device: Device) -> None:
    with pytest.raises(RuntimeError, match="on the same device"):
        torch.ones(3, device=DEVICE) + torch.ones(3)
    assert device.library_waits() == []


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("item", lambda x: x.sum().item()),
        ("bool", lambda x: bool((x > 0).all())),
        ("list", lambda x: x.tolist()),
        ("cpu", lambda x: x.cpu()),
        ("equal", lambda x: torch.equal(x, x + 1)),
        ("mask", lambda x: x[x > 0]),
        ("upload", lambda x: x.new_tensor([1.0])),
        ("index", lambda x: x[torch.tensor([1, 0])]),
    ],
)
def test_what_makes_the_host_wait_is_recorded(device: Device, name: str, act: Any) -> None:
    x = torch.tensor([1.0, 2.0, 3.0]).to(DEVICE)
    device.waits.clear()
    act(x)
    assert {wait.kind for wait in device.waits} == {"upload" if name in ("upload", "index") else "read"}


@pytest.mark.parametrize("act", [lambda x: x[1:], lambda x: x * 2 + x.sum(), lambda x: torch.cat([x, x[:1]])])
def test_what_does_not_wait_is_not_recorded(device: Device, act: Any) -> None:
    x = torch.tensor([1.0, 2.0, 3.0]).to(DEVICE)
    device.waits.clear()
    act(x)
    assert device.waits == []


def test_small_tensors_keep_their_values_through_arithmetic_and_indexing(device: Device) -> None:
    x = torch.arange(12.0, device=DEVICE).reshape(3, 4)
    x[1, 2:] = 100.0
    assert x[:, None, -1].flatten().tolist() == [3.0, 100.0, 11.0]
    assert x[torch.tensor([2, 0], device=DEVICE)][:, 0].tolist() == [8.0, 0.0]
    assert device.library_waits() == []


def test_a_wait_names_the_code_of_the_library_that_asks_for_it(device: Device) -> None:
    flag = torch.ones((), dtype=torch.bool, device=DEVICE)
    assert bool(_OnDevice(flag))
    assert [wait.where.rpartition(" ")[2] for wait in device.library_waits()] == ["__bool__"]


def test_memory_counts_what_is_alive(device: Device) -> None:
    with device.measured() as added:
        x = torch.empty(1000, dtype=torch.float16, device=DEVICE)
        y = x[:10]
        z = x + 1
        del x, z
        torch.empty(500, dtype=torch.float16, device=DEVICE)
        assert y.shape == (10,)  # a view keeps all of its storage alive
    assert added == [4000]
