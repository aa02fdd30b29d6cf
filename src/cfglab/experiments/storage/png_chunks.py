"""The chunks of a PNG file, checked before anything is decoded."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from cfglab.limits import IMAGE_PIXELS, PNG_CHUNKS, PNG_TEXT_BYTES, PNG_TEXTS

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf")
_HEADER_BYTES = 13


class TooLarge(ValueError):
    """Content beyond a limit of `cfglab.limits`."""


@dataclass(frozen=True)
class Chunks:
    """What the chunks of a PNG file state before its pixels are decoded.

    Attributes:
        width: image width in pixels.
        height: image height in pixels.
        records: the texts under the keyword.
    """

    width: int
    height: int
    records: tuple[str, ...]


def scan(content: bytes, keyword: str, most_pixels: int = IMAGE_PIXELS) -> Chunks:
    """Walk through the chunks of a PNG file and read the texts under a keyword.

    Only these texts are decompressed, and only up to their limit.

    Args:
        content: the bytes of the file.
        keyword: the keyword of the texts, Latin-1.
        most_pixels: the largest number of pixels.

    Raises:
        TooLarge: if the content is beyond a limit of `cfglab.limits`.
        ValueError: if the file is no PNG or is cut off.
    """
    if not content.startswith(SIGNATURE):
        raise ValueError("it is no PNG file")
    offset, count, texts = len(SIGNATURE), 0, 0
    size: tuple[int, int] | None = None
    records: list[str] = []
    name = keyword.encode("latin-1")
    while offset + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, offset)
        data = memoryview(content)[offset + 8 : offset + 8 + length]
        offset += 12 + length
        count += 1
        texts += kind in _TEXTS
        if count > PNG_CHUNKS:
            raise TooLarge(f"it has more than {PNG_CHUNKS:,} chunks")
        if texts > PNG_TEXTS:
            raise TooLarge(f"it has more than {PNG_TEXTS} texts")
        if offset > len(content):
            raise ValueError("it is cut off")
        if count == 1:
            size = _size(kind, data, most_pixels)
        elif kind == b"IHDR":
            raise ValueError("it has two headers")
        if kind in _TEXTS and length > PNG_TEXT_BYTES:
            raise TooLarge(f"a text in it has {length:,} bytes, and at most {PNG_TEXT_BYTES:,} are read")
        if kind in (b"tEXt", b"zTXt", b"iTXt") and bytes(data[: len(name) + 1]) == name + b"\0":
            records.append(_text(kind, bytes(data[len(name) + 1 :])))
        if kind == b"IEND":
            break
    if size is None:
        raise ValueError("it is cut off")
    return Chunks(*size, tuple(records))


def texts(content: bytes, keywords: Sequence[str], most_pixels: int = IMAGE_PIXELS) -> dict[str, str]:
    """The first text under each of `keywords` that a PNG file has. Raises as `scan` does."""
    records = {keyword: scan(content, keyword, most_pixels).records for keyword in keywords}
    return {keyword: values[0] for keyword, values in records.items() if values}


def with_text(content: bytes, keyword: str, text: str) -> bytes:
    """A PNG file with one more text, before its other texts and its pixels: tEXt where Latin-1 spells it, else iTXt.

    Every other byte of the file stays as it is.
    """
    name = keyword.encode("latin-1") + b"\0"
    try:
        kind, data = b"tEXt", name + text.encode("latin-1")
    except UnicodeEncodeError:
        kind, data = b"iTXt", name + b"\0\0\0\0" + text.encode("utf-8", "replace")
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    end = len(SIGNATURE) + 12 + _HEADER_BYTES
    return content[:end] + chunk + content[end:]


def _size(kind: bytes, data: memoryview, most_pixels: int) -> tuple[int, int]:
    if kind != b"IHDR" or len(data) != _HEADER_BYTES:
        raise ValueError("it has no header")
    width, height = struct.unpack_from(">II", data)
    if not width or not height:
        raise ValueError(f"it has {width} x {height} pixels")
    if width * height > most_pixels:
        raise TooLarge(f"it has {width:,} x {height:,} pixels, and at most {most_pixels:,} are read")
    return width, height


def _text(kind: bytes, data: bytes) -> str:
    """The text of a chunk after its keyword."""
    if kind == b"tEXt":
        return data.decode("latin-1")
    if kind == b"zTXt":
        return _inflated(data[1:]).decode("latin-1")
    if len(data) < 2:
        raise ValueError("a text in it is cut off")
    compressed, rest = data[0], data[2:].split(b"\0", 2)[-1]
    return (_inflated(rest) if compressed else rest).decode("utf-8")


def _inflated(data: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(data, PNG_TEXT_BYTES)
    except zlib.error as error:
        raise ValueError("a text in it is damaged") from error
    if inflate.unconsumed_tail:
        raise TooLarge(f"a text in it has more than {PNG_TEXT_BYTES:,} bytes")
    return text
