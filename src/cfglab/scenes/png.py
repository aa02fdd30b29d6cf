"""Read and write simple PNG files in plain Python, for training machines without Pillow."""

import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read(path: Path) -> Tensor:
    """An image that `write` wrote, uint8 `(channels, height, width)`: no interlacing, and no filters on its rows."""
    data = path.read_bytes()
    if not data.startswith(_SIGNATURE):
        raise ValueError(f"{path.name}: not a PNG file")
    at, packed, width, height, channels = len(_SIGNATURE), b"", 0, 0, 0
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body, at = data[at + 8 : at + 8 + length], at + 12 + length
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            if depth != 8 or colour not in (2, 6) or interlaced:
                raise ValueError(f"{path.name}: only RGB and RGBA of 8 bits, not interlaced")
            channels = 3 if colour == 2 else 4
        elif kind == b"IDAT":
            packed += body
    raw = torch.frombuffer(bytearray(zlib.decompress(packed)), dtype=torch.uint8).view(height, 1 + width * channels)
    if raw[:, 0].any():
        raise ValueError(f"{path.name}: its rows are filtered; write it with `cfglab.scenes.png.write`")
    return raw[:, 1:].reshape(height, width, channels).permute(2, 0, 1).contiguous()


def write(path: Path, pixels: Tensor) -> None:
    """uint8 RGB or RGBA `(3 or 4, height, width)` into a PNG file, whole or not at all."""
    channels, height, width = pixels.shape
    rows = pixels.permute(1, 2, 0).reshape(height, width * channels).cpu()
    raw = bytes(torch.cat([torch.zeros(height, 1, dtype=torch.uint8), rows], 1).flatten().tolist())

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0)
    part = path.with_suffix(".part")
    part.write_bytes(_SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))
    part.replace(path)
