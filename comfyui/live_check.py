"""The address at which the page asks, while a text is typed, what is wrong with it."""

from .texts import fault_of


def add_route() -> None:
    """Add `POST /cfglab/check?node=…`, text in and a JSON object with `fault` out, to the server of ComfyUI."""
    from aiohttp import web
    from server import PromptServer

    if getattr(PromptServer, "instance", None) is None:  # nodes without a server, as in scripts
        return

    @PromptServer.instance.routes.post("/cfglab/check")
    async def check(request: web.Request) -> web.Response:
        return web.json_response({"fault": fault_of(request.query.get("node", ""), await request.text())})
