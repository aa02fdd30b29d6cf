"""The command line where its streams, its arguments or its terminal are not as usual, and when it is stopped early."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cfglab
from cfglab.cli import call
from cfglab.cli.error_messages import explain
from cfglab.errors import InputError, MachineError

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(cfglab.__file__).parents[1])}
LINE = "cfglab: stopped; run it again to continue.\n"


def shell(command: str, **environment: str) -> tuple[int, bytes, bytes]:
    """Exit code, output and errors of a command for bash, in which `cfglab` is the command line."""
    words = f'cfglab() {{ "{sys.executable}" -m cfglab "$@"; }}; {command}'
    done = subprocess.run(["bash", "-c", words], capture_output=True, env=ENVIRONMENT | environment, check=False)
    return done.returncode, done.stdout, done.stderr


INTERRUPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal, also where tests run in the background
class Interrupt:
    def find_spec(self, name, *_):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from cfglab.cli import main
main()
"""


@pytest.mark.parametrize("module", ["cfglab.cli.streams", "typer", "cfglab.errors", "numpy._core._multiarray_umath"])
def test_ctrl_c_while_something_is_imported_is_one_line(module: str) -> None:
    command, environment = (
        [sys.executable, "-c", INTERRUPT, "compare", "nowhere"],
        ENVIRONMENT | {"INTERRUPT_AT": module},
    )
    done = subprocess.run(command, capture_output=True, env=environment, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", LINE)


def test_an_error_that_an_interrupt_became_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def draw(*_: object, **__: object) -> None:
        raise ImportError("numpy._core.multiarray failed to import")

    monkeypatch.setattr("cfglab.report.terminal.chart.in_text", draw)
    monkeypatch.setattr("cfglab.cli._interrupted", True)
    assert call(["plot", "7.5"]) == 130
    assert capsys.readouterr().err == LINE


@pytest.mark.parametrize(
    ("command", "code", "errors"),
    [
        ("cfglab --version >&-", 0, b""),
        ("cfglab --version <&- 2>&-", 0, b""),
        ("cfglab list nonsense >&- 2>&-", 2, b""),
        ("cfglab list nonsense 2>/dev/full", 2, b""),
        ("cfglab list | head -n 1 >/dev/null; exit ${PIPESTATUS[0]}", 1, b""),
        ("cfglab --version >/dev/full", 1, b"No space left on device"),
        ("cfglab run k-decay --prompts $'caf\\xe9'", 2, b"cfglab: argument 'caf\\xe9': is not UTF-8 text; write it in"),
    ],
)
def test_streams_and_arguments_as_they_may_be(command: str, code: int, errors: bytes) -> None:
    found, _, said = shell(command)
    assert found == code
    assert errors in said
    assert said.count(b"\n") == bool(errors)


def test_a_file_is_never_opened_in_place_of_a_closed_stream(tmp_path: Path) -> None:
    """The number of a closed stream is free: the next file would have it, and get what libraries print."""
    code = (
        "from cfglab.cli import streams; streams.prepare(); import os, sys; f = open(sys.argv[1], 'w'); "
        "os.write(1, b'x'); os.write(2, b'x'); print('y'); assert f.fileno() > 2"
    )
    words = f'"{sys.executable}" -c "{code}" "{tmp_path / "file"}" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", words], env=ENVIRONMENT, check=False).returncode == 0
    assert (tmp_path / "file").read_text() == ""


def test_a_pipe_of_another_kind_that_breaks_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def draw(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("cfglab.report.terminal.chart.in_text", draw)
    assert call(["plot", "7.5"]) == 1
    assert capsys.readouterr().err == "cfglab: Broken pipe; look after the machine and run it again.\n"


@pytest.mark.parametrize("columns", ["0", "1", "2", "-1", "many"])
def test_any_width_will_do(columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.delenv("TERM", raising=False)
    for command in (["plot", "7.5", "cosine(max=7.5, min=1)", "--steps", "3"], ["list"], ["run", "--help"]):
        assert call(command) == 0
    assert capsys.readouterr().err == ""


def test_a_language_without_unicode_gets_the_line_too() -> None:
    code, _, said = shell("cfglab run 'é'", LANG="C", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert code == 2
    assert said.startswith(b"cfglab: '?' is no preset")


# -- what an error is --------------------------------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


class AcceleratorError(RuntimeError):
    """As torch calls its own."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you …"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        ImportError("\n\nIMPORTANT: PLEASE READ THIS\n\nOriginal error was: cannot allocate memory in static TLS"),
        OSError("libtorch_cpu.so: failed to map segment from shared object: Cannot allocate memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory", "unet.safetensors"),
    ],
)
def test_too_little_memory_is_named_wherever_it_shows(error: Exception) -> None:
    code, words = explain(error)
    assert code == 1
    assert words.startswith("out of memory (")
    taken = InputError("model cannot be read as a pipeline; copy it again.")
    taken.__cause__ = error
    assert explain(taken) == (code, words)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MachineError("the disk is full; free some."), 1, "the disk is full; free some."),
        (OSError(errno.EMFILE, "Too many open files", "x"), 1, "too many files are open; close some"),
        (OSError(errno.EIO, "Input/output error", "run/x"), 1, "run/x: Input/output error; look after the machine"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), 1, "Connection reset by peer; look after"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 1, "torch cannot be imported (No module named"),
        (ImportError("libGL.so.1: cannot open shared object file"), 1, "a library cannot be imported (libGL.so.1: "),
        (AcceleratorError("CUDA error: device-side assert triggered"), 1, "the machine failed (CUDA error: device"),
        (RuntimeError("Found no NVIDIA driver on your system."), 1, "the machine failed (Found no NVIDIA driver"),
        (UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid"), 2, "text is not UTF-8 ('utf-8' codec can't decode"),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates"), 2, "text is not UTF-8 ('utf-8' codec can't encode"),
        (KeyError("x"), 1, "KeyError: 'x' -- this is a fault of cfglab; --debug shows where."),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 1, "RuntimeError: mat1 and mat2 shapes cannot be"),
    ],
)
def test_the_machine_is_told_from_our_own_faults(error: Exception, code: int, words: str) -> None:
    found, said = explain(error)
    assert found == code
    assert said.startswith(words)


def test_memory_that_is_too_little_to_explain_anything_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("cfglab.report.terminal.chart.in_text", fail)
    monkeypatch.setattr("cfglab.cli.error_messages.explain", fail)
    assert call(["plot", "7.5"]) == 1
    assert capsys.readouterr().err == "cfglab: out of memory; close other programs, or use fewer or smaller images.\n"


def test_a_condition_of_the_machine_is_found_under_what_came_of_it() -> None:
    error = RuntimeError("Failed to import diffusers.pipelines")
    error.__context__ = OSError(errno.ENOSPC, "No space left on device", "cache")
    assert explain(error) == (1, "cache: No space left on device; look after the machine and run it again.")
