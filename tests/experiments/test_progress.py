"""Progress: on a terminal, in a notebook, and nowhere else; it never ends a run."""

import errno
import io
from pathlib import Path

import pytest
from rich.console import Console

from cfglab.progress import progress_bar, working
from tests.quick_run import quick, run_quickly


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console that says it is in a notebook, as rich finds by IPython's shell."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)


@pytest.mark.usefixtures("notebook")
def test_a_notebook_shows_the_progress_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Console(stderr=True).is_jupyter
    with progress_bar(8, quiet=False) as advance:
        for _ in range(4):
            advance(2)
    assert "drawing: 100%" in capsys.readouterr().err
    with progress_bar(8, quiet=True) as advance:
        advance(8)
    assert capsys.readouterr().err == ""
    run_quickly(tmp_path / "run", experiment=quick())  # which is quiet
    assert capsys.readouterr().err == ""


class Gone(io.StringIO):
    """A terminal that was closed: it takes nothing any more."""

    def isatty(self) -> bool:
        return True

    def write(self, _: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def test_a_terminal_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Gone())
    with progress_bar(2, quiet=False) as advance:
        advance(1)
        advance(1)
    with working("scoring"):
        pass
