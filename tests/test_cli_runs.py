"""What `cfglab run` and its kin refuse of a run folder: one line on stderr, and every byte of the folder as it was."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

import cfglab
from cfglab.cli import call
from tests.small_run import YAML, small_run

MILLION = ["--prompts", "scenes:16", "--seeds", "0..62499"]


class Terminal(io.StringIO):
    """A standard input where somebody sits."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(YAML, encoding="utf-8")


def files() -> dict[str, bytes]:
    """Every file here, but the index of a database's log, which readers make."""
    return {str(it): it.read_bytes() for it in Path().rglob("*") if it.is_file() and not it.name.endswith("-shm")}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    before = files()
    assert call(list(arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cfglab: ")
    assert err.count("\n") == 1
    now = files()
    assert {name: now[name] for name in now if now[name]} == {name: before[name] for name in before if before[name]}
    return err.removeprefix("cfglab: ").rstrip("\n")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[cfglab.Experiment]:
    """The experiments that were started; nothing is drawn."""
    found: list[cfglab.Experiment] = []

    def run(experiment: cfglab.Experiment, *_: object, **__: object) -> cfglab.Run:
        found.append(experiment)
        return cfglab.Run(small_run(tmp_path / f"run{len(found)}"))

    monkeypatch.setattr("cfglab.experiments.execution.run.run", run)
    monkeypatch.setattr("cfglab.Run.report", lambda run, **_: run.folder / "report.html")
    return found


def test_a_million_cells_are_refused_where_nobody_can_answer(
    capsys: pytest.CaptureFixture[str], started: list[cfglab.Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    line = refused(capsys, "run", "small.yaml", *MILLION)
    assert line == (
        "3,000,000 images, for plain guidance in up to 60,000,000 denoiser rows, 4 days at 6 ms a row, which is "
        "what scenes takes on two cores; start that with --yes, or give fewer prompts, seeds or settings."
    )
    assert started == []


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_a_million_cells_are_asked_for_on_a_terminal(
    answer: str, capsys: pytest.CaptureFixture[str], started: list[cfglab.Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    before = files()
    assert call(["run", "small.yaml", *MILLION]) == 2
    out, err = capsys.readouterr()
    assert out.strip() == ""  # the prompt ends with a space there
    assert err.startswith(
        "3,000,000 images, for plain guidance in up to 60,000,000 denoiser rows, 4 days at 6 ms a row"
    )
    assert "on two cores. Start? [y/N]:" in err
    assert err.endswith("cfglab: not started; give fewer prompts, seeds or settings.\n")
    assert files() == before
    assert started == []


@pytest.mark.parametrize(("answer", "options"), [("y\n", []), ("", ["--yes"])])
def test_a_large_experiment_starts_when_that_is_wanted(
    answer: str,
    options: list[str],
    capsys: pytest.CaptureFixture[str],
    started: list[cfglab.Experiment],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert call(["run", "small.yaml", "--seeds", "0..33333", *options]) == 0
    assert len(started[0].seeds) == 33_334  # times three settings and three prompts
    assert ("Start?" in capsys.readouterr().err) == (not options)


def test_nobody_is_asked_about_a_usual_experiment(
    started: list[cfglab.Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert call(["run", "small.yaml", "--seeds", "0..11110"]) == 0
    assert len(started) == 1


def test_a_changed_file_is_another_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_run(tmp_path / "run")
    changes: list[tuple[Callable[[str], str], str]] = [
        (lambda it: it.replace("steps: 10", "steps: 20"), "holds the experiment 'small' with steps 10, not 20"),
        (lambda it: it.replace("seeds: 0..3", "seeds: 0..4"), "holds the experiment 'small' with seeds 0..3, not 0..4"),
        (
            lambda it: it.replace("guidance: 7.5", "guidance: 8"),
            "'small' with other settings than asked for now ('more' is 7.5, not 8)",
        ),
        (lambda it: it.replace("name: small", "name: other"), "holds the experiment 'small', not 'other'"),
    ]
    for change, words in changes:
        Path("small.yaml").write_text(change(YAML), encoding="utf-8")
        line = refused(capsys, "run", "small.yaml", "--out", "run")
        assert line.startswith("run: ")
        assert words in line
        assert line.endswith("; choose another --out.")


def test_a_metric_that_needs_real_pictures_says_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(tmp_path / "run")
    assert "needs real images to be held against" in refused(capsys, "compare", "run", "--metric", "kid")
