"""Every file operation of a run fails once, in turn, with an error of the machine: the run stops with one line, and the
same command goes on to the same end.

Python announces what it asks of the system (`sys.addaudithook`), and the hook raises in place of it; what is not
announced (fsync, writing, closing) is replaced. The short form is part of `make test`.
"""

import errno
import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfglab.cli.error_messages import explain
from cfglab.errors import CfglabError
from cfglab.report import report
from tests.quick_run import contents, run_quickly

CODES = (
    *(errno.EIO, errno.EACCES, errno.ENOSPC, errno.EROFS, errno.ENOENT, errno.EMFILE, errno.ENOMEM, errno.EDQUOT),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EINTR),
)
EVENTS = {
    *("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate"),
    *("fcntl.flock", "sqlite3.connect", "tempfile.mkstemp", "shutil.rmtree"),
}
DIRECT = ("fsync", "stat", "write", "ftruncate", "close")


class Machine:
    """Counts what a run asks of the system within its folder, and fails at one of these."""

    def __init__(self) -> None:
        self.folder, self.fails_at, self.code, self.count, self.busy = "", -1, 0, 0, False
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder or event not in EVENTS:
            return
        if event == "fcntl.flock" or any(
            self.folder in os.fsdecode(it) for it in arguments if isinstance(it, str | bytes | os.PathLike)
        ):
            self.step()

    def step(self) -> None:
        self.count += 1
        if self.count == self.fails_at:
            raise OSError(self.code, os.strerror(self.code))

    def run(self, folder: Path, work: Callable[[Path], object], fails_at: int, code: int) -> Exception | None:
        """What the work raised, if anything."""
        with pytest.MonkeyPatch.context() as patch:
            for name in DIRECT:
                patch.setattr(os, name, self._counted(getattr(os, name), name))
            self.folder, self.fails_at, self.code, self.count = str(folder), fails_at, code, 0
            try:
                work(folder)
            except Exception as error:
                return error
            finally:
                self.folder = ""
        return None

    def _counted(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            inside = name in ("fsync", "ftruncate") or any(self.folder in str(it) for it in arguments[:1])
            if self.folder and inside:
                self.step()
            return real(*arguments, **options)

        return call


machine = Machine()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("quiet") / "run"
    work(folder)
    return contents(folder)


def work(folder: Path) -> None:
    run_quickly(folder)
    report(folder)


def one_line(error: Exception) -> str:
    """The words of the command line, which are ours or the machine's and not a fault of cfglab."""
    code, words = explain(error)
    assert "fault of cfglab" not in words, words
    assert "\n" not in words
    assert code in (1, 2)
    if isinstance(error, CfglabError):
        assert len(words) < 500
    return words


def fail_at(place: int, code: int, folder: Path, quiet: dict[str, Any]) -> None:
    error = machine.run(folder, work, place, code)
    if error is not None:
        one_line(error)
    work(folder)
    found = contents(folder)
    assert set(found) == set(quiet), f"operation {place} with {errno.errorcode[code]}: {error}"
    assert [name for name in quiet if found[name] != quiet[name]] == []


def operations(folder: Path) -> int:
    assert machine.run(folder, work, -1, 0) is None
    return machine.count


def test_an_operation_that_fails_stops_a_run_with_one_line(tmp_path: Path, quiet: dict[str, Any]) -> None:
    count = operations(tmp_path / "counted")
    assert count > 100
    for number, (place, code) in enumerate(zip(range(1, count, 9), itertools.cycle(CODES), strict=False)):
        fail_at(place, code, tmp_path / str(number), quiet)


@pytest.mark.slow
@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_every_operation_with_every_error(code: int, tmp_path: Path, quiet: dict[str, Any]) -> None:
    for place in range(1, operations(tmp_path / "counted") + 1):
        fail_at(place, code, tmp_path / str(place), quiet)
