"""A picture's file: a PNG that carries its cell and the batch it was drawn in, so that it can be drawn again."""

import io
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, ValidationError

from cfglab.errors import InputError
from cfglab.experiments.cell import Cell

CHUNK = "cfglab"


class Record(BaseModel):
    """What a picture knows of itself: its cell, the batch it was drawn in with its place there, and the versions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: Cell
    batch: tuple[Cell, ...]
    index: int
    versions: dict[str, str] = {}


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Pictures `(n, 3, h, w)`, floats in about [-1, 1], as uint8 `(n, h, w, 3)`: clamped and rounded."""
    scaled = (np.clip(pixels.astype(np.float32), -1, 1) + 1) * 127.5
    return np.ascontiguousarray(scaled.round().astype(np.uint8).transpose(0, 2, 3, 1))


def encode(pixels: np.ndarray, batch: Sequence[Cell], versions: Mapping[str, str]) -> list[bytes]:
    """The PNG files of a batch: uint8 `(n, h, w, 3)`, each with its record in a zTXt chunk named `cfglab`."""
    cells = [cell.model_dump(mode="json") for cell in batch]
    files = []
    for index, picture in enumerate(pixels):
        record = {"cell": cells[index], "batch": cells, "index": index, "versions": dict(versions)}
        info = PngImagePlugin.PngInfo()
        info.add_text(CHUNK, json.dumps(record, separators=(",", ":")), zip=True)
        file = io.BytesIO()
        Image.fromarray(picture).save(file, format="PNG", pnginfo=info)
        files.append(file.getvalue())
    return files


def read_pixels(path: Path | str) -> np.ndarray:
    """A picture's pixels, uint8 `(h, w, 3)`. Raises InputError for a file that is no picture or is torn."""
    return _opened(path)[0]


def read_record(path: Path | str) -> Record:
    """The record in a picture. Raises InputError for a file that is no picture, or that cfglab did not draw."""
    text = _opened(path)[1]
    if text is None:
        raise InputError(f"{path}: carries no cell, cfglab did not draw it; give a picture from a run's images folder.")
    try:
        return Record.model_validate_json(text)
    except (ValidationError, ValueError) as error:
        raise InputError(
            f"{path}: the cell in it cannot be read; give a picture from a run's images folder."
        ) from error


def _opened(path: Path | str) -> tuple[np.ndarray, str | None]:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
            return pixels, getattr(image, "text", {}).get(CHUNK)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such picture; give one from a run's images folder.") from error
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        raise InputError(f"{path}: is no picture, or a damaged one; run the experiment again to remake it.") from error
