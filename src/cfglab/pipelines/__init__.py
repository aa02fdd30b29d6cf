"""diffusers pipelines: loading and guiding them. The only place that imports diffusers, once a name needs it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cfglab.pipelines.folder import locate, weights_hash
from cfglab.pipelines.samplers import SAMPLERS

if TYPE_CHECKING:
    from cfglab.denoisers.trace import Trace
    from cfglab.pipelines.classic import guide
    from cfglab.pipelines.loading import check_prompt, load

_HEAVY = {
    "Trace": "cfglab.denoisers.trace",
    "check_prompt": "cfglab.pipelines.loading",
    "guide": "cfglab.pipelines.classic",
    "load": "cfglab.pipelines.loading",
}

__all__ = ["SAMPLERS", "Trace", "check_prompt", "guide", "load", "locate", "weights_hash"]


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HEAVY[name]), name)
