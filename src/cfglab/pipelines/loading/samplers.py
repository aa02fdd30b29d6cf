"""Samplers by name. Loads no torch."""

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
TWICE = ("heun", "kdpm2", "kdpm2-a")
"""Those that call the denoiser twice a step, but for the last."""

_SETTINGS: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "dpm++2m-sde": {"algorithm_type": "sde-dpmsolver++"},
        "pndm": {"skip_prk_steps": True},
    }
)


def make_sampler(name: str, config: Any) -> "SchedulerMixin":
    """A sampler by its name.

    Args:
        name: One of SAMPLERS.
        config: The configuration of the model's own scheduler.

    Returns:
        A diffusers scheduler.

    Raises:
        InputError: There is no such sampler.
    """
    if name not in SAMPLERS:
        raise InputError(
            f"no sampler {name!r}: there are {', '.join(SAMPLERS)};{nearest(name, SAMPLERS) or ' name one.'}"
        )
    import diffusers

    return getattr(diffusers, SAMPLERS[name]).from_config(config, **_SETTINGS.get(name, {}))
