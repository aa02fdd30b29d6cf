"""Images that cannot be shown: the report is made, and the cell says why there is no image."""

import json
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cfglab.experiments.importing.importer import import_images
from cfglab.report import report
from cfglab.report.page.thumbnails import album
from tests.experiments.foreign_images import infotext, write_png
from tests.quick_run import run_quickly

Harm = Callable[[Path], object]


def _png(size: tuple[int, int], body: bytes = b"") -> bytes:
    """A PNG file that says its size and has any body."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


HARMS: dict[str, tuple[Harm, str]] = {
    "missing": (lambda path: path.unlink(), "is missing"),
    "empty": (lambda path: path.write_bytes(b""), "is no readable image"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-40]), "is no readable image"),
    "no image": (lambda path: path.write_bytes(b"text"), "is no readable image"),
    "no pixels": (lambda path: path.write_bytes(_png((4, 4), b"\x00")), "is no readable image"),
    "of no size": (lambda path: path.write_bytes(_png((0, 0))), "is no readable image"),
    "far too large": (lambda path: path.write_bytes(_png((40_000, 40_000))), "is no readable image"),
    "a folder": (lambda path: _replaced(path, Path.mkdir), "is no readable image"),
    "a pipe": (lambda path: _replaced(path, os.mkfifo), "is no readable image"),
    "a link to itself": (lambda path: _replaced(path, lambda it: it.symlink_to(it)), "is no readable image"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    run_quickly(folder)
    return folder


def test_a_report_is_made_whatever_became_of_its_images(run: Path) -> None:
    images = sorted((run / "images").iterdir())
    whole = [image.read_bytes() for image in images]
    harms = list(HARMS.values())
    try:
        for start in range(0, len(harms), len(images)):
            for image, (harm, _) in zip(images, harms[start:], strict=False):
                harm(image)
            page = report(run).read_text(encoding="utf-8")
            for image, (_, words) in zip(images, harms[start:], strict=False):
                assert f"images/{image.name} {words}" in page
            for image, content in zip(images, whole, strict=True):
                if image.is_dir():
                    image.rmdir()
                image.unlink(missing_ok=True)
                image.write_bytes(content)
    finally:
        assert "no readable image" not in report(run).read_text(encoding="utf-8")


def test_an_image_that_may_not_be_read_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cfglab.experiments.storage.png.read_bytes", refuse)
    image = next((run / "images").iterdir()).name
    assert album(run, [f"images/{image}"]).unreadable == {
        f"images/{image}": f"images/{image} cannot be read (Permission denied)"
    }


@pytest.mark.parametrize("error", [SyntaxError("broken"), EOFError(), struct.error("x"), zlib.error("x"), IndexError()])
def test_no_error_of_a_reader_of_images_ends_the_report(
    error: Exception, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    image = f"images/{next((run / 'images').iterdir()).name}"
    assert album(run, [image]).unreadable == {image: f"{image} is no readable image"}


def test_a_linked_image_that_is_missing_is_said_as_well(run: Path) -> None:
    assert "gone.png" in album(run, ["images/gone.png"], budget=1).unreadable["images/gone.png"]
    names = [f"images/{path.name}" for path in sorted((run / "images").iterdir())]
    found = album(run, [*names[:2], "images/gone.png"], budget=1)
    assert (found.embedded, found.linked) == (1, 1)
    assert found.unreadable == {"images/gone.png": "images/gone.png is missing"}


def _section(page: str, name: str) -> str:
    """The text of a section of the page; empty if there is none."""
    found = re.search(rf'<section id="{name}">(.*?)</section>', page, re.DOTALL)
    return found[1] if found else ""


def test_lost_files_are_not_failed_cells_and_their_scores_count(run: Path) -> None:
    image = sorted((run / "images").iterdir())[0]
    content = image.read_bytes()
    before = json.loads((report(run).parent / "report.json").read_text(encoding="utf-8"))
    try:
        image.unlink()
        page = report(run).read_text(encoding="utf-8")
        assert json.loads((run / "report.json").read_text(encoding="utf-8"))["settings"] == before["settings"]
        lost = _section(page, "lost")
        assert image.name in lost
        assert "Their stored scores still count in every mean" in lost
        assert not _section(page, "failed")
        assert "<dt>images</dt><dd>7 of 8</dd>" in page
        assert page.count('<span class="bad">1 of them lost</span>') == 1
        assert '"lost": {"' in page
        assert '"bad": {}' in page
    finally:
        image.write_bytes(content)
    page = report(run).read_text(encoding="utf-8")
    assert "<dt>images</dt><dd>8</dd>" in page
    assert not _section(page, "lost")


def test_the_report_of_imported_images_prints_no_command_that_is_refused(tmp_path: Path) -> None:
    for number, scale in enumerate((5, 7)):
        write_png(tmp_path / "in" / f"{number}.png", {"parameters": infotext(cfg=scale)}, number)
    write_png(tmp_path / "in" / "bare.png", {})
    import_images([tmp_path / "in"], tmp_path / "run")
    page = report(tmp_path / "run").read_text(encoding="utf-8")
    again = page[page.index('<section class="again">') : page.index("The experiment, experiment.yaml")]
    assert re.findall(r"<code>cfglab (\w+)", again) == ["compare", "report"]
    assert "Every image opens" not in again
    assert '"remade": false' in page
    assert "Images of the folders that are not in this run" in page
    assert "Settings of the experiment that cannot be made" not in page
