"""Files as people have them and as they should not be: each is read as a person meant it, or refused in one line."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import cfglab
from cfglab.cli import call
from cfglab.experiments.spec.prompts import read_prompts
from cfglab.experiments.storage.png import read_pixels, read_record
from cfglab.report.page.thumbnails import album
from tests.small_run import YAML, small_run
from tests.tiny import tiny_pipeline


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that is refused, and no file or folder is new."""
    before = sorted(Path().rglob("*"))
    assert call(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    return err


# -- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        (b"\xef\xbb\xbfa cat\na dog\n", ("a cat", "a dog")),  # a byte order mark
        (b"a cat\r\na dog\r\n", ("a cat", "a dog")),
        (b"a cat\ra dog", ("a cat", "a dog")),
        (b"a cat\n\r\n \t\na dog\n\n", ("a cat", "a dog")),
        ("a\u2028cat\u2029and\x85more".encode(), ("a\u2028cat\u2029and\x85more",)),
        (b"a\x0ccat\x0band\x1cmore\x1d\x1e!", ("a\x0ccat\x0band\x1cmore\x1d\x1e!",)),
        ("猫 — “naïve”".encode(), ("猫 — “naïve”",)),
    ],
)
def test_lines_of_a_prompt_file_end_with_line_ends_only(content: bytes, prompts: tuple[str, ...]) -> None:
    Path("more.txt").write_bytes(content)
    assert read_prompts(["@more.txt"]) == prompts


def test_a_byte_order_mark_is_no_part_of_an_experiment() -> None:
    Path("marked.yaml").write_bytes(b"\xef\xbb\xbf" + YAML.encode())
    assert cfglab.Experiment.from_yaml(Path("marked.yaml")) == cfglab.Experiment.from_yaml(YAML)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a caf\xe9", "not UTF-8 text: byte 0xe9 at offset 5"),
        (b"a cat\x00", "byte 0x00 at offset 5"),
        ("a cat".encode("utf-16"), "it is UTF-16, not UTF-8 text"),
        (b"a" * (8 * 1024**2 + 1), "it has 8,388,609 bytes, and at most 8,388,608 are read"),
        (b"a" * 10_001, "has 10,001 characters, and a prompt has at most 10,000"),
        (b"a\n" * 100_001, "there are 100,001, and an experiment has at most 100,000"),
        (b"\n\x0c\n \n", "holds no prompt"),
    ],
)
def test_text_that_is_none_is_refused_with_its_place(
    content: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("more.txt").write_bytes(content)
    assert words in refused(capsys, "run", "k-decay", "--prompts", "@more.txt")


@pytest.mark.parametrize("prompts", ["scenes:" + "9" * 5000, "scenes:1_0", "scenes:٣", "scenes:-1"])
def test_a_set_of_prompts_has_a_plain_number(prompts: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "scenes:N" in refused(capsys, "run", "k-decay", "--prompts", prompts)


# -- what is no file -------------------------------------------------------------------------------------------------


@contextmanager
def standing(path: Path, kind: str) -> Iterator[None]:
    """Something that is no regular file stands at a path."""
    path.unlink(missing_ok=True)
    held = None
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        held = socket.socket(socket.AF_UNIX)
        held.bind(path.name)  # a path may have 107 bytes there
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(33_000_000_000)
    elif kind == "loop":
        path.symlink_to(path.name)
    try:
        yield
    finally:
        if held:
            held.close()


KINDS = ["pipe", "folder", "device", "socket", "large", "loop"]


def attempts(name: str) -> dict[str, Callable[[], object]]:
    """Every reader of a file that a person names."""
    return {
        "prompts": lambda: read_prompts([f"@{name}"]),
        "yaml": lambda: cfglab.Experiment.from_yaml(Path(name)),
        "pixels": lambda: read_pixels(name),
        "record": lambda: read_record(name),
        "reproduce": lambda: cfglab.reproduce(name, "copy.png"),
        "model": lambda: cfglab.load(name, device="cpu"),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", sorted(attempts("")))
def test_a_reader_refuses_what_is_no_file_and_waits_for_nothing(kind: str, reader: str) -> None:
    with standing(Path("it"), kind):
        start = time.monotonic()
        with pytest.raises(cfglab.InputError, match=r"^[^\n]*\bit\b[^\n]*$"):
            attempts("it")[reader]()
        assert time.monotonic() - start < 60  # a pipe would wait for ever
    assert not Path("copy.png").exists()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("model") / "tiny")


FILES = [
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/merges.txt",
    "vae/other.json",
]


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
@pytest.mark.parametrize("name", FILES)
def test_a_model_folder_holds_files_of_a_usual_size(kind: str, name: str, model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m"
    for file in model.rglob("*"):
        place = copy / file.relative_to(model)
        if file.is_dir():
            place.mkdir(parents=True)
        elif str(file.relative_to(model)) != name:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    with standing(copy / name, kind), pytest.raises(cfglab.InputError, match=Path(name).name.replace(".", r"\.")):
        cfglab.load(copy, device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_picture_of_a_run_is_passed_over_in_its_report(kind: str, tmp_path: Path) -> None:
    name = f"images/{'0' * 64}.png"
    (tmp_path / "images").mkdir()
    os.chdir(tmp_path / "images")
    with standing(Path(f"{'0' * 64}.png"), kind):
        assert album(tmp_path, [name]).unreadable == {name: f"{name} is no readable image"}


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
def test_versions_of_a_run_that_are_no_file_leave_its_report(kind: str, tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")
    os.chdir(folder)
    with standing(Path("versions.json"), kind):
        assert cfglab.Run(folder).report().is_file()


@pytest.mark.parametrize("image", ["../secret.png", "/etc/passwd", "images/../../x.png", "images/a.svg", "//host/x"])
def test_a_database_names_no_file_outside_the_runs_images(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import sqlite3

    folder = small_run(tmp_path / "run")
    with sqlite3.connect(folder / "results.sqlite") as database:
        database.execute("UPDATE results SET image = ? WHERE position = 0", (image,))
    for command in ("report", "compare"):
        code = call([command, str(folder)])
        assert code == (2 if command == "report" else code)
    assert "a row is damaged (image" in capsys.readouterr().err
    with pytest.raises(cfglab.InputError, match=r"a row is damaged \(image"):
        cfglab.Store.open(folder).results()


# -- paths -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_the_home_folder_is_meant_by_every_path_option(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_run(home / "run")
    (home / "more.txt").write_text("a cat")
    (home / "mine.yaml").write_text(YAML)
    assert call(["plot", "7.5", "--out=~/curve.svg"]) == 0
    assert (home / "curve.svg").is_file()
    for command in (["report"], ["compare"]):
        assert call([*command, "~/run"]) == 0
    capsys.readouterr()
    nowhere = {
        ("trace", "~/x.png"): f"{home}/x.png: there is no such image",
        ("reproduce", "~/x.png", "--out=~/y.png"): f"{home}/x.png",
        ("score", "~/none", "clip_score"): f"{home}/none: holds no run",
        ("run", "k-decay", "--model=~/none"): "no model '~/none'",
        ("run", "k-decay", "--prompts", "@~/none.txt"): "'@~/none.txt': the file cannot be read (No such file",
        ("run", "~/none.yaml"): "~/none.yaml: the file cannot be read (No such file",
    }
    for arguments, words in nowhere.items():
        call(list(arguments))
        assert words in capsys.readouterr().err
    assert read_prompts(["@~/more.txt"]) == ("a cat",)
    assert cfglab.Experiment.from_yaml("~/mine.yaml") == cfglab.Experiment.from_yaml(YAML)
    assert not Path("~").exists()


def test_every_path_of_every_command_goes_through_one_reader_of_paths() -> None:
    import inspect
    import typing

    from cfglab.cli.app import app
    from cfglab.cli.options import path

    found = []
    for command in app.registered_commands:
        assert command.callback
        for name, parameter in inspect.signature(command.callback).parameters.items():
            kind, *information = typing.get_args(parameter.annotation) or (parameter.annotation,)
            if kind is Path or Path in typing.get_args(kind):
                found.append(name)
                assert information[0].parser is path, f"{command.callback.__name__}: {name}"
    assert len(found) >= 9


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "k-decay", "--out="],
        ["run", "k-decay", "--out=~nobody-of-that-name/x"],
        ["run", "k-decay", "--out=a\0b"],
        ["plot", "7.5", "--out="],
        ["tune", "{w:1..2}", "--out="],
        ["report", ""],
        ["trace", ""],
        ["trace", "/"],
        ["reproduce", "", "--out", "x.png"],
        ["run", "k-decay", "--model=~nobody-of-that-name/x"],
        ["run", "k-decay", "--model=a\0b"],
        ["run", "k-decay", "--model=" + "a" * 5000],
        ["run", "k-decay", "--model=a--b/c"],
        ["run", "k-decay", "--model=a/.."],
        ["run", "k-decay", "--prompts=@"],
        ["run", "k-decay", "--prompts=@a\0b"],
    ],
    ids=lambda words: " ".join(words)[:50].replace("\0", "NUL"),
)
def test_a_path_that_is_none_is_refused_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "fault of cfglab" not in refused(capsys, *arguments)


NAMES = [
    "../x",
    "/abs",
    "a/b",
    "a\\b",
    "..",
    ".",
    ".hidden",
    "~",
    "-rf",
    "",
    " ",
    "a ",
    "a.",
    "con",
    "NUL.txt",
    "com1",
    "LPT¹",
    "C:x",
    "a*",
    'a"b',
    "a|b",
    "a\nb",
    "a\x00b",
    "a\x1b[2J",
    "a\u202eb",
    "a\u200bb",
    "a" * 101,
    "猫" * 100,
    "a\u2028b",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_an_experiments_name_is_no_way_out_of_runs(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []
    monkeypatch.setattr("cfglab.experiments.execution.run.run", lambda _, folder, *__, **___: started.append(folder))
    assert "names the run's folder" in refused(
        capsys, "run", "scale", "--prompts", "a", "--set", f"name={quoted(name)}"
    )
    assert started == []


@pytest.mark.parametrize("name", ["k-decay", "My run, 2nd try (w=7.5)", "猫", "été_1", "console", "a.b", "nullable"])
def test_usual_names_are_folders(name: str) -> None:
    from cfglab.experiments.storage.files import folder_name

    assert folder_name(name) == name


def quoted(text: str) -> str:
    """A text in YAML's double quotes."""
    return '"' + "".join(it if it.isascii() and it.isalnum() else f"\\U{ord(it):08x}" for it in text) + '"'


def test_a_file_is_written_over_nothing_but_a_file(tmp_path: Path) -> None:
    from cfglab.experiments.storage.files import write_whole

    for kind in ("pipe", "folder", "device", "socket"):
        with standing(Path(f"{kind}.png"), kind), pytest.raises(cfglab.InputError, match=f"{kind}.png: is a"):
            write_whole(tmp_path / f"{kind}.png", b"content")
    assert Path("/dev/zero").is_char_device()
