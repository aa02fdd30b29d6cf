"""Every method on a simulated CUDA device: alone on Stable Diffusion 1.5, and all of them in one batch."""

from typing import Any

import pytest
import torch

import cfglab as cl
from cfglab.denoising.row_skipping import GuidedRows
from cfglab.errors import InputError
from cfglab.guidance import Guidance, SkipLayers, Transform
from cfglab.guidance.perturbations import weak_models
from cfglab.step import steps
from tests.cuda.conftest import built
from tests.cuda.models import MODELS, SD15, Model
from tests.cuda.simulated import DEVICE, Device
from tests.cuda.test_half import run
from tests.guidance.examples import EDITING, VALUES

READS_NUMBERS = {"adaptive"}
"""What runs next depends on a number: it is read when the next step is planned."""
DRAWS_NOISE = {"cads", "icg", "tsg"}
"""Noise that depends on the sample, drawn on the CPU so that it is the same on every device."""
OWN_ROWS = {"image_guidance", "audio_guidance", "modality_guidance"}
"""They ask for rows that only edit models have, or for a sound."""
SCALES = {"feedback": 1.0}
UNETS = ("Stable Diffusion 1.5", "SDXL")


@pytest.fixture(autouse=True)
def twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weaker model of the name `twin`: the denoiser itself."""
    monkeypatch.setitem(weak_models._WEAK, "twin", lambda denoiser: denoiser)


def guidance(value: Transform) -> Guidance:
    return Guidance(SCALES.get(value.kind, 5.0), [value])


def fitting(value: Transform, model: Model) -> Transform:
    """The value with a layer that the cut network has."""
    if value.kind != "skip_layers":
        return value
    return SkipLayers(layers=("mid" if model.name in UNETS else "0",))


def one_prediction_more(value: Transform) -> bool:
    return any(value.variation(step) is not None for step in steps(4))


def check_waits(device: Device, kinds: set[str]) -> None:
    """The waits in the steps are those of the methods that cannot do without."""
    allowed = set()
    if kinds & READS_NUMBERS:
        allowed.add("__bool__")
    if kinds & DRAWS_NOISE:
        allowed |= {"signatures", "_noised"}
    assert {wait.where.rpartition(" ")[2] for wait in device.waits_in_steps()} <= allowed


@pytest.mark.parametrize(
    "further",
    [pytest.param(False, id="two passes"), pytest.param(True, id="further passes", marks=pytest.mark.slow)],
)
def test_every_method_runs_on_a_device_in_one_batch(device: Device, further: bool) -> None:
    pipe = built(SD15, device, few_layers=True)
    values = [
        value
        for value in VALUES
        if one_prediction_more(value) is further and value not in EDITING and value.kind not in OWN_ROWS
    ]
    values = [fitting(value, SD15) for value in values]
    values = list({value.kind: value for value in values}.values()) if further else values
    assert len(values) > 10
    with cl.guide(pipe, [guidance(value) for value in values]) as trace:
        result = SD15.call(pipe, len(values), same=True)
    assert (result.shape, result.dtype, result.device) == ((len(values), 4, 64, 64), torch.float16, DEVICE)
    assert all(isinstance(lengths, torch.Tensor) and lengths.device == DEVICE for _, lengths in trace.steps[0].lengths)
    check_waits(device, {value.kind for value in values})


@pytest.mark.slow
@pytest.mark.parametrize("model", [model for model in MODELS if model.name != "FLUX.1-dev"], ids=lambda it: it.name)
def test_every_method_alone_on_every_model(model: Model, device: Device) -> None:
    pipe = built(model, device, few_layers=True)
    plain, refused = model.call(pipe), {}
    for value in VALUES:
        device.waits.clear()
        device.launched = 0
        if getattr(value, "prompt", None) is not None and not model.prompts:
            continue
        try:
            with cl.guide(pipe, guidance(fitting(value, model))):
                result = model.call(pipe)
        except InputError as error:
            refused[value.kind] = str(error)
            continue
        assert (result.shape, result.dtype, result.device) == (plain.shape, plain.dtype, plain.device), value
        check_waits(device, {value.kind})
    assert all("\n" not in message for message in refused.values())
    assert len(refused) < 12, refused


def combined(device: Device, spec: Any, dtype: torch.dtype) -> tuple[float, float]:
    """In latents of `dtype`: what is alive between the steps, and at most inside one, beside the two predictions."""
    rows = GuidedRows([spec], claims=[])
    latents = torch.empty(2, 4, 64, 64, dtype=dtype, device=DEVICE)
    unit = latents.untyped_storage().nbytes() / 2

    def network(needed: list[int] | None, _: object) -> torch.Tensor:
        return torch.empty(len(needed or (0, 1)), 4, 64, 64, dtype=dtype, device=DEVICE)

    kept, most = 0.0, 0.0
    start = device.memory.alive
    for step in run():
        with device.measured() as peak:
            guided, record = rows.predict(step, latents, (), network, labels=[0, 1])
        most = max(most, peak[0] / unit - 2)
        del guided, record
        kept = max(kept, (device.memory.alive - start) / unit)
    return kept, most


@pytest.mark.parametrize("value", [value for value in VALUES if not one_prediction_more(value)], ids=str)
def test_a_method_keeps_at_most_three_latents_from_step_to_step(device: Device, value: Transform) -> None:
    kept, _ = combined(device, guidance(value), torch.float32)
    assert kept <= 3.01


def test_plain_guidance_makes_one_tensor_and_its_norms_another(device: Device) -> None:
    _, most = combined(device, Guidance(7.5), torch.float16)
    assert most <= 3.01  # the guided prediction, and cond - uncond in float32
