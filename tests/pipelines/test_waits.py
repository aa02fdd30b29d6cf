"""Where guide() waits for the device: in the first denoiser call of a run, and once behind the loop."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import cfglab
from cfglab.errors import InputError
from cfglab.guidance import Guidance, PredictionNorm
from cfglab.pipelines import guide
from tests.pipelines.families import case

WAITS = ("cpu", "numpy", "item", "tolist", "equal", "nonzero", "is_nonzero", "__bool__", "__float__", "__int__")
OURS = str(Path(cfglab.__file__).parent)


class Watch(TorchFunctionMode):
    """What cfglab asks of tensors that a device would have to be waited for, with the number of network calls before.

    Predictions are said to be on a device, where whether they are numbers is looked at.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.waits: list[tuple[int, str]] = []

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if getattr(func, "__self__", None) is torch.Tensor.device and sys._getframe(1).f_code.co_name == "record":
            return torch.device("cuda")
        if name in WAITS and (asker := _asker(sys._getframe(1))):
            self.waits.append((self.calls, f"{name} in {asker}"))
        return func(*args, **(kwargs or {}))


def _asker(frame: FrameType | None) -> str:
    """The function of cfglab that asks; "" where diffusers does, or a test."""
    while frame is not None and "site-packages/torch/" in frame.f_code.co_filename:
        frame = frame.f_back
    return frame.f_code.co_name if frame is not None and frame.f_code.co_filename.startswith(OURS) else ""


def watched(name: str, guidance: Any, steps: int) -> Watch:
    made = case(name)
    pipe = made.build()
    watch = Watch()

    def count(*_: Any) -> None:
        watch.calls += 1

    count.row_independent = True  # type: ignore[attr-defined]
    for part in made.denoisers:
        getattr(pipe, part).register_forward_hook(count)
    with guide(pipe, guidance), watch:
        made.call(pipe, made.scales[1], steps=steps)
    return watch


@pytest.mark.parametrize("guidance", [3.0, Guidance(3.0, [PredictionNorm(space="model")])], ids=str)
@pytest.mark.parametrize(
    "name",
    [
        "StableDiffusionPipeline",
        "StableDiffusionXLPipeline",
        "StableDiffusion3Pipeline",
        "FluxPipeline",
        "QwenImagePipeline",
        "WanPipeline",
        "ZImagePipeline",
    ],
)
def test_a_loop_waits_at_its_first_call_only(name: str, guidance: Any) -> None:
    watch = watched(name, guidance, steps=3)
    last = 2 if case(name).style == "two calls" else 0  # of the first step: the second call completes the pair
    inside = [wait for wait in watch.waits if wait[0] < watch.calls]
    assert inside  # it can see
    assert [wait for wait in inside if wait[0] > last] == []
    assert [said for before, said in watch.waits if before == watch.calls] == ["tolist in finish"]
    longer = watched(name, guidance, steps=5)
    assert len(longer.waits) == len(watch.waits)


def test_on_a_device_a_prediction_that_is_no_number_is_said_behind_the_loop() -> None:
    made = case("StableDiffusionPipeline")
    pipe = made.build()
    watch = Watch()

    def broken(_module: Any, _args: Any, output: Any) -> Any:
        watch.calls += 1
        return (output[0] * float("nan"),) if watch.calls == 2 else None

    broken.row_independent = True  # type: ignore[attr-defined]
    pipe.unet.register_forward_hook(broken)
    with pytest.raises(InputError, match="NaN in the guided prediction at step 2 of 3 under 3"), guide(pipe, 3), watch:
        made.call(pipe, 5.0, steps=3)
    assert watch.calls == 3
