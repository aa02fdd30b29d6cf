"""Does a Ray head answer at an address? Said in seconds: Ray itself tries for minutes, and then ends the process."""

import os
import re
import socket

from cfglab.errors import InputError

SECONDS = 5.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What an HTTP/2 client says first (RFC 9113, 3.4): a fixed text and an empty SETTINGS frame. Ray's head speaks gRPC,
so its first answer is a SETTINGS frame too: three bytes of length, then the type, 4."""


def check_head(address: str, name: str = "") -> None:
    """Raise InputError where `address` is no host:port, or nothing there answers as a Ray head does. `name` is what it
    is called where that is something else."""
    name = name or address
    host, _, port = address.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or "/" in host:
        raise InputError(f"--ray {name}: an address is local, auto or host:port, such as 10.0.0.1:6379; write one.")
    try:
        with socket.create_connection((host, int(port)), SECONDS) as connection:
            connection.settimeout(SECONDS)
            connection.sendall(PREFACE)
            answer = connection.recv(4)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--ray {name}: no answer ({first_line(error)}); start Ray there with `ray start --head`, or correct it."
        ) from error
    if answer[3:] != b"\x04" and not os.environ.get("RAY_USE_TLS"):
        raise InputError(f"--ray {name}: what answers there is no Ray head; give the address that `ray start` said.")


def first_line(error: BaseException) -> str:
    """What an error says, at most one line of it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
