"""A checkout of ComfyUI, named by the variable COMFYUI, on a CPU; without it everything here is skipped."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from .stubs import COMFYUI, stub_vision_and_audio

PACK = Path(__file__).parents[1]
if not COMFYUI:
    collect_ignore_glob = ["test_*.py"]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if not COMFYUI and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


def pytest_terminal_summary(terminalreporter: Any) -> None:
    from .figures import FIGURES

    if not COMFYUI:
        terminalreporter.line("all skipped: no checkout of ComfyUI; run make comfyui COMFYUI=/path/to/ComfyUI")
    if FIGURES:
        terminalreporter.section("figures of docs/comfyui.md")
    for row, what, figure, remark in sorted(FIGURES):
        terminalreporter.line(f"({row}) {what}: {figure:.3g}{f' ({remark})' if remark else ''}")


def start_comfyui() -> None:
    """Import ComfyUI on a CPU, without its server."""
    stub_vision_and_audio()
    arguments, sys.argv = sys.argv, ["main.py", "--cpu"]
    sys.path.insert(0, COMFYUI)
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.samplers

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
