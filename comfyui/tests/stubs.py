"""Empty packages in place of two that ComfyUI imports and its sampling never calls: torchvision and torchaudio."""

import importlib.util
import os
import sys
import types
from typing import Any

COMFYUI = os.environ.get("COMFYUI", "")


def stub_vision_and_audio() -> None:
    """Stubs for what is not installed."""
    import cfglab.pipelines.loading.load  # noqa: F401  (before the stubs: transformers looks for torchvision too)

    _stub("torchvision", "transforms", "transforms.functional", "io", "ops")
    _stub("torchaudio", "functional", "transforms")


def _stub(name: str, *parts: str) -> None:
    """An empty package in place of one that ComfyUI imports and its sampling never calls."""
    if importlib.util.find_spec(name) is not None:
        return
    for full in (name, *(f"{name}.{part}" for part in parts)):
        module = types.ModuleType(full)
        module.__path__ = []  # type: ignore[attr-defined]
        module.__spec__ = importlib.util.spec_from_loader(full, None)
        module.__getattr__ = _missing  # type: ignore[method-assign]
        module.__version__ = "0"  # type: ignore[attr-defined]
        sys.modules[full] = module


def _missing(attribute: str) -> Any:
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    return type(attribute, (_Anything,), {})


class _Anything:
    """Whatever it is: it can be made, and written with brackets in an annotation."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __class_getitem__(cls, _: Any) -> Any:
        return cls
