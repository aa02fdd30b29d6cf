"""The file of an image: a PNG that carries its cell and its batch, so that it can be generated again."""

import errno
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from cfglab.errors import InputError, MachineError, is_memory_error
from cfglab.experiments.spec.cell import Cell
from cfglab.experiments.storage.infotext import KEYWORD, infotext_of
from cfglab.experiments.storage.png_chunks import SIGNATURE, Chunks, TooLarge, scan, with_text
from cfglab.experiments.storage.record import Record as Record
from cfglab.experiments.storage.record import record_of
from cfglab.file_input import read_bytes
from cfglab.limits import IMAGE_BYTES, IMAGE_PIXELS

CHUNK = "cfglab"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Image formats that are read: those whose decoders are part of Pillow and start no other program."""
_RUN = "give an image from a run's images folder."


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Return images `(n, 3, h, w)`, floats in about [-1, 1], as uint8 `(n, h, w, 3)`: clamped and rounded."""
    scaled = (np.clip(pixels.astype(np.float32), -1, 1) + 1) * 127.5
    return np.ascontiguousarray(scaled.round().astype(np.uint8).transpose(0, 2, 3, 1))


def encode(pixels: np.ndarray, batch: Sequence[Cell], versions: Mapping[str, str]) -> list[bytes]:
    """Return the PNG files of a batch, each with its record in a zTXt chunk named `cfglab`.

    Args:
        pixels: uint8 (n, h, w, 3).
        batch: the n cells.
        versions: package -> version.

    Returns:
        The bytes of n files.
    """
    cells = [cell.model_dump(mode="json") for cell in batch]
    files = []
    for index, image in enumerate(pixels):
        record = {"cell": cells[index], "batch": cells, "index": index, "versions": dict(versions)}
        info = PngImagePlugin.PngInfo()
        info.add_text(CHUNK, json.dumps(record, separators=(",", ":")), zip=True)
        files.append(encode_pixels(image, info))
    return files


def encode_pixels(pixels: np.ndarray, info: PngImagePlugin.PngInfo | None = None) -> bytes:
    """The PNG file of an image, uint8 `(h, w, 3)`, with these texts."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", pnginfo=info)
    return file.getvalue()


def add_infotext(file: bytes, cell: Cell, seed: int) -> bytes:
    """An image's file with the A1111 infotext of its cell, which other programs read; nothing else changes.

    Args:
        file: the PNG file.
        cell: the cell of the image.
        seed: the torch seed of the image, that of the chosen candidate.
    """
    return with_text(file, KEYWORD, infotext_of(cell.model_copy(update={"seed": seed})))


def has_infotext(path: Path | str) -> bool:
    """Whether an image of a run carries A1111 infotext. Raises InputError as `read_record`."""
    try:
        return bool(scan(_content(path), KEYWORD, IMAGE_PIXELS).records)
    except ValueError as error:
        raise InputError(f"{path}: is no image, or a damaged one ({error}); {_RUN}") from error


def read_pixels(path: Path | str) -> np.ndarray:
    """Return the pixels of an image, uint8 `(h, w, 3)`.

    Args:
        path: a PNG file.

    Raises:
        InputError: if it is no image, is damaged, or is larger than `cfglab.limits` allows.
    """
    return _decoded(path, _content(path), IMAGE_PIXELS)


def read_record(path: Path | str) -> Record:
    """Return the record in an image, after checking each part against the others.

    Args:
        path: an image of a run.

    Raises:
        InputError: if it is no image, has no record, or its record contradicts itself or the image.
    """
    return read_picture(path)[0]


def read_picture(path: Path | str) -> tuple[Record, np.ndarray]:
    """Return the record in an image and its pixels, uint8 `(h, w, 3)`, from one read of the file.

    Args:
        path: an image of a run.

    Raises:
        InputError: as `read_record`.
    """
    content = _content(path)
    pixels = _decoded(path, content, IMAGE_PIXELS)
    chunks = _scanned(path, content, IMAGE_PIXELS)
    if not chunks.records:
        raise InputError(f"{path}: carries no cell, cfglab did not draw it; {_RUN}")
    if len(chunks.records) > 1:
        raise InputError(f"{path}: carries {len(chunks.records)} records, and an image has one; {_RUN}")
    return record_of(path, chunks.records[0], chunks.width, chunks.height), pixels


def open_image(path: Path | str, most_pixels: int) -> Image.Image:
    """Open an image of one of FORMATS as RGB; its size is checked before it is decoded.

    Args:
        path: the file.
        most_pixels: the largest number of pixels.

    Raises:
        OSError: if it is no image or is damaged; with `errno.EFBIG` if it is larger than `most_pixels` or
            `cfglab.limits.IMAGE_BYTES`.
        MachineError: if memory is too small.
    """
    content = read_bytes(path, IMAGE_BYTES)
    try:
        if content.startswith(SIGNATURE):
            scan(content, CHUNK, most_pixels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > most_pixels:
                    raise TooLarge(f"it has {image.width:,} x {image.height:,} pixels, and {most_pixels:,} are read")
                return image.convert("RGB")
    except (TooLarge, Image.DecompressionBombError) as error:
        raise OSError(errno.EFBIG, str(error), str(path)) from error
    except Exception as error:  # whatever a damaged file makes of the decoders
        if is_memory_error(error):
            raise MachineError(f"{path}: memory is too small to decode it; free some and run again.") from error
        raise OSError(errno.EINVAL, "it is no image, or a damaged one", str(path)) from error


def _content(path: Path | str) -> bytes:
    try:
        return read_bytes(path, IMAGE_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such image; give one from a run's images folder.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read as an image ({error.strerror}); {_RUN}") from error


def _scanned(path: Path | str, content: bytes, most_pixels: int) -> Chunks:
    try:
        return scan(content, CHUNK, most_pixels)
    except TooLarge as error:
        raise InputError(f"{path}: is too large an image ({error}); {_RUN}") from error
    except ValueError as error:
        raise InputError(
            f"{path}: is no image, or a damaged one ({error}); run the experiment again to remake it."
        ) from error


def _decoded(path: Path | str, content: bytes, most_pixels: int) -> np.ndarray:
    _scanned(path, content, most_pixels)
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # whatever a damaged file makes of the decoder
        if is_memory_error(error):
            raise MachineError(f"{path}: memory is too small to decode it; free some and run again.") from error
        raise InputError(f"{path}: is no image, or a damaged one; run the experiment again to remake it.") from error
