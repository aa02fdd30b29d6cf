"""What servers of this computer share: sockets, addresses, the browser, and what of a run folder is served, and how."""

import ipaddress
import re
import socket

from cfglab.errors import InputError
from cfglab.schedules.fields import shown

HOME = "127.0.0.1"
"""This computer only."""
REPORT_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "sandbox allow-scripts allow-popups allow-downloads"
)
"""The Content-Security-Policy of the files of a run: their scripts reach no other page of the server."""
RUN_FILES = re.compile(
    r"(?:report\.(?:html|csv|json|js)|results\.csv|images/[0-9A-Za-z_-]{1,64}\.png|report/[A-Za-z0-9_-]+\.(?:js|json))"
)
"""What is served of a run folder."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: the port is taken or not allowed, or the address is not this computer's.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port}: a port is 0 to 65535; write 7860.")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {shown(host)}: no address of this computer ({error}); leave it out.") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise InputError(
            f"--port {port} on {host}: cannot be used ({error.strerror or error}); give another --port, or 0 for a "
            "free one."
        ) from error
    return listening


def open_browser(address: str) -> None:
    """Open the page; where there is no browser, the printed address is enough."""
    import threading
    import webbrowser

    try:
        webbrowser.get()
    except webbrowser.Error:
        print("no browser was found here; open the address yourself.", flush=True)
        return
    threading.Timer(1.0, webbrowser.open, [address]).start()


def is_loopback(host: str) -> bool:
    """Whether an address is this computer only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def page_address(host: str, port: int) -> str:
    """The URL of a server's first page; localhost where it listens on all addresses of this computer."""
    name = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/"


def reach_of(host: str) -> str:
    """Who can open a page on an address, in words."""
    return "this computer only" if is_loopback(host) else "everybody on the network of this computer"
