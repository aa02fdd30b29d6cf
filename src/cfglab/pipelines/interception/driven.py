"""Numbers of a pipeline beside w that follow schedules: LoRA strengths, ControlNet scales, IP-Adapter scales."""

import re
from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from cfglab.errors import InputError
from cfglab.schedules import Schedule, as_schedule
from cfglab.schedules.fields import nearest, shown
from cfglab.step import Step

_TARGET = re.compile(r"lora:.+|(?:ip_adapter|controlnet)(?::[0-9]{1,3})?")
KINDS = "lora:NAME, ip_adapter, ip_adapter:N, controlnet, controlnet:N"


class Number(Protocol):
    """A number of the layers of a pipeline, as it was when it was found."""

    def set(self, value: float) -> None:
        """Give it a value."""

    def restore(self) -> None:
        """Make it what it was."""


class DrivenNumbers:
    """The numbers that `also` of `guide` names, each with its schedule.

    A number is set before every call of a denoiser or ControlNet of a run and is what it was after the run. The value
    is that of the schedule at the step; where a schedule is off its value is 1.

    Args:
        pipe: The pipeline.
        also: Target -> schedule, or what `as_schedule` reads.

    Raises:
        InputError: A target is unknown, or the pipeline does not have it.
    """

    def __init__(self, pipe: Any, also: Mapping[str, Any]) -> None:
        self._of_layers: dict[str, Schedule] = {}
        self._of_controlnets: dict[str, Schedule] = {}
        for target, schedule in also.items():
            of_controlnets = str(target).startswith("controlnet")
            (self._of_controlnets if of_controlnets else self._of_layers)[_checked(target)] = as_schedule(schedule)
        self._found: dict[str, Number] = {}
        self._runs = 0
        self._numbers(pipe)  # what is missing is said at once
        if self._of_controlnets and getattr(pipe, "controlnet", None) is None:
            target = next(iter(self._of_controlnets))
            raise InputError(f"also {target!r}: this {type(pipe).__name__} has no ControlNet; leave it out.")

    def begin(self, pipe: Any) -> None:
        """A run begins: find the numbers of the layers.

        Args:
            pipe: The pipeline.

        Raises:
            InputError: The pipeline does not have a target any more.
        """
        if self._runs == 0:
            self._found = self._numbers(pipe)
        self._runs += 1

    def end(self) -> None:
        """A run ends: after the last one the numbers are what they were."""
        self._runs -= 1
        if self._runs == 0:
            for number in self._found.values():
                number.restore()
            self._found = {}

    def set(self, step: Step) -> None:
        """Set the numbers of the layers.

        Args:
            step: The step of the next denoiser call.

        Raises:
            InputError: A schedule has no value at the step.
        """
        for target, number in self._found.items():
            number.set(self._of_layers[target](step))

    def controlnet_scale(self, scale: Any, step: Step) -> Any:
        """The conditioning scale of a ControlNet call.

        Args:
            scale: The scale that the pipeline passes, a list for several ControlNets. 0 stays 0: outside of
                `control_guidance_start` and `control_guidance_end` it is off.
            step: The step of the next denoiser call.

        Returns:
            The scale, or a list of them.

        Raises:
            InputError: A schedule has no value at the step, or names a ControlNet that is not there.
        """
        scales = list(scale) if isinstance(scale, list | tuple) else [scale]
        for target, schedule in self._of_controlnets.items():
            for index in _chosen(target, len(scales)):
                scales[index] = schedule(step) if scales[index] else scales[index]
        return scales if isinstance(scale, list | tuple) else scales[0]

    def _numbers(self, pipe: Any) -> dict[str, Number]:
        return {target: _number(pipe, target) for target in self._of_layers}


class _LoraStrength:
    """The strength of one adapter in the layers that have it."""

    def __init__(self, layers: list[Any], name: str) -> None:
        self._layers, self._name = layers, name
        self._before = [layer.scaling[name] for layer in layers]

    def set(self, value: float) -> None:
        for layer in self._layers:
            if self._name not in layer.scaling:
                raise InputError(
                    f"also 'lora:{self._name}': it was deleted during a run, as by a callback; delete it after "
                    "the run, or give it the strength 0 from that step on."
                )
            layer.set_scale(self._name, value)

    def restore(self) -> None:
        for layer, scaling in zip(self._layers, self._before, strict=True):
            if self._name in layer.scaling:
                layer.scaling[self._name] = scaling


class _AdapterScale:
    """The scale of IP-Adapters in their attention processors: a list with one of each, or one number."""

    def __init__(self, processors: list[Any], target: str) -> None:
        self._processors, self._target = processors, target
        self._before = [list(item.scale) if isinstance(item.scale, list) else item.scale for item in processors]
        for scale in self._before:
            if isinstance(scale, list):
                _chosen(target, len(scale))

    def set(self, value: float) -> None:
        for processor in self._processors:
            if isinstance(processor.scale, list):
                for index in _chosen(self._target, len(processor.scale)):
                    processor.scale[index] = value
            else:
                processor.scale = value

    def restore(self) -> None:
        for processor, scale in zip(self._processors, self._before, strict=True):
            processor.scale = scale


def _checked(target: str) -> str:
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        raise InputError(f"also {shown(target)}: it is no number of a pipeline; write one of {KINDS}.")
    return target


def _chosen(target: str, count: int) -> range:
    """The positions that a target with an optional index means."""
    _, colon, index = target.partition(":")
    if not colon:
        return range(count)
    if int(index) >= count:
        raise InputError(f"also {target!r}: there are {count}, counted from 0; write a smaller number.")
    return range(int(index), int(index) + 1)


def _number(pipe: Any, target: str) -> Number:
    """The number of the layers that a target means."""
    modules = [component for component in pipe.components.values() if isinstance(component, nn.Module)]
    if target.startswith("lora:"):
        name = target.removeprefix("lora:")
        return _LoraStrength(_lora_layers(pipe, modules, name), name)
    processors = [
        processor
        for module in modules
        for processor in getattr(module, "attn_processors", {}).values()
        if "IPAdapter" in type(processor).__name__ and hasattr(processor, "scale")
    ]
    if not processors:
        raise InputError(f"also {target!r}: no IP-Adapter is loaded; call pipe.load_ip_adapter(…) first.")
    return _AdapterScale(processors, target)


def _lora_layers(pipe: Any, modules: list[nn.Module], name: str) -> list[Any]:
    """The layers with the adapter, which is active and not fused."""
    layers: list[Any] = [
        layer
        for module in modules
        for layer in module.modules()
        if callable(getattr(layer, "set_scale", None)) and isinstance(getattr(layer, "scaling", None), dict)
    ]
    names = sorted({adapter for layer in layers for adapter in layer.scaling})
    if name not in names:
        known = (
            f"there are {', '.join(names)};{nearest(name, names) or ' name one of them.'}"
            if names
            else "none is loaded; call pipe.load_lora_weights(…, adapter_name=…) first."
        )
        raise InputError(f"also 'lora:{name}': this {type(pipe).__name__} has no such adapter: {known}")
    having = [layer for layer in layers if name in layer.scaling]
    if any(layer.merged for layer in having):
        raise InputError(f"also 'lora:{name}': its weights are fused into the network; call pipe.unfuse_lora() first.")
    if not any(name in layer.active_adapters and not layer.disable_adapters for layer in having):
        raise InputError(f"also 'lora:{name}': the adapter is not active; call pipe.set_adapters([…]) with it first.")
    return having


def read(pipe: Any, also: Mapping[str, Any] | None) -> DrivenNumbers | None:
    """The numbers that `also` names; None if it names none.

    Args:
        pipe: The pipeline.
        also: Target -> schedule.

    Returns:
        The numbers.

    Raises:
        InputError: A target is unknown, the pipeline does not have it, or a schedule cannot be read.
    """
    if also is not None and not isinstance(also, Mapping):
        raise InputError(f"also={shown(also)}: it maps a number to its schedule; write also={{'lora:NAME': '[0, 1]'}}.")
    return DrivenNumbers(pipe, also) if also else None
