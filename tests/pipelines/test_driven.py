"""Numbers beside w that follow a schedule: against setting them by hand at every step, with diffusers' own setters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from cfglab.errors import InputError
from cfglab.pipelines import attach, detach, guide
from tests.pipelines.families import Case, case

STRENGTHS = (0.0, 1.0, 0.25)


def with_lora(name: str, component: str, adapter: str = "fast") -> tuple[Case, Any]:
    from peft import LoraConfig

    made = case(name)
    pipe = made.build()
    torch.manual_seed(0)
    getattr(pipe, component).add_adapter(
        LoraConfig(r=2, lora_alpha=3, target_modules=["to_q", "to_v"], init_lora_weights=False), adapter
    )
    return made, pipe


def by_hand(made: Case, pipe: Any, put: Callable[[float], None], scale: float = 3.0) -> torch.Tensor:
    """The untouched pipeline; its callback sets the number of the next step."""
    put(STRENGTHS[0])

    def callback(_pipe: Any, index: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        put(STRENGTHS[min(index + 1, 2)])
        return values

    return made.call(pipe, scale, steps=3, callback_on_step_end=callback)


@pytest.mark.parametrize(
    ("name", "component"),
    [("StableDiffusionPipeline", "unet"), ("FluxPipeline", "transformer"), ("FluxPipeline-embedded", "transformer")],
)
def test_a_lora_strength_follows_its_schedule_and_is_restored(name: str, component: str) -> None:
    made, pipe = with_lora(name, component)
    network = getattr(pipe, component)
    network.set_adapters(["fast"], [0.5])
    before = made.call(pipe, 3.0, steps=3)
    expected = by_hand(made, pipe, lambda value: network.set_adapters(["fast"], [value]))
    network.set_adapters(["fast"], [0.5])
    with guide(pipe, 3.0, also={"lora:fast": list(STRENGTHS)}):
        assert torch.equal(made.call(pipe, 5.0, steps=3), expected)
        assert torch.equal(made.call(pipe, 5.0, steps=3), expected)
    assert not torch.equal(before, expected)
    assert torch.equal(made.call(pipe, 3.0, steps=3), before)
    trace = attach(pipe, 3.0, also={"lora:fast": list(STRENGTHS)})
    assert torch.equal(made.call(pipe, 5.0, steps=3), expected)
    assert len(trace.steps) == 3
    detach(pipe)


def test_an_adapter_that_is_deleted_during_a_run_is_said_and_stays_deleted() -> None:
    made, pipe = with_lora("StableDiffusionPipeline", "unet")

    def callback(_pipe: Any, index: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        if index == 0:
            pipe.unet.delete_adapters("fast")
        return values

    with guide(pipe, 3.0, also={"lora:fast": list(STRENGTHS)}), pytest.raises(InputError, match="deleted during a run"):
        made.call(pipe, 5.0, steps=3, callback_on_step_end=callback)
    assert not any("fast" in getattr(layer, "scaling", {}) for layer in pipe.unet.modules())
    with pytest.raises(InputError, match="none is loaded"):
        guide(pipe, 3.0, also={"lora:fast": 1})


def test_strengths_are_restored_when_a_run_fails() -> None:
    made, pipe = with_lora("StableDiffusionPipeline", "unet")
    scaling = [dict(layer.scaling) for layer in pipe.unet.modules() if hasattr(layer, "scaling")]

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with guide(pipe, 3.0, also={"lora:fast": "[0, 0.5, 1]"}), pytest.raises(KeyboardInterrupt):
        made.call(pipe, 5.0, steps=3, callback_on_step_end=stop)
    assert [dict(layer.scaling) for layer in pipe.unet.modules() if hasattr(layer, "scaling")] == scaling


def test_a_strength_per_phase_of_noise() -> None:
    made, pipe = with_lora("StableDiffusionPipeline", "unet")
    seen: list[float] = []
    layer = next(layer for layer in pipe.unet.modules() if "fast" in getattr(layer, "scaling", {}))
    layer.register_forward_pre_hook(lambda *_: seen.append(layer.scaling["fast"] / 1.5))
    with guide(pipe, 3.0, also={"lora:fast": "phases(scales=(0, 1), sigma=(2,))"}, share_rows=True) as trace:
        made.call(pipe, 5.0, steps=3)
    assert seen == [0.0 if float(record.step.sigma or 0) >= 2 else 1.0 for record in trace.steps]
    assert len(set(seen)) == 2


def test_an_ip_adapter_scale_follows_its_schedule() -> None:
    made = case("StableDiffusionPipeline-IP-Adapter")
    pipe = made.build()
    pipe.set_ip_adapter_scale(0.7)
    expected = by_hand(made, pipe, pipe.set_ip_adapter_scale)
    pipe.set_ip_adapter_scale(0.7)
    before = made.call(pipe, 3.0, steps=3)
    for target in ("ip_adapter", "ip_adapter:0"):
        with guide(pipe, 3.0, also={target: list(STRENGTHS)}):
            assert torch.equal(made.call(pipe, 5.0, steps=3), expected)
    assert torch.equal(made.call(pipe, 3.0, steps=3), before)
    with pytest.raises(InputError, match=r"^also 'ip_adapter:3': there are 1, counted from 0"):
        guide(pipe, 3.0, also={"ip_adapter:3": 1})


@pytest.mark.parametrize("name", ["StableDiffusionControlNetPipeline", "StableDiffusion3ControlNetPipeline"])
def test_a_controlnet_scale_follows_its_schedule(name: str) -> None:
    """By hand: the network's own outputs times the number, which is all that the scale does."""
    made = case(name)
    pipe = made.build()
    step = [0]

    def scaled(_module: nn.Module, _args: Any, output: Any) -> Any:
        value = STRENGTHS[step[0]]
        step[0] += 1
        return torch.utils._pytree.tree_map(lambda tensor: tensor * value, output)

    hook = pipe.controlnet.register_forward_hook(scaled)
    expected = made.call(pipe, 3.0, steps=3, controlnet_conditioning_scale=1.0)
    hook.remove()
    with guide(pipe, 3.0, also={"controlnet": list(STRENGTHS)}):
        drawn = made.call(pipe, 5.0, steps=3, controlnet_conditioning_scale=1.0)
    torch.testing.assert_close(drawn, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(drawn, made.call(pipe, 3.0, steps=3, controlnet_conditioning_scale=1.0), atol=1e-3)


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ({"lora:fats": 1}, r"^also 'lora:fats': .* has no such adapter: there are fast; did you mean fast"),
        ({"lora": 1}, r"^also 'lora': it is no number of a pipeline; write one of lora:NAME"),
        ({"eta": 1}, r"^also 'eta': it is no number of a pipeline"),
        ({"ip_adapter": 1}, r"^also 'ip_adapter': no IP-Adapter is loaded"),
        ({"controlnet": 1}, r"^also 'controlnet': this StableDiffusionPipeline has no ControlNet"),
        ({"lora:fast": "cosin()"}, r"unknown shape 'cosin'"),
        (["lora:fast"], r"^also=\['lora:fast'\]: it maps a number to its schedule"),
    ],
)
def test_what_the_pipeline_does_not_have_is_refused_at_once(also: Any, message: str) -> None:
    _, pipe = with_lora("StableDiffusionPipeline", "unet")
    with pytest.raises(InputError, match=message) as raised:
        guide(pipe, 3.0, also=also)
    assert "\n" not in str(raised.value)


def test_an_adapter_that_is_fused_or_not_active_is_refused() -> None:
    _, pipe = with_lora("StableDiffusionPipeline", "unet")
    pipe.unet.disable_adapters()
    with pytest.raises(InputError, match=r"not active"):
        guide(pipe, 3.0, also={"lora:fast": 1})
    pipe.unet.enable_adapters()
    pipe.unet.fuse_lora()
    with pytest.raises(InputError, match=r"fused into the network; call pipe\.unfuse_lora\(\) first"):
        guide(pipe, 3.0, also={"lora:fast": 1})
    pipe.unet.unfuse_lora()
    short = guide(pipe, 3.0, also={"lora:fast": [0, 1]})
    with short, pytest.raises(InputError, match="a list of 2 scales for 3 steps"):
        case("StableDiffusionPipeline").call(pipe, 5.0, steps=3)
