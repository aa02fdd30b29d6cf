"""Samplers by name. Loads no torch."""

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
        return getattr(diffusers, SAMPLERS[name]).from_config(config, **settings)
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
