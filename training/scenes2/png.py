"""Read and write PNG files in plain Python, for training machines without Pillow."""

import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _unfilter(kind: int, row: bytearray, above: bytes, step: int) -> None:
    """Undo one of the five filters of PNG on a row of bytes, in place."""
    for i in range(len(row)):
        left = row[i - step] if i >= step else 0
        corner = above[i - step] if i >= step else 0
        up = above[i]
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = up
        elif kind == 3:
            guess = (left + up) // 2
        else:
            near = left + up - corner
            far = (abs(near - left), abs(near - up), abs(near - corner))
            guess = (left, up, corner)[far.index(min(far))]
        row[i] = (row[i] + guess) & 255


def read(path: Path) -> Tensor:
    """An image of 8 bits a channel, RGB or RGBA and not interlaced, as uint8 `(channels, height, width)`."""
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
    raw, stride, above, rows = zlib.decompress(packed), width * channels, bytes(width * channels), bytearray()
    for y in range(height):
        start = y * (stride + 1)
        row = bytearray(raw[start + 1 : start + 1 + stride])
        if raw[start]:
            _unfilter(raw[start], row, above, channels)
        rows += row
        above = bytes(row)
    return torch.frombuffer(rows, dtype=torch.uint8).view(height, width, channels).permute(2, 0, 1).contiguous()


def write(path: Path, pixels: Tensor) -> None:
    """uint8 `(3, height, width)` into a PNG file, whole or not at all."""
    _, height, width = pixels.shape
    rows = pixels.permute(1, 2, 0).reshape(height, width * 3).cpu()
    raw = bytes(torch.cat([torch.zeros(height, 1, dtype=torch.uint8), rows], 1).flatten().tolist())

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    part = path.with_suffix(".part")
    part.write_bytes(_SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 6)) + chunk(b"IEND", b""))
    part.replace(path)
