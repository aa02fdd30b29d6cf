"""A checkout of ComfyUI, named by the variable COMFYUI, on a CPU; without it everything here is skipped."""

import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

PACK = Path(__file__).parents[1]
COMFYUI = os.environ.get("COMFYUI", "")
if not COMFYUI:
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header() -> str:
    return f"ComfyUI: {COMFYUI}" if COMFYUI else "ComfyUI: none, so all is skipped; run COMFYUI=/path/to/checkout make comfyui"


def _stub(name: str, *parts: str) -> None:
    """An empty package in place of one that ComfyUI imports and its sampling never calls."""
    if importlib.util.find_spec(name) is not None:
        return
    for full in (name, *(f"{name}.{part}" for part in parts)):
        module = types.ModuleType(full)
        module.__path__ = []  # type: ignore[attr-defined]
        module.__spec__ = importlib.util.spec_from_loader(full, None)
        module.__getattr__ = lambda attribute, full=full: _missing(full, attribute)  # type: ignore[method-assign]
        module.__version__ = "0"  # type: ignore[attr-defined]
        sys.modules[full] = module


def _missing(module: str, attribute: str) -> Any:
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    return type(attribute, (), {"__init__": lambda self, *a, **k: None, "__class_getitem__": classmethod(lambda c, i: c)})


def start_comfyui() -> None:
    """Import ComfyUI on a CPU, without its server."""
    import diffusers  # noqa: F401  (before the stubs: it looks for torchvision itself)

    _stub("torchvision", "transforms", "transforms.functional", "io", "ops")
    _stub("torchaudio", "functional", "transforms")
    arguments, sys.argv = sys.argv, ["main.py", "--cpu"]
    sys.path.insert(0, COMFYUI)
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.samplers  # noqa: F401

    sys.argv = arguments


def load_pack() -> Any:
    """The pack as ComfyUI loads it: a package of any name, from its folder."""
    name = "cfglab_pack"
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if COMFYUI:
    start_comfyui()
    load_pack()


@pytest.fixture(autouse=True)
def no_memory_of_the_seed() -> None:
    import torch

    torch.manual_seed(0)
