"""A run's images as text that an HTML file can hold: data URIs up to a budget, links to `images/` beyond it."""

import base64
import io
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from cfglab.errors import is_memory_error
from cfglab.experiments.storage.png import open_image
from cfglab.limits import IMAGE_PIXELS

BUDGET = 36_000_000
"""Characters of embedded images; with the page itself the file stays under about 40 MB."""

EXACT = 128
"""Images up to this many pixels a side are embedded without loss."""

LARGEST = 512
"""Larger images are embedded as previews with this longest side, in pixels."""


@dataclass(frozen=True, slots=True)
class Album:
    """`sources` maps an image's file to what an `img` shows: a data URI, or its address relative to the run folder.

    `unreadable` maps a file to why it cannot be shown; `side` is the longest side of an image, in pixels.
    """

    sources: Mapping[str, str]
    unreadable: Mapping[str, str]
    embedded: int
    linked: int
    side: int

    def lost(self, images: Sequence[str | None]) -> dict[int, str]:
        """Return position -> why the file of the image there cannot be shown.

        Args:
            images: the file of each position, relative to the run folder; None where there is no image.
        """
        if not self.unreadable:
            return {}
        faults = ((index, self.unreadable.get(image or "")) for index, image in enumerate(images))
        return {index: fault for index, fault in faults if fault}


def album(folder: Path, images: Iterable[str], budget: int = BUDGET) -> Album:
    """Embed images, files relative to the run folder, in the order given until the budget is spent; link the others.

    Small images become lossless WebP, large ones previews. Metadata is left out: it is in the files. A budget of 0
    reads no file.
    """
    sources: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    embedded = spent = side = 0
    for image in dict.fromkeys(images):
        if budget and (fault := _no_file(folder / image)):
            unreadable[image] = f"{image} {fault}"
            continue
        if spent >= budget:
            sources[image] = quote(image)
            continue
        try:
            uri, longest = data_uri(folder / image)
        except MemoryError:
            raise
        except PermissionError as error:
            unreadable[image] = f"{image} cannot be read ({error.strerror})"
            continue
        except Exception as error:  # whatever a damaged file makes of its reader
            if is_memory_error(error):
                raise
            unreadable[image] = f"{image} is no readable image"
            continue
        sources[image] = uri
        embedded, spent, side = embedded + 1, spent + len(uri), max(side, longest)
    return Album(sources, unreadable, embedded, len(sources) - embedded, side)


def _no_file(path: Path) -> str:
    """Why nothing is opened at a path: a pipe, for one, would be waited for without an end."""
    try:
        return "" if stat.S_ISREG(path.stat().st_mode) else "is no readable image"
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError):
        return "is no readable image"


def data_uri(path: Path) -> tuple[str, int]:
    """An image file as a data URI, and the longest side of the file's image in pixels. Raises OSError."""
    image = open_image(path, IMAGE_PIXELS)
    longest = max(image.size)
    buffer = io.BytesIO()
    if longest <= EXACT:
        image.save(buffer, "WEBP", lossless=True, method=2)
    else:
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
        image.save(buffer, "WEBP", quality=84, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", longest
