"""diffusers pipelines: loading and guiding them. The only place that imports diffusers, once a name needs it."""

from importlib import import_module
from typing import TYPE_CHECKING

from cfglab.guidance.perturbations.weak_models import register_weak_model
from cfglab.lazy_names import lazy_getattr
from cfglab.pipelines.loading.model_folder import locate, weights_hash
from cfglab.pipelines.loading.samplers import SAMPLERS

if TYPE_CHECKING:
    from cfglab.denoising.trace import Trace
    from cfglab.pipelines.best_of import Generated, generate
    from cfglab.pipelines.guider.guider import Guider, to_guider
    from cfglab.pipelines.guider.save import save_with_guider
    from cfglab.pipelines.interception.guide import attach, detach, guide
    from cfglab.pipelines.loading.load import check_prompt, load
    from cfglab.pipelines.profiles.profile import Profile

_HEAVY = {
    "attach": "cfglab.pipelines.interception.guide",
    "detach": "cfglab.pipelines.interception.guide",
    "generate": "cfglab.pipelines.best_of",
    "Generated": "cfglab.pipelines.best_of",
    "Guider": "cfglab.pipelines.guider.guider",
    "Profile": "cfglab.pipelines.profiles.profile",
    "Trace": "cfglab.denoising.trace",
    "check_prompt": "cfglab.pipelines.loading.load",
    "guide": "cfglab.pipelines.interception.guide",
    "load": "cfglab.pipelines.loading.load",
    "save_with_guider": "cfglab.pipelines.guider.save",
    "to_guider": "cfglab.pipelines.guider.guider",
}

__all__ = [
    "SAMPLERS",
    "Generated",
    "Guider",
    "Profile",
    "Trace",
    "attach",
    "check_prompt",
    "detach",
    "generate",
    "guide",
    "load",
    "locate",
    "save_with_guider",
    "to_guider",
    "weights_hash",
]

register_weak_model("twin", lambda denoiser: import_module("cfglab.pipelines.loading.weak_twin").twin(denoiser))
__getattr__ = lazy_getattr(__name__, _HEAVY)
