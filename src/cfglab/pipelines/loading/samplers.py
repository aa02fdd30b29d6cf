"""Samplers by name. Loads no torch."""

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cfglab.errors import InputError
from cfglab.schedules.fields import nearest

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

SAMPLERS: dict[str, str] = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "deis": "DEISMultistepScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
    "dpm++2m-sde": "DPMSolverMultistepScheduler",
    "dpm++single": "DPMSolverSinglestepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "kdpm2": "KDPM2DiscreteScheduler",
    "kdpm2-a": "KDPM2AncestralDiscreteScheduler",
    "lcm": "LCMScheduler",
    "lms": "LMSDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""Name -> the scheduler class of diffusers that it is."""
OWN = "own"
"""The name of the scheduler that a model comes with, whatever it is."""
FLOW_SAMPLERS: dict[str, str] = {
    "deis": "DEISMultistepScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
    "dpm++2m-sde": "DPMSolverMultistepScheduler",
    "dpm++single": "DPMSolverSinglestepScheduler",
    "euler": "FlowMatchEulerDiscreteScheduler",
    "heun": "FlowMatchHeunDiscreteScheduler",
    "lcm": "FlowMatchLCMScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""The same for a model that predicts a flow."""
_SHAPING = ("snr_shift_scale", "sigma_data", "sigma_min", "sigma_max")
"""Settings of schedulers that shape the noise levels and that other schedulers ignore."""
TWICE = ("heun", "kdpm2", "kdpm2-a")
"""Those that call the denoiser twice a step, but for the last."""

_SETTINGS: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "dpm++2m-sde": {"algorithm_type": "sde-dpmsolver++"},
        "pndm": {"skip_prk_steps": True},
    }
)


def is_flow(config: Mapping[str, Any]) -> bool:
    """Return whether a scheduler's configuration is that of a model that predicts a flow."""
    kind = str(config.get("_class_name", ""))
    return kind.startswith("FlowMatch") or config.get("prediction_type") == "flow_prediction"


def make_sampler(name: str, config: Mapping[str, Any]) -> "SchedulerMixin":
    """A sampler by its name.

    Args:
        name: One of SAMPLERS; for a model that predicts a flow, one of FLOW_SAMPLERS.
        config: The configuration of the model's own scheduler.

    Returns:
        A diffusers scheduler.

    Raises:
        InputError: There is no such sampler, or it does not fit the model.
    """
    if name not in SAMPLERS:
        raise InputError(
            f"no sampler {name!r}: there are {', '.join(SAMPLERS)};{nearest(name, SAMPLERS) or ' name one.'}"
        )
    import diffusers

    settings = _SETTINGS.get(name, {})
    if not is_flow(config):
        scheduler = getattr(diffusers, SAMPLERS[name])
        read = inspect.signature(scheduler.__init__).parameters
        if dropped := [key for key in _SHAPING if config.get(key) is not None and key not in read]:
            raise InputError(
                f"sampler {name}: it does not read {dropped[0]}, on which the noise levels of this model depend; "
                f"write {OWN}, which is the scheduler that the model comes with."
            )
        return scheduler.from_config(config, **settings)
    if name not in FLOW_SAMPLERS:
        raise InputError(
            f"sampler {name}: the model predicts a flow, and the samplers for it are {', '.join(FLOW_SAMPLERS)}; name "
            "one of them, such as euler."
        )
    shift = config.get("shift", config.get("flow_shift", 1.0))
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}
    if FLOW_SAMPLERS[name].startswith("FlowMatch"):
        flow = {"shift": shift}
    if config.get("use_dynamic_shifting") and name == "heun":
        raise InputError(
            "sampler heun: the shift of this model depends on the size of its images, which heun does not read; name "
            "another, such as euler."
        )
    return getattr(diffusers, FLOW_SAMPLERS[name]).from_config(config, **settings, **flow)
