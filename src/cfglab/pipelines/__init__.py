"""diffusers pipelines: loading and guiding them. The only place that imports diffusers, once a name needs it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cfglab.guidance.variations.models import register_weak_model
from cfglab.pipelines.folder import locate, weights_hash
from cfglab.pipelines.samplers import SAMPLERS

if TYPE_CHECKING:
    from cfglab.denoisers.trace import Trace
    from cfglab.pipelines.classic import attach, detach, guide
    from cfglab.pipelines.guider import Guider, to_guider
    from cfglab.pipelines.loading import check_prompt, load
    from cfglab.pipelines.profiles import Profile
    from cfglab.pipelines.saving import save_with_guider

_HEAVY = {
    "attach": "cfglab.pipelines.classic",
    "detach": "cfglab.pipelines.classic",
    "Guider": "cfglab.pipelines.guider",
    "Profile": "cfglab.pipelines.profiles",
    "Trace": "cfglab.denoisers.trace",
    "check_prompt": "cfglab.pipelines.loading",
    "guide": "cfglab.pipelines.classic",
    "load": "cfglab.pipelines.loading",
    "save_with_guider": "cfglab.pipelines.saving",
    "to_guider": "cfglab.pipelines.guider",
}

__all__ = [
    "SAMPLERS",
    "Guider",
    "Profile",
    "Trace",
    "attach",
    "check_prompt",
    "detach",
    "guide",
    "load",
    "locate",
    "save_with_guider",
    "to_guider",
    "weights_hash",
]

register_weak_model("twin", lambda denoiser: import_module("cfglab.pipelines.weak").twin(denoiser))


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HEAVY[name]), name)
