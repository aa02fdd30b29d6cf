"""The one writer of a folder: what a lock that is taken, refused or never answered becomes."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cfglab.errors import InputError, MachineError
from cfglab.experiments.storage import files
from cfglab.experiments.storage.files import LOCK, only_writer
from tests.quick_run import contents, quick, run_quickly

ROOT = Path(__file__).parents[2]
SYSTEM = {"flock": fcntl.flock}


def failing(code: int) -> Any:
    def flock(_: object, operation: int) -> None:
        if operation != fcntl.LOCK_UN:
            raise OSError(code, os.strerror(code))

    return flock


@pytest.mark.parametrize(
    "code",
    [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EIO, errno.EINTR, errno.EROFS, errno.EPERM, errno.ESTALE],
    ids=errno.errorcode.get,
)
def test_a_file_system_without_locks_is_not_called_another_writer(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(code))
    with pytest.raises(
        MachineError, match=r"run: its file system gives no lock \(.+\), and a run has one writer; "
    ) as it:
        run_quickly(tmp_path / "run")
    assert os.strerror(code) in str(it.value)
    assert "\n" not in str(it.value)
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == [LOCK]


@pytest.mark.parametrize("code", [errno.EWOULDBLOCK, errno.EACCES], ids=errno.errorcode.get)
def test_a_lock_that_is_taken_is_another_writers(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(code))
    (tmp_path / LOCK).write_text("4711")
    with pytest.raises(InputError, match="process 4711 is writing there; one writer a run"), only_writer(tmp_path):
        pass
    assert (tmp_path / LOCK).read_text() == "4711"


@pytest.mark.parametrize("left", ["", "not a number", "\x00\x00"])
def test_a_writer_that_left_no_number_is_another_process(left: str, tmp_path: Path) -> None:
    with only_writer(tmp_path):
        (tmp_path / LOCK).write_text(left)
        with pytest.raises(InputError, match="another process is writing there"), only_writer(tmp_path):
            pass


def test_the_first_byte_of_the_lock_may_be_unreadable_as_on_windows(tmp_path: Path) -> None:
    with only_writer(tmp_path):
        assert (tmp_path / LOCK).read_bytes()[1:] == str(os.getpid()).encode()


def test_a_file_system_that_never_answers_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(fcntl, "flock", lambda *_: never.wait())
    monkeypatch.setattr(files, "PATIENCE", 0.01)
    with pytest.raises(MachineError, match="does not answer when it is asked for a lock"), only_writer(tmp_path):
        pass
    never.set()


def test_a_lock_that_is_no_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(MachineError, match=r"cannot be written \(Is a directory\)"), only_writer(tmp_path):
        pass


RACE = """
import sys
from pathlib import Path
from cfglab.errors import InputError
from cfglab.experiments.storage.store import Store
from tests.quick_run import quick, run_quickly

def before(number):
    print("drawing", flush=True)
    sys.stdin.readline()

try:
    store_check, begun = Store.check, False
    def check(folder, experiment):
        new = store_check(folder, experiment)
        print("ready", flush=True)
        sys.stdin.readline()
        return new
    Store.check = check
    print("drawn", run_quickly(Path(sys.argv[1]), before).drawn, flush=True)
except InputError as error:
    print(error, flush=True)
"""


def test_of_three_that_begin_one_folder_at_once_one_draws(tmp_path: Path) -> None:
    """All three have found the folder empty before any of them locks it."""
    quiet, folder = tmp_path / "quiet", tmp_path / "run"
    run_quickly(quiet)
    three = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    lines = [[process.stdout.readline().strip()] for process in three]  # type: ignore[union-attr]
    for process in three:
        process.stdin.write("go\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    lines = [[*before, process.stdout.readline().strip()] for before, process in zip(lines, three, strict=True)]  # type: ignore[union-attr]
    (winner,) = [process for process, words in zip(three, lines, strict=True) if words[1] == "drawing"]
    winner.kill()
    rest = [process.communicate()[0] for process in three]
    assert (
        sorted(words[1] for words in lines if words[1] != "drawing")
        == [f"{folder}: process {winner.pid} is writing there; one writer a run: wait for it, or choose another --out."]
        * 2
    )
    assert rest == ["", "", ""]
    assert run_quickly(folder, experiment=quick()).drawn == 8
    assert contents(folder) == contents(quiet)
