"""Published models at their real widths, guided on a simulated CUDA device: devices, dtypes, waits, memory."""

from typing import Any

import diffusers
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes as outside

import cfglab as cl
from tests.cuda.conftest import built
from tests.cuda.models import FEW_BLOCKS, MODELS, SD15, SD15_UNET, Model, sd15_parts
from tests.cuda.simulated import DEVICE, Device

FLUX = next(model for model in MODELS if model.name == "FLUX.1-dev")
EMBEDDED = "linear(max=4)"
TWO = ["6 | apg(momentum=-0.5) | rescale(strength=0.7)", "constant(4).inside(progress=(0.5, 1))"]
"""One guidance per image: one with memory, and one that is off in the first half."""


def check(model: Model, device: Device, pipe: Any, guidance: Any) -> None:
    """The pipeline as it is and guided: same output, no wait in a step, little memory."""
    images = len(guidance) if isinstance(guidance, list) else 1
    with device.measured() as untouched:
        plain = model.call(pipe, images, steps=1)
    device.waits.clear()
    device.launched = 0
    with device.measured() as guided_peak, cl.guide(pipe, guidance) as trace:
        guided = model.call(pipe, images)
    assert (guided.shape, guided.dtype, guided.device) == (plain.shape, plain.dtype, plain.device)
    assert guided.device.type == "cuda"
    assert len(trace.steps) == 2
    assert device.launched > 0
    assert device.waits_in_steps() == []
    unit = images * model.latents * 4  # float32, in which methods compute
    assert guided_peak[0] - untouched[0] <= 3 * unit


QUICK = ("SD 3.5 Large", "FLUX.1-dev", "Wan 2.2 T2V-A14B")
"""One model for each way in which a pipeline calls its denoiser."""


@pytest.mark.parametrize(
    "model",
    [pytest.param(model, id=model.name, marks=() if model.name in QUICK else pytest.mark.slow) for model in MODELS],
)
def test_a_published_model_is_guided_on_a_device_without_waiting_for_it(model: Model, device: Device) -> None:
    check(model, device, built(model, device, few_layers=True), EMBEDDED if model is FLUX else TWO)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_published_model_is_guided_at_its_full_depth(model: Model, device: Device) -> None:
    check(model, device, built(model, device, few_layers=False), EMBEDDED if model is FLUX else TWO)


def test_plain_guidance_takes_no_memory_beside_what_the_pipeline_takes(device: Device) -> None:
    pipe = built(SD15, device, few_layers=True)
    with device.measured() as untouched:
        SD15.call(pipe)
    with device.measured() as guided, cl.guide(pipe, "linear(max=7.5)"):
        SD15.call(pipe)
    assert guided[0] - untouched[0] <= SD15.latents * 2


def test_images_with_equal_seeds_share_rows_by_bookkeeping(device: Device) -> None:
    """Off in the first half: two images are one until then, which is known without reading the latents."""
    pipe = built(SD15, device, few_layers=True)
    late = [f"constant({w}).inside(progress=(0.5, 1))" for w in (5, 7)]
    with cl.guide(pipe, late) as trace:
        SD15.call(pipe, 2, steps=4, same=True)
    assert [record.rows_run for record in trace.steps] == [1, 1, 2, 4]
    assert device.waits_in_steps() == []


def test_a_sampler_that_adds_noise_is_compared_and_not_believed(device: Device) -> None:
    pipe = built(SD15, device, few_layers=True)
    with outside():
        ancestral = diffusers.EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    before, pipe.scheduler = pipe.scheduler, ancestral
    try:
        with cl.guide(pipe, ["3", "3"]) as trace:
            SD15.call(pipe, 2, steps=2, same=True)
    finally:
        pipe.scheduler = before
    assert trace.steps[0].rows_run == 2
    assert {wait.where.rpartition(" ")[2] for wait in device.waits_in_steps()} == {"_split_on_device"}


def test_a_controlnet_runs_beside_the_denoiser(device: Device) -> None:
    network = {**SD15_UNET, **{name: FEW_BLOCKS[name] for name in FEW_BLOCKS if name != "up_block_types"}}
    network.pop("sample_size")
    with outside(), torch.device("meta"):
        controlnet: nn.Module = diffusers.ControlNetModel(**network)
    with outside():
        parts = sd15_parts(device, **FEW_BLOCKS)
    pipe = diffusers.StableDiffusionControlNetPipeline(
        **parts, controlnet=device.place(controlnet, torch.float16), requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    hint = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    with cl.guide(pipe, "constant(5).inside(progress=(0.5, 1))") as trace:
        result = SD15.call(pipe, image=hint)
    assert (result.dtype, result.device) == (torch.float16, DEVICE)
    assert [record.rows_run for record in trace.steps] == [1, 2]
    assert device.waits_in_steps() == []


@pytest.mark.slow
def test_a_lora_runs_inside_the_denoiser(device: Device) -> None:
    peft = pytest.importorskip("peft")
    with outside(), torch.device("meta"):
        unet: Any = diffusers.UNet2DConditionModel(**SD15_UNET | FEW_BLOCKS)
        unet.add_adapter(peft.LoraConfig(r=4, target_modules=["to_q", "to_v"]), "style")
    pipe = built(SD15, device, few_layers=True)
    before, pipe.unet = pipe.unet, device.place(unet, torch.float16)
    try:
        check(SD15, device, pipe, TWO)
    finally:
        pipe.unet = before


def test_weights_that_are_offloaded_come_and_go_as_without_guidance(device: Device) -> None:
    accelerate = pytest.importorskip("accelerate")
    with outside(), torch.device("meta"):
        unet: nn.Module = diffusers.UNet2DConditionModel(**SD15_UNET | FEW_BLOCKS)
    pipe = built(SD15, device, few_layers=True)
    before, pipe.unet = pipe.unet, device.place(unet, torch.float16, torch.device("cpu"))
    hook = accelerate.hooks.AlignDevicesHook(execution_device=DEVICE, io_same_device=True, offload=False)
    moved: list[torch.device] = []

    class Offload(accelerate.hooks.ModelHook):  # type: ignore[name-defined, misc]
        """As accelerate's CpuOffload: weights on the device during a call, and on the CPU afterwards."""

        def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            device.place(module, None, DEVICE)
            moved.append(DEVICE)
            return args, kwargs

        def post_forward(self, module: nn.Module, output: Any) -> Any:
            device.place(module, None, torch.device("cpu"))
            return output

    accelerate.hooks.add_hook_to_module(unet, accelerate.hooks.SequentialHook(hook, Offload()))
    try:
        with cl.guide(pipe, "linear(max=5)", share_rows=True) as trace:
            result = SD15.call(pipe)
    finally:
        pipe.unet = before
    assert (result.dtype, result.device) == (torch.float16, DEVICE)
    assert len(trace.steps) == len(moved) == 2
    assert device.waits_in_steps() == []
