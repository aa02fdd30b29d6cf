"""The address at which the page asks, while a text is typed, whether it is a guidance."""

from cfglab import Guidance, InputError


def first_fault(text: str) -> str:
    """The one line that says what is wrong with a text of guidances, one a line; empty where nothing is."""
    for line in filter(None, map(str.strip, text.splitlines())):
        try:
            Guidance(line)
        except InputError as error:
            return str(error)
    return "" if text.strip() else "no guidance: write a schedule, such as 7.5."


def add_route() -> None:
    """Add `POST /cfglab/check`, text in and a JSON object with `fault` out, to the server of ComfyUI."""
    from aiohttp import web
    from server import PromptServer

    if getattr(PromptServer, "instance", None) is None:  # nodes without a server, as in scripts
        return

    @PromptServer.instance.routes.post("/cfglab/check")
    async def check(request: web.Request) -> web.Response:
        return web.json_response({"fault": first_fault(await request.text())})
