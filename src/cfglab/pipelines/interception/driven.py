"""Numbers of a pipeline beside w that follow schedules: LoRA strengths, ControlNet scales, IP-Adapter scales."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from cfglab.errors import InputError
from cfglab.schedules import as_schedule
from cfglab.schedules.fields import nearest, shown
from cfglab.step import Step

_TARGET = re.compile(r"lora:(?P<lora>.+)|ip_adapter(?::(?P<image>[0-9]{1,3}))?|controlnet(?::(?P<control>[0-9]{1,3}))?")
KINDS = "lora:NAME, ip_adapter, ip_adapter:N, controlnet, controlnet:N"


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
        self._schedules = {_checked(target): as_schedule(schedule) for target, schedule in also.items()}
        self._setters: dict[str, Callable[[float], None]] = {}
        self._undo: list[Callable[[], None]] = []
        self._runs = 0
        for target in self._schedules:
            if not target.startswith("controlnet"):
                _layers(pipe, target)  # what is missing is said at once
            elif getattr(pipe, "controlnet", None) is None:
                raise InputError(f"also {target!r}: this {type(pipe).__name__} has no ControlNet; leave it out.")

    def __bool__(self) -> bool:
        return bool(self._schedules)

    def begin(self, pipe: Any) -> None:
        """A run begins: find the layers, and remember their numbers.

        Args:
            pipe: The pipeline.

        Raises:
            InputError: The pipeline does not have a target any more.
        """
        if self._runs == 0:
            for target in self._schedules:
                if not target.startswith("controlnet"):
                    layers = _layers(pipe, target)
                    self._setters[target] = _setter(layers, target)
                    self._undo += [_restorer(layer, target) for layer in layers]
        self._runs += 1

    def end(self) -> None:
        """A run ends: after the last one the numbers are what they were."""
        self._runs -= 1
        if self._runs == 0:
            for restore in self._undo:
                restore()
            self._setters, self._undo = {}, []

    def set(self, step: Step) -> None:
        """Set the numbers of the layers.

        Args:
            step: The step of the next denoiser call.

        Raises:
            InputError: A schedule has no value at the step.
        """
        for target, setter in self._setters.items():
            setter(self._schedules[target](step))

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
        for target, schedule in self._schedules.items():
            if target.startswith("controlnet"):
                for index in _chosen(target, len(scales)):
                    scales[index] = schedule(step) if scales[index] else scales[index]
        return scales if isinstance(scale, list | tuple) else scales[0]


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


def _modules(pipe: Any) -> Iterator[nn.Module]:
    for component in pipe.components.values():
        if isinstance(component, nn.Module):
            yield component


def _layers(pipe: Any, target: str) -> list[Any]:
    """The layers with the number of a target."""
    if target.startswith("lora:"):
        return _lora_layers(pipe, target.removeprefix("lora:"))
    processors = [
        processor
        for component in _modules(pipe)
        for processor in getattr(component, "attn_processors", {}).values()
        if "IPAdapter" in type(processor).__name__ and hasattr(processor, "scale")
    ]
    if not processors:
        raise InputError(f"also {target!r}: no IP-Adapter is loaded; call pipe.load_ip_adapter(…) first.")
    for processor in processors:
        if isinstance(processor.scale, list):
            _chosen(target, len(processor.scale))
    return processors


def _lora_layers(pipe: Any, name: str) -> list[Any]:
    layers: list[Any] = [
        layer
        for component in _modules(pipe)
        for layer in component.modules()
        if callable(getattr(layer, "set_scale", None)) and isinstance(getattr(layer, "scaling", None), dict)
    ]
    names = sorted({adapter for layer in layers for adapter in layer.scaling})
    if name not in names:
        known = (
            f"there are {', '.join(names)};{nearest(name, names) or ' name one of them.'}"
            if names
            else ("none is loaded; call pipe.load_lora_weights(…, adapter_name=…) first.")
        )
        raise InputError(f"also 'lora:{name}': this {type(pipe).__name__} has no such adapter: {known}")
    found = [layer for layer in layers if name in layer.scaling]
    if any(layer.merged for layer in found):
        raise InputError(f"also 'lora:{name}': its weights are fused into the network; call pipe.unfuse_lora() first.")
    if not any(name in layer.active_adapters and not layer.disable_adapters for layer in found):
        raise InputError(f"also 'lora:{name}': the adapter is not active; call pipe.set_adapters([…]) with it first.")
    return found


def _setter(layers: list[Any], target: str) -> Callable[[float], None]:
    if target.startswith("lora:"):
        name = target.removeprefix("lora:")

        def set_strength(value: float) -> None:
            for layer in layers:
                layer.set_scale(name, value)

        return set_strength

    def set_scale(value: float) -> None:
        for processor in layers:
            if isinstance(processor.scale, list):
                for index in _chosen(target, len(processor.scale)):
                    processor.scale[index] = value
            else:
                processor.scale = value

    return set_scale


def _restorer(layer: Any, target: str) -> Callable[[], None]:
    if target.startswith("lora:"):
        name = target.removeprefix("lora:")
        scaling = layer.scaling[name]

        def restore_strength() -> None:
            layer.scaling[name] = scaling

        return restore_strength
    before = list(layer.scale) if isinstance(layer.scale, list) else layer.scale

    def restore_scale() -> None:
        layer.scale = before

    return restore_scale


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
