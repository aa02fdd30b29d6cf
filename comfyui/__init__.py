"""cfglab in ComfyUI: schedules and guidance methods as one text. ComfyUI finds the nodes by `comfy_entrypoint`."""

from pathlib import Path
from typing import Any

WEB_DIRECTORY = str(Path(__file__).resolve().parent / "web")


async def comfy_entrypoint() -> Any:
    """What ComfyUI calls once, at its start."""
    from comfy_api.latest import ComfyExtension

    from .live_check import add_route
    from .nodes import NODES

    class CfglabExtension(ComfyExtension):
        async def get_node_list(self) -> list[Any]:
            return list(NODES)

    add_route()
    return CfglabExtension()
