"""Images inside the page, up to a budget."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from cfglab.report.page.thumbnails import album, data_uri


def picture(path: Path, side: int) -> np.ndarray:
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def opened(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_small_pictures_are_exact(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png", 64)
    uri, side = data_uri(tmp_path / "a.png")
    assert side == 64
    np.testing.assert_array_equal(np.asarray(opened(uri).convert("RGB")), pixels)


def test_large_pictures_become_previews(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 600)
    uri, side = data_uri(tmp_path / "a.png")
    assert side == 600
    assert opened(uri).size == (512, 512)


def test_beyond_the_budget_pictures_are_linked(tmp_path: Path) -> None:
    names = [f"p {number}.png" for number in range(4)]
    for name in names:
        picture(tmp_path / name, 32)
    one = len(data_uri(tmp_path / "p 0.png")[0])
    found = album(tmp_path, names, budget=one + 1)
    assert (found.embedded, found.linked) == (2, 2)
    assert found.sources["p 1.png"].startswith("data:")
    assert found.sources["p 2.png"] == "p%202.png"


def test_a_budget_of_nothing_reads_nothing(tmp_path: Path) -> None:
    found = album(tmp_path, ["gone.png"], budget=0)
    assert (found.sources, found.unreadable) == ({"gone.png": "gone.png"}, {})


def test_a_damaged_or_missing_picture_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    found = album(tmp_path, ["bad.png", "gone.png"])
    assert found.sources == {}
    assert found.unreadable == {"bad.png": "bad.png is no readable image", "gone.png": "gone.png is missing"}
