"""cfglab as Windows has it, without modules, functions and signals of POSIX: read from the source, and simulated."""

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

import cfglab
from cfglab.experiments.storage import database

SOURCE = Path(cfglab.__file__).parent
MODULES = {"fcntl", "resource", "termios", "pwd", "grp", "tty", "pty", "syslog", "posix", "crypt", "spwd", "readline"}
OS = {
    *(
        "fork",
        "forkpty",
        "wait",
        "waitpid",
        "wait3",
        "wait4",
        "killpg",
        "getpgid",
        "setsid",
        "setpgid",
        "nice",
        "fchown",
    ),
    *("getuid", "geteuid", "getgid", "getegid", "getgroups", "setuid", "setgid", "chown", "lchown", "fchmod", "mkfifo"),
    *(
        "mknod",
        "pread",
        "pwrite",
        "preadv",
        "pwritev",
        "fdatasync",
        "sync",
        "statvfs",
        "fstatvfs",
        "sysconf",
        "pathconf",
    ),
    *("getloadavg", "sched_getaffinity", "sched_yield", "uname", "ttyname", "openpty", "posix_fadvise", "sendfile"),
    *("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "O_SYNC", "O_DSYNC", "O_TMPFILE", "WNOHANG", "chroot"),
    *("waitstatus_to_exitcode", "get_blocking", "set_blocking", "lockf", "register_at_fork", "dir_fd", "fchdir"),
}
SIGNALS = {name for name in dir(signal) if name.startswith("SIG")} - {
    *("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN"),
}


def faults(tree: ast.AST) -> Iterator[str]:
    """What Windows lacks; `getattr(os, "O_BINARY", 0)` and a `hasattr` beside it are ways to ask first."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (f"{node.lineno}: import {name}" for name in names if name.split(".")[0] in MODULES)  # type: ignore[attr-defined]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            lacks = {"os": OS, "signal": SIGNALS, "errno": {"EDQUOT"}, "time": {"tzset"}}.get(node.value.id, set())
            if node.attr in lacks:
                yield f"{node.lineno}: {node.value.id}.{node.attr}"
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "attr", "")
        in_metadata = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "distribution"  # UTF-8
        encoded = in_metadata or any(keyword.arg == "encoding" for keyword in node.keywords)
        if called in ("write_text", "read_text") and not encoded:
            yield f"{node.lineno}: {called} without an encoding, which is another one on Windows"
        if called == "as_uri":
            yield f"{node.lineno}: as_uri, which names the server of a Windows share as a host"


def test_the_source_asks_for_nothing_that_windows_lacks() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{fault}"
        for path in sorted(SOURCE.rglob("*.py"))
        for fault in faults(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "code", ["import fcntl", "import os\nos.fork()", "from signal import x\nsignal.SIGKILL", "p.read_text()"]
)
def test_this_check_can_fail(code: str) -> None:
    assert list(faults(ast.parse(code)))


SIMULATED = f"""
import os, signal, sys, tempfile
from pathlib import Path
import pytest, _pytest, numpy, shutil, subprocess, pydantic, yaml, sqlite3, PIL.Image, jinja2, matplotlib
for name in {sorted(OS)!r}:
    if hasattr(os, name): delattr(os, name)
for name in {sorted(SIGNALS)!r}:
    if hasattr(signal, name): delattr(signal, name)
for name in {sorted(MODULES)!r}:
    sys.modules[name] = None
os.O_BINARY = 0
import filelock
held = {{}}
def lock(file, *, blocking):
    key = os.fstat(file).st_ino
    if key in held: return False
    held[key] = file
    return True
def unlock(file): held.pop(os.fstat(file).st_ino)
filelock.lock_descriptor, filelock.unlock_descriptor = lock, unlock  # msvcrt's, there
read = os.read
def beside(file, size):  # a locked first byte can be read by nobody else
    holder = held.get(os.fstat(file).st_ino)
    if holder not in (None, file) and os.lseek(file, 0, os.SEEK_CUR) == 0:
        raise PermissionError(13, "Permission denied")
    return read(file, size)
os.read = beside
from cfglab.cli import call
from cfglab.errors import InputError
from cfglab.experiments.storage.store import Store
from tests.quick_run import quick, run_quickly
assert call(["list"]) == 0 and call(["plot", "7.5", "--steps", "3"]) == 0
folder = Path(sys.argv[1]) / "run"
run_quickly(folder)
assert call(["report", str(folder)]) == 0 and call(["compare", str(folder), "--metric", "contrast"]) == 0
with Store.create(folder, quick()):
    try: Store.create(folder, quick())
    except InputError as error: print("said:", error)
"""


def test_commands_run_where_posix_is_not(tmp_path: Path) -> None:
    root = SOURCE.parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE.parent), str(root)])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SIMULATED, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"said: {tmp_path / 'run'}: process " in done.stdout


@pytest.mark.parametrize(
    ("path", "address"),
    [
        (r"C:\runs\a b\results.sqlite", "file:///C:/runs/a%20b/results.sqlite"),
        (r"\\server\share\run\results.sqlite", "file:////server/share/run/results.sqlite"),
        ("/runs/50%/results.sqlite", "file:///runs/50%25/results.sqlite"),
    ],
)
def test_databases_are_addressed_as_sqlite_reads_it(path: str, address: str) -> None:
    class Resolved:
        def resolve(self) -> Any:
            return PureWindowsPath(path)

    assert database._address(Resolved()) == address  # type: ignore[arg-type]
