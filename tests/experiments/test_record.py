"""An image's record is believed only as a whole: part against part, against the image, and against the model here.

Every case is an image that was really drawn, with one thing changed; nothing may be drawn, downloaded or written.
"""

import io
import json
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

import cfglab
from cfglab.cli import call
from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.models import model_facts
from cfglab.experiments.storage.png import encode, read_pixels, read_record

Json = dict[str, Any]
SIDE = 64


@pytest.fixture(scope="module")
def true_record(tiny: Path) -> Json:
    """The record of a batch of four on the tiny model, as it stands in an image."""
    experiment = Experiment(
        name="x",
        model=str(tiny),
        prompts=("a", "b"),
        seeds=(0, 1),
        steps=2,
        sampler="euler",
        baseline={"name": "c", "group": "g", "title": "", "guidance": 3},
        settings=[{"name": "c", "group": "g", "title": "", "guidance": 3}],
    )
    batch = [cell for _, cell in experiment.cells(model_facts(str(tiny)))]
    file = encode(np.zeros((4, SIDE, SIDE, 3), np.uint8), batch, {"torch": "2"})[1]
    with Image.open(io.BytesIO(file)) as image:
        record: Json = json.loads(image.text["cfglab"])  # type: ignore[attr-defined]
    return record


def picture(path: Path, record: object, width: int = SIDE, height: int = SIDE) -> Path:
    """A black image with a record, which is an object or a text."""
    info = PngImagePlugin.PngInfo()
    info.add_text("cfglab", record if isinstance(record, str) else json.dumps(record), zip=True)
    Image.new("RGB", (width, height)).save(path, pnginfo=info)
    return path


@pytest.fixture
def nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(*_: object, **__: object) -> None:
        raise AssertionError("it was drawn")

    monkeypatch.setattr("cfglab.experiments.backends.pipeline.PipelineBackend.generate", drawn)
    monkeypatch.setattr("cfglab.pipelines.loading.model_folder._download", drawn)


def refused(image: Path, folder: Path) -> str:
    """What reproduce and trace say, which is the same, within seconds, and leaving no file."""
    before = sorted(folder.rglob("*"))
    lines = []
    start = time.monotonic()
    for attempt in (lambda: cfglab.reproduce(image, folder / "copy.png"), lambda: trace_of(image)):
        with pytest.raises(cfglab.InputError) as error:
            attempt()
        lines.append(str(error.value))
    assert time.monotonic() - start < 30
    assert sorted(folder.rglob("*")) == before
    assert lines[0] == lines[1]
    assert lines[0].startswith(f"{image}: ")
    return lines[0]


def trace_of(image: Path) -> object:
    from cfglab.experiments.execution.reproduce import trace_of

    return trace_of(image)


def every(field: str, value: object) -> Callable[[Json], None]:
    """Every cell of the record with another value: consistent in itself."""

    def change(record: Json) -> None:
        for cell in (record["cell"], *record["batch"]):
            cell[field] = value

    return change


def one(field: str, value: object) -> Callable[[Json], None]:
    """One batch mate with another value."""
    return lambda record: record["batch"][0].update({field: value})


def top(field: str, value: object) -> Callable[[Json], None]:
    return lambda record: record.update({field: value})


def drop(*fields: str) -> Callable[[Json], None]:
    def remove(record: dict[str, Any]) -> None:
        for field in fields:
            del record[field]

    return remove


def config(key: str, value: object) -> Callable[[Json], None]:
    def change(record: Json) -> None:
        for cell in (record["cell"], *record["batch"]):
            cell["sampler_config"] = {**cell["sampler_config"], key: value}

    return change


HUGE = 10**30
CHANGES: dict[str, tuple[Callable[[Json], None], str]] = {
    # the batch, and the place in it
    "index -1": (top("index", -1), "index -1 in a batch of 4"),
    "index 4": (top("index", 4), "index 4 in a batch of 4"),
    "index of another": (top("index", 2), "its cell is not number 2 of its batch"),
    "index 1e9": (top("index", 10**9), "index 1000000000"),
    "index in words": (top("index", "one"), "cannot be read"),
    "no batch": (top("batch", []), "a batch has 1 to 48 images, and this one has 0"),
    "a large batch": (lambda it: it.update(batch=it["batch"] * 20), "has 80"),
    "the same twice": (lambda it: it["batch"].append(it["batch"][0]), "twice"),
    "no cell": (drop("cell"), "cannot be read"),
    "another field": (top("run", "rm"), "cannot be read"),
    "another cell": (lambda it: it["cell"].update(seed=7), "its cell is not number 1 of its batch"),
    # one of the batch unlike the others
    "a mate of other steps": (one("steps", 3), "differ in steps"),
    "a mate of another model": (one("model", "scenes"), "differ in model"),
    "a mate of another size": (one("width", 128), "differ in width"),
    "a mate of other weights": (one("weights", "0" * 64), "differ in weights"),
    "a mate of another scheduler": (one("sampler_config", {}), "differ in sampler_config"),
    "a mate with a seed below 0": (one("seed", -1), "seed -1, and a seed is 0 to"),
    "a mate's prompt too long": (one("prompt", "a" * 10_001), "a prompt of 10,001 characters"),
    "a mate's guidance of 3 steps": (one("guidance", [1, 2, 3]), "cannot"),
    # sizes, against the image and beyond what there is
    **{f"width {it}": (every("width", it), "64 x 64") for it in (0, -16, 63, 128, 1_000_000)},
    **{f"height {it}": (every("height", it), "64 x 64") for it in (0, -16, 63, 128, 1_000_000)},
    "width 1e30": (every("width", HUGE), ""),
    "width 64.5": (every("width", 64.5), "cannot be read"),
    # steps
    **{f"steps {it}": (every("steps", it), f"steps {it}, and a run has 1 to 10,000") for it in (0, -1, 10**9, HUGE)},
    "steps in words": (every("steps", "many"), "cannot be read"),
    # seeds
    "seed -1": (every("seed", -1), ""),
    "seed 2**64": (lambda it: [cell.update(seed=2**64) for cell in (it["cell"], it["batch"][1])] and None, "seed 184"),
    "seed 1e30": (lambda it: [cell.update(seed=HUGE) for cell in (it["cell"], it["batch"][1])] and None, "seed 1000"),
    # names
    "a sampler that is none": (every("sampler", "eulr"), "sampler 'eulr', and there are"),
    "a sampler of a mixture": (every("sampler", "nope"), "sampler"),
    "a dtype that is none": (every("dtype", "int8"), "dtype 'int8'"),
    "weights that are none": (every("weights", "../../x"), "are no hash"),
    "other weights": (every("weights", "0" * 64), "was drawn with weights 000000000000"),
    "no model": (every("model", ""), "the model's name"),
    "a model on another machine": (every("model", "\\\\host\\share"), "is on another machine"),
    "a model on a net drive": (every("model", "//host/share"), "is on another machine"),
    "a model with a NUL": (every("model", "a\0b"), "the model's name"),
    "a model with an escape": (every("model", "a\x1b[2Jb"), "the model's name"),
    "a model that is no folder": (every("model", "./nowhere"), "no model"),
    "a model on the hub": (every("model", "someone/something"), "--allow-download"),
    "a model no hub has": (every("model", "a--b/c"), "no model"),
    "a folder that is no model": (every("model", "/"), "is no pipeline"),
    "a mixture that is none": (every("model", "mixture:nope"), ""),
    "a mixture": (every("model", "mixture:tree"), ""),
    # the scheduler's configuration
    "another scheduler": (config("beta_end", 0.5), "another scheduler configuration"),
    "a scheduler with more": (config("rm", "-rf"), "another scheduler configuration"),
    "no scheduler": (every("sampler_config", {}), "another scheduler configuration"),
    # guidance
    "a guidance that is none": (every("guidance", {"rm": 1}), "cannot be read"),
    "a guidance of another length": (
        lambda it: [cell.update(guidance=listed(1)) for cell in (it["cell"], it["batch"][1])] and None,
        "its guidance cannot run 2 steps (a list of 1 scales for 2 steps",
    ),
    # the rest
    "a long negative prompt": (every("negative", "a" * 10_001), "a negative prompt of 10,001 characters"),
    "many versions": (top("versions", {str(it): "1" for it in range(51)}), "at most 50 versions"),
    "a long version": (top("versions", {"torch": "1" * 101}), "at most 50 versions"),
    "a prompt that is a list": (every("prompt", ["a"]), "cannot be read"),
    "a prompt that is null": (every("prompt", None), "cannot be read"),
}


def listed(count: int) -> Json:
    """A list of scales as it stands in a record."""
    return json.loads(cfglab.Guidance([float(it + 1) for it in range(count)]).to_json())  # type: ignore[no-any-return]


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize("name", CHANGES)
def test_a_record_that_cannot_be_true_is_refused_before_anything_is_done(
    name: str, true_record: Json, tmp_path: Path
) -> None:
    record = json.loads(json.dumps(true_record))
    change, words = CHANGES[name]
    change(record)
    assert words in refused(picture(tmp_path / "a.png", record), tmp_path)


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "1e999",
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5_000,
        '{"index": ' + "9" * 5_000 + "}",
        "\x00",
    ],
    ids=lambda text: text[:12] or "empty",
)
def test_a_record_that_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    words = refused(picture(tmp_path / "a.png", text), tmp_path)
    assert "cannot be read" in words or "carries no cell" in words


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize(("width", "height"), [(32, 64), (64, 32), (128, 128), (1, 1)])
def test_a_resized_picture_that_keeps_its_text_is_refused(
    width: int, height: int, true_record: Json, tmp_path: Path
) -> None:
    words = refused(picture(tmp_path / "a.png", true_record, width, height), tmp_path)
    assert f"its cell has 64 x 64 pixels, and the image {width} x {height}" in words


def test_the_record_as_it_is_draws_the_picture(true_record: Json, tmp_path: Path) -> None:
    copy = cfglab.reproduce(picture(tmp_path / "a.png", true_record), tmp_path / "copy.png")
    assert not copy.identical  # the image is black
    assert cfglab.reproduce(tmp_path / "copy.png", tmp_path / "again.png").identical
    assert read_record(tmp_path / "copy.png").batch == read_record(tmp_path / "a.png").batch


@pytest.mark.usefixtures("nothing_is_drawn")
def test_a_copy_goes_where_a_file_can_stand(true_record: Json, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png", true_record)
    (tmp_path / "link.png").symlink_to(image)
    for out, words in {
        image: "is the image itself",
        tmp_path / "link.png": "is the image itself",
        tmp_path: "is a folder; name a file",
        Path("/dev/null"): "is a device",
        tmp_path / "no" / "copy.png": "there is no folder",
    }.items():
        with pytest.raises(cfglab.InputError, match=words):
            cfglab.reproduce(image, out)
    assert Path("/dev/null").is_char_device()


# -- the file --------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, rows: int = 1) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = zlib.compress(b"\0" * min((3 * width + 1) * rows, 10**7))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def text(size: int, kind: bytes = b"zTXt", key: bytes = b"cfglab") -> bytes:
    """A text chunk of so many characters, compressed where its kind is."""
    data = b"a" * size
    if kind == b"tEXt":
        return chunk(kind, key + b"\0" + data)
    packed = zlib.compress(data)
    return chunk(kind, key + (b"\0\0" if kind == b"zTXt" else b"\0\1\0\0\0") + packed)


LARGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "100 megapixels": (lambda: png(10_000, 10_000), "10,000 x 10,000 pixels, and at most 16,777,216 are read"),
    "400 megapixels": (lambda: png(20_000, 20_000), "20,000 x 20,000 pixels"),
    "a line": (lambda: png(2**31 - 1, 1), "2,147,483,647 x 1 pixels"),
    "a column": (lambda: png(1, 2**31 - 1), "1 x 2,147,483,647 pixels"),
    "no width": (lambda: png(0, 64), "is no image"),
    "no height": (lambda: png(64, 0), "is no image"),
    "a text that grows": (lambda: png(64, 64, text(50_000_000), rows=64), "a text in it has more than 1,048,576 bytes"),
    "an iTXt that grows": (lambda: png(64, 64, text(50_000_000, b"iTXt"), rows=64), "more than 1,048,576 bytes"),
    "a long text": (lambda: png(64, 64, text(2_000_000, b"tEXt"), rows=64), "a text in it has 2,000,007 bytes"),
    "many texts": (lambda: png(64, 64, *[text(10, b"tEXt", b"x")] * 100, rows=64), "more than 32 texts"),
    "many chunks": (lambda: png(64, 64, *[chunk(b"teSt", b"")] * 30_000, rows=64), "more than 20,000 chunks"),
    "two records": (lambda: png(64, 64, text(10), text(10), rows=64), "carries 2 records"),
    "two headers": (
        lambda: png(64, 64, chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)), rows=64),
        "it has two headers",
    ),
    "a chunk that lies": (lambda: png(64, 64)[:8] + struct.pack(">I4s", 2**31 - 1, b"IHDR") + b"abc", "it is cut off"),
    "a record cut off": (lambda: png(64, 64, chunk(b"zTXt", b"cfglab\0"), rows=64), ""),
    "a record damaged": (lambda: png(64, 64, chunk(b"zTXt", b"cfglab\0\0abc"), rows=64), "is no image"),
    "a record of iTXt cut off": (lambda: png(64, 64, chunk(b"iTXt", b"cfglab\0\1"), rows=64), "is no image"),
    "no pixels": (lambda: png(64, 64)[:33] + chunk(b"IEND", b""), "is no image"),
    "a JPEG": (lambda: b"\xff\xd8\xff\xe0" + b"0" * 100, "is no image"),
    "a script": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run", "is no image"),
    "nothing": (lambda: b"", "is no image"),
}


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize("name", LARGE)
def test_an_image_is_bounded_before_it_is_decoded(name: str, tmp_path: Path) -> None:
    make, words = LARGE[name]
    image = tmp_path / "a.png"
    image.write_bytes(make())
    assert words in refused(image, tmp_path)


def test_a_picture_as_large_as_is_allowed_is_looked_into() -> None:
    from cfglab.experiments.storage.png_chunks import scan

    chunks = scan(png(4096, 4096, text(1_048_576)), "cfglab")
    assert (chunks.width, chunks.height) == (4096, 4096)
    assert len(chunks.records[0]) == 1_048_576


def test_real_pictures_are_bounded_too_and_other_files_passed_over(tmp_path: Path) -> None:
    from cfglab.experiments.scoring.metric_models import _read

    for number in range(128):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.jpg")
    (tmp_path / "run.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run")
    (tmp_path / "film.mp4").write_bytes(b"0" * 100)
    assert len(_read(tmp_path)) == 128
    (tmp_path / "large.png").write_bytes(png(20_000, 20_000))
    with pytest.raises(cfglab.InputError, match=r"large\.png: is too large \(it has 20,000 x 20,000 pixels"):
        _read(tmp_path)


# -- anything --------------------------------------------------------------------------------------------------------


def refusal(attempt: Callable[[], object]) -> str:
    """The line in which an attempt is refused; "" where it is not."""
    try:
        attempt()
    except cfglab.InputError as error:
        return str(error)
    return ""


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([HUGE, "scenes"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_in_a_record_is_a_record_or_one_line(
    data: st.DataObject, true_record: Json, tmp_path: Path
) -> None:
    record = json.loads(json.dumps(true_record))
    cell = data.draw(st.sampled_from([record, record["cell"], record["batch"][1]]))
    for field in data.draw(st.lists(st.sampled_from(sorted(cell)), min_size=1, max_size=3, unique=True)):
        cell[field] = data.draw(VALUES)
    image = picture(tmp_path / "a.png", record)
    if refusal(lambda: read_record(image)) == "":
        read = read_record(image)
        assert read.batch[read.index] == read.cell


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_a_file_is_a_picture_or_one_line(data: st.DataObject, true_record: Json, tmp_path: Path) -> None:
    content = bytearray(picture(tmp_path / "a.png", true_record).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        end = place + data.draw(st.sampled_from([0, 1, 4, len(content)]))
        content[place:end] = data.draw(st.binary(max_size=8))
    (tmp_path / "b.png").write_bytes(content)
    for read in (read_record, read_pixels):
        assert "\n" not in refusal(lambda: read(tmp_path / "b.png"))  # noqa: B023 (called at once)


# -- consent ---------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def asked_for(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hub ids that were downloaded: a stand-in gives the tiny model for each."""
    found: list[str] = []

    def download(name: str, *_: object) -> Path:
        found.append(name)
        return tiny

    monkeypatch.setattr("cfglab.pipelines.loading.model_folder._download", download)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    return found


@pytest.fixture
def from_the_hub(true_record: Json, tmp_path: Path) -> Path:
    """An image whose record names a hub model; with the weights of the stand-in."""
    record = json.loads(json.dumps(true_record))
    every("model", "someone/something")(record)
    return picture(tmp_path / "a.png", record)


YAML = """
name: small
model: someone/something
prompts: [a]
seeds: 0
steps: 2
baseline: {name: c, guidance: 3}
"""


def commands(image: Path, folder: Path) -> dict[str, list[str]]:
    """Every command that reads a file which may name a model."""
    (folder / "own.yaml").write_text(YAML)
    return {
        "reproduce": ["reproduce", str(image), "--out", str(folder / "copy.png")],
        "trace": ["trace", str(image)],
        "run": ["run", str(folder / "own.yaml"), "--out", str(folder / "run")],
    }


@pytest.mark.parametrize("command", ["reproduce", "trace", "run"])
@pytest.mark.parametrize(
    ("answer", "options", "downloads"),
    [(None, [], False), ("n\n", [], False), ("", [], False), ("y\n", [], True), (None, ["--allow-download"], True)],
)
def test_a_file_that_names_a_hub_model_asks_the_network_only_with_consent(
    command: str,
    answer: str | None,
    options: list[str],
    downloads: bool,
    asked_for: list[str],
    from_the_hub: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n") if answer is None else Terminal(answer))
    code = call([*commands(from_the_hub, tmp_path)[command], *options])
    err = capsys.readouterr().err
    assert set(asked_for) == ({"someone/something"} if downloads else set())
    assert ("Download it? [y/N]" in err) == (answer is not None)
    if not downloads:
        assert code == 2
        assert ("--allow-download" if answer is None else "not downloaded") in err
        assert not (tmp_path / "copy.png").exists()
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("named", [["--model", "someone/something"], ["--set", "model=someone/something"]])
def test_a_hub_model_that_the_command_names_is_consent(
    named: list[str], asked_for: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    (tmp_path / "own.yaml").write_text(YAML)
    assert call(["run", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "run"), *named, "--quiet"]) == 0
    assert asked_for


def test_in_python_a_name_is_consent_and_a_picture_is_none(
    asked_for: list[str], from_the_hub: Path, tmp_path: Path
) -> None:
    with pytest.raises(cfglab.DownloadNeeded, match=r"a\.png: the hub model 'someone/something' is named by a file"):
        cfglab.reproduce(from_the_hub, tmp_path / "copy.png")
    with pytest.raises(cfglab.DownloadNeeded):
        cfglab.load("someone/something", device="cpu", allow_download=False)
    assert asked_for == []
    cfglab.load("someone/something", device="cpu")
    assert asked_for == ["someone/something"]
