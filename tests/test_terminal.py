"""Text from files as visible text, and every command's output when every string of a user is hostile."""

import io
import re
import shutil
import sys
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cfglab
from cfglab.cli import call
from tests.small_run import FACTS, small_run

EVIL = "\x1b]0;x\x07\x1b[2J\x9b31m\u202eab\u2066\u200b[red]{{7*7}}<b>"
"""An escape sequence that sets the title, one that clears the screen, C1, directions, a zero-width space, markup."""

OWN = re.compile(r"\r|\x1b\[(?:[0-9;]*m|\?25[lh]|2K|1A)")
"""What rich writes for a wheel or a bar: colours, the cursor, a line cleared, a line up; never the whole screen."""


def controls(text: str) -> set[str]:
    """The control characters of a text, by Unicode's own table."""
    return {it for it in text if unicodedata.category(it) in ("Cc", "Cf", "Cs", "Zl", "Zp") and it not in "\n\t"}


# -- the text itself -------------------------------------------------------------------------------------------------


@given(st.text(st.characters(codec=None)))
def test_visible_text_holds_no_control_character_and_is_visible_text_itself(text: str) -> None:
    from cfglab.terminal import inline, one_line, visible

    assert controls(visible(text)) - {"\u200c", "\u200d"} == set()
    assert controls(visible(text.encode("ascii", "replace").decode())) == set()
    assert visible(visible(text)) == visible(text)
    for line in (inline(text), one_line(text)):
        assert "\n" not in line
        assert "\t" not in line


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"))))
def test_letters_marks_numbers_punctuation_and_blanks_are_shown_as_they_are(text: str) -> None:
    from cfglab.terminal import visible

    assert visible(f"{text}\n\t") == f"{text}\n\t"


def test_control_characters_are_written_as_python_writes_them() -> None:
    from cfglab.terminal import inline, one_line, visible

    assert visible("\x1b[2J \r \x9b \u202e \udce9 \U000e0041") == r"\x1b[2J \r \x9b \u202e \udce9 \U000e0041"
    assert inline("a\nb\tc") == r"a\nb\tc"
    assert one_line("  a \n\n b\x1c c  d ") == r"a b\x1c c  d"
    assert visible("👩\u200d🚀 می\u200cخواهم") == "👩\u200d🚀 می\u200cخواهم"  # words and emoji need their joiners
    assert visible("con\u200dstant") == r"con\u200dstant"


def test_a_message_is_one_line_of_visible_text() -> None:
    assert str(cfglab.InputError(f"name {EVIL}\nand more: no")).count("\n") == 0
    assert controls(str(cfglab.MachineError(EVIL))) == set()


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_bars_of_other_libraries_keep_their_moves_on_a_terminal_only() -> None:
    from cfglab.terminal import VisibleStream

    for stream, moves in ((Screen(), "\r"), (io.StringIO(), r"\r")):
        written: Any = VisibleStream(stream)
        written.write("\r 10%\x1b[2J")
        assert stream.getvalue() == f"{moves} 10%\\x1b[2J"
    screen = Screen()
    written = VisibleStream(screen)
    written.write("\x1b[A\x1b[A")
    written.write("\x1b[Aa")
    assert screen.getvalue() == "\x1b[A\x1b[A\\x1b[Aa"


def test_nothing_goes_around_the_filter_as_bytes() -> None:
    from cfglab.terminal import VisibleStream

    assert not hasattr(VisibleStream(sys.__stdout__ or io.StringIO()), "buffer")


# -- every command ---------------------------------------------------------------------------------------------------

HOSTILE = f"""
name: hostile
title: {EVIL!r}
question: {EVIL!r}
prompts: [{EVIL!r}, b]
seeds: [0, 1]
steps: 2
baseline: {{name: {"base " + EVIL!r}, guidance: 3, title: {EVIL!r}}}
settings:
  - {{name: {"other " + EVIL!r}, group: {EVIL!r}, title: {EVIL!r}, guidance: 4}}
left_out:
  - {{name: {EVIL!r}, reason: {EVIL!r}}}
"""


def yaml_of(text: str) -> str:
    r"""Python's escapes in single quotes as YAML's in double ones."""
    return re.sub(r"'((?:[^'\\]|\\.)*\\x1b(?:[^'\\]|\\.)*)'", r'"\1"', text)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A run in which every string of a user is hostile: results, an error, versions."""
    (tmp_path / "hostile.yaml").write_text(yaml_of(HOSTILE), encoding="utf-8")
    experiment = cfglab.Experiment.from_yaml(tmp_path / "hostile.yaml")
    assert experiment.title == EVIL
    rows = []
    for position, (setting, cell) in enumerate(experiment.cells(FACTS)):
        failed = position == 0
        result = cfglab.Result(
            cell=cell.id,
            position=position,
            setting=setting.name,
            prompt=cell.prompt,
            seed=cell.seed,
            status="failed" if failed else "done",
            error=f"Traceback\nError: {EVIL}" if failed else None,
            image=None if failed else f"images/{cell.id}.png",
            metrics={} if failed else {"alignment": float(position % 2), f"own {EVIL}": 1.0},
        )
        rows.append(result)
    from cfglab.experiments.storage.results import ResultRow

    with cfglab.Store.create(tmp_path / "run", experiment) as store:
        store.record([ResultRow(result=result, settled=True) for result in rows])
        store.note_versions({EVIL: EVIL})
    return tmp_path / "run"


@pytest.mark.parametrize("terminal", [False, True])
def test_no_command_sends_a_control_character_of_a_user(
    hostile: Path, terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    run = str(hostile)
    base = f"base {EVIL}"
    commands = [
        ["compare", run, "--metric", "alignment"],
        ["compare", run, "--metric", f"own {EVIL}"],
        ["compare", run, "--metric", EVIL],
        ["compare", run, "--baseline", base],
        ["compare", run, "--baseline", EVIL],
        ["compare", run, "--choose", "prompts"],
        ["compare", run, "--equal", "dose"],
        ["report", run],
        ["score", run, EVIL],
        ["trace", EVIL],
        ["reproduce", EVIL, "--out", EVIL],
        ["plot", EVIL],
        ["plot", "7.5", "--out", EVIL],
        ["list", EVIL],
        ["run", EVIL],
        ["run", f"{EVIL}.yaml"],
        ["run", "hostile.yaml", "--out", EVIL, "--model", EVIL],
        ["run", "hostile.yaml", "--set", f"title={EVIL}", "--set", f"{EVIL}=1"],
        ["run", "hostile.yaml", "--prompts", f"@{EVIL}"],
        ["tune", EVIL],
        ["tune", "{w:1..2}", "--metric", EVIL],
        [EVIL],
        ["--debug", "compare", EVIL],
    ]
    for command in commands:
        call(command)
        out, err = capsys.readouterr()
        assert out + err
        assert controls(OWN.sub("", err) if terminal and "report" in command else err) == set(), command
        assert controls(out) == set(), command
        assert "fault of cfglab" not in err, command


def test_warnings_and_prints_of_libraries_are_filtered_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> list[tuple[str, str]]:
        warnings.warn(EVIL, stacklevel=1)
        print(EVIL, file=sys.stderr)
        return [(EVIL, EVIL)]

    monkeypatch.setitem(__import__("cfglab.report.terminal.listing", fromlist=["SHELVES"]).SHELVES, "models", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda message, *_: sys.stderr.write(str(message)))
        assert call(["list", "models"]) == 0
    out, err = capsys.readouterr()
    assert controls(out + err) == set()
    assert out.count("[red]") == 2
    assert err.count("[red]") == 2
    assert sys.stdout.write("") == 0  # the streams are as they were
    assert type(sys.stdout).__name__ != "VisibleStream"


def test_what_is_printed_beside_a_progress_bar_is_filtered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cfglab.progress import progress_bar, working

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(2, quiet=False, word=f"drawing {EVIL}") as advance:
        print(EVIL, file=sys.stderr)
        advance(1)
    with working(f"writing {EVIL}"):
        print(EVIL)
    out, err = capsys.readouterr()
    assert "drawing" in err
    assert controls(OWN.sub("", out + err)) == set()


def test_objects_print_as_visible_text_in_python_too(hostile: Path) -> None:
    from cfglab.experiments.execution.reproduce import Reproduction

    run = cfglab.Run(hostile)
    shown = [
        str(run.compare("alignment")),
        str(Reproduction(Path(EVIL), 3, (f"{EVIL}: {EVIL} then",), 7)),
    ]
    assert [controls(text) for text in shown] == [set(), set()]


def test_a_copy_of_the_run_is_still_what_the_user_wrote(hostile: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(hostile, tmp_path / "copy")
    assert cfglab.Experiment.from_yaml(copy / "experiment.yaml").title == EVIL
    small_run(tmp_path / "plain")
