"""The command line: what it prints, the one line it says when something is wrong, and its exit codes."""

import importlib.util
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

import cfglab
from cfglab.cli import call, threads
from tests.small_run import YAML as SMALL
from tests.small_run import small_run

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(cfglab.__file__).parents[1])}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _files() -> list[Path]:
    """Everything here but the lock and log of a database that is read."""
    return sorted(path for path in Path.cwd().rglob("*") if not path.name.endswith(("-shm", "-wal")))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """The single line on stderr of a command that must fail with `code`, print nothing else, leave nothing behind."""
    before = _files()
    assert call(list(arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cfglab: ")
    assert err.count("\n") == 1
    assert _files() == before
    return err.removeprefix("cfglab: ").rstrip("\n")


# -- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.newest
def test_saved_help_is_what_the_commands_print(generate: ModuleType) -> None:
    saved = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "help").glob("*.txt")}
    assert generate.help_texts() == saved, "run `make docs`"


def test_help_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert call([]) == 0
    bare = capsys.readouterr().out
    assert "cfglab run k-decay --model scenes --out runs/k-decay" in bare
    assert call(["--help"]) == 0
    assert capsys.readouterr().out == bare
    assert call(["run", "-h"]) == 0
    assert "--model prompthero/openjourney --device cuda --dtype float16" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--version"]) == 0
    assert capsys.readouterr().out == f"cfglab {cfglab.__version__}\n"


# -- plot, list, compare ---------------------------------------------------------------------------------------------


def test_plot_draws_every_curve_with_its_dose(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plot", "7.5", "linear(max=7.5, min=1.5).inverted()", "--steps", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(" 7.5┤⠉")  # the constant stands at the top from the first step to the last
    assert lines[0].endswith(" 1")
    assert lines[-2:] == ["   1 7.5   dose 7.5", "   2 linear(max=7.5, min=1.5).inverted()   dose 3.5"]
    assert "step 2" in lines[-3]
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".html", b"<!doctype html>")]
)
def test_plot_saves_a_picture(suffix: str, magic: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plot", "cosine(max=7.5, min=1)", "--out", f"curves{suffix}"]) == 0
    assert Path(f"curves{suffix}").read_bytes().startswith(magic)
    assert capsys.readouterr().out == f"curves{suffix}\n"


@pytest.mark.parametrize(
    ("shelf", "words"),
    [
        ("schedules", ["cosine(…)", "constant(…)", ".inverted(…)", ".matched_to(…)"]),
        ("transforms", ["prediction_norm(…)", "update_norm(…)", "full_norm(…)"]),
        ("models", ["scenes", "prompthero/openjourney"]),
        ("presets", ["k-decay"]),
        ("samplers", ["lms", "euler", "heun"]),
        ("metrics", ["alignment", "kid", "Higher is better.", "Lower is better."]),
    ],
)
def test_list_names_what_there_is(shelf: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["list", shelf]) == 0
    listed = capsys.readouterr().out
    assert [word for word in words if word not in listed] == []
    assert all("  " in line for line in listed.splitlines())
    assert call(["list"]) == 0
    everything = capsys.readouterr().out
    assert all(f"  {line}" in everything for line in listed.splitlines())


def test_a_report_turns_a_wheel_where_somebody_looks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(small_run(tmp_path / "run"))
    assert call(["report", folder]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal
    assert call(["report", folder]) == 0
    assert "writing the report" in capsys.readouterr().err


def test_compare_is_paired_with_the_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(small_run(tmp_path / "run"))
    assert call(["compare", folder, "--baseline", "constant", "--metric", "alignment"]) == 0
    table = capsys.readouterr().out
    rows = {line.split()[0]: line for line in table.splitlines() if line.startswith(("more", "less"))}
    assert "0.5" in rows["more"]
    assert "-0.5" in rows["less"]
    assert call(["compare", folder]) == 0
    assert capsys.readouterr().out == table


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runn"], "No such command 'runn'. Did you mean 'run'?; see cfglab --help."),
        (["run"], "Missing argument 'PRESET|FILE.yaml'; see cfglab run --help."),
        (["run", "k-decay", "--stepz", "3"], "No such option: --stepz"),
        (["run", "k-decay", "--steps", "many"], "'--steps': 'many' is not a whole number, such as 50; see cfglab run"),
        (["list", "colours"], "Invalid value for 'what': 'colours' is not one of 'schedules', 'transforms'"),
        (["run", "k-decai"], "'k-decai' is no preset; there are"),
        (["run", "k-decai"], "k-decay"),
        (["run", "nowhere.yaml"], "nowhere.yaml: the file cannot be read (No such file or directory)"),
        (["run", "k-decay", "--steps", "0"], "steps 0: a run has at least one step; write 50."),
        (["run", "k-decay", "--steps", "-3"], "steps -3: a run has at least one step; write 50."),
        (["run", "k-decay", "--seeds", "7..0"], "seeds '7..0': a range runs upwards"),
        (["run", "k-decay", "--seeds", "one"], "seeds 'one': a seed is a whole number, 0 or more; write 7 or 0..7"),
        (["run", "k-decay", "--prompts", "@none.txt"], "'@none.txt': the file cannot be read"),
        (["run", "k-decay", "--set", "steps"], "--set steps: write field=value"),
        (["run", "k-decay", "--set", "colour=red"], "--set colour: there is no field 'colour'; there are name, title"),
        (["run", "k-decay", "--set", "groups.0.axes.k=[0.3, -1]"], "cosine(k=-1): it must be above 0"),
        (["run", "k-decay", "--set", "groups.0.axes.k=[.nan]"], "nan"),
        (["run", "k-decay", "--set", "baseline.guidance='4x7.5'"], "a list of 4 scales for 50 steps"),
        (["run", "k-decay", "--dtype", "float8"], "'float8': input should be 'float32', 'float16' or 'bfloat16'"),
        (["run", "k-decay", "--sampler", "lmss"], "did you mean lms?"),
        (["run", "k-decay", "--model", "./no/such/folder"], "no/such/folder"),
        (["plot", "cosin(max=7.5, min=1)"], "cosin"),
        (["plot", "cosine(max=7.5, min=1, k=0)"], "k"),
        (["plot", "cosine(max=7.5, min=1, k=1e999)"], "inf"),
        (["plot", "cosine(max=nan, min=1)"], "nan: a finite number is needed"),
        (["plot", "__import__('os').getcwd()"], "__import__"),
        (["plot", "7.5", "--steps", "0"], "0 steps: a run has at least one step"),
        (["plot", "10x8", "--steps", "20"], "20"),
        (
            ["plot", "7.5", "--out", "curves.bmp"],
            "curves.bmp: curves are saved as .png, .svg, .pdf, .html; name the file so.",
        ),
        (["plot", "7.5", "--out", "no/curves.png"], "no/curves.png: there is no folder no; make it, or name another."),
        (["report", "nowhere"], "nowhere: holds no run"),
        (["compare", "nowhere"], "nowhere: holds no run"),
        (["reproduce", "nowhere.png", "--out", "copy.png"], "nowhere.png"),
        (["trace", "nowhere.png"], "nowhere.png: there is no such image"),
        (["reproduce", "picture.png"], "Missing option '--out'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in refused(capsys, *arguments)


def test_compare_names_what_it_does_not_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(small_run(tmp_path / "run"))
    assert "constnt" in refused(capsys, "compare", folder, "--baseline", "constnt")
    assert "alignmnt" in refused(capsys, "compare", folder, "--metric", "alignmnt")


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--debug", "run", "k-decai"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("cfglab: 'k-decai' is no preset")


# -- a run, from end to end -------------------------------------------------------------------------------------------

YAML = """
name: tiny
title: A tiny run
prompts: [a, b]
seeds: 0
steps: 3
baseline: {name: constant, guidance: 3}
groups:
  - {name: k, guidance: "cosine(max=7.5, min=1, k={k})", axes: {k: [0.3, 1]}}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny import tiny_pipeline

    with warnings.catch_warnings():  # diffusers on the scheduler's steps_offset
        warnings.simplefilter("ignore", FutureWarning)
        return tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny", factor=4)


@pytest.fixture
def broken(model: Path, tmp_path: Path) -> Path:
    """A copy of the model, to be spoiled."""
    return shutil.copytree(model, tmp_path / "broken")


@pytest.fixture
def tiny() -> str:
    Path("tiny.yaml").write_text(YAML, encoding="utf-8")
    return "tiny.yaml"


def test_a_run_draws_continues_reports_and_reproduces(
    tiny: str, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["run", tiny, "--model", str(model), "--seeds", "0..1", "--set", "steps=2"]
    assert call(command) == 0
    out, err = capsys.readouterr()
    assert out == "12 images drawn, 12 in the run\nreport: runs/tiny/report.html\n"
    assert err == ""
    store = cfglab.Store.open("runs/tiny")
    assert store.experiment.steps == 2
    assert store.experiment.seeds == (0, 1)
    assert {setting.name for setting in store.experiment.settings} == {"constant", "k k=0.3", "k k=1"}
    assert Path("runs/tiny/report.html").stat().st_size > 10_000

    with monkeypatch.context() as without:  # a finished run asks for no model
        without.setattr("cfglab.pipelines.load", None)
        assert call(command) == 0
    assert capsys.readouterr().out.startswith("0 images drawn, 12 in the run\n")

    image = str(Path("runs/tiny") / str(store.results()[5].image))
    assert call(["reproduce", image, "--out", "copy.png"]) == 0
    assert capsys.readouterr().out == f"copy.png: the same pixels as {image}, torch seed 1\n"
    assert call(["trace", image]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["step", "sigma", "w", "|cond", "-", "uncond|", "cosine", "rows", "run", "rows", "saved"]
    assert len(lines) == 1 + 2 + 1
    assert call(["report", "runs/tiny"]) == 0
    assert capsys.readouterr().out == "report: runs/tiny/report.html\n"
    assert call(["compare", "runs/tiny", "--metric", "contrast"]) == 0
    assert "constant (baseline)" in capsys.readouterr().out

    other = [*command[:-1], "steps=4"]
    assert "runs/tiny: holds the experiment 'tiny' with steps 2, not 4; choose another --out." in refused(
        capsys, *other
    )


def test_prompts_come_from_the_command_line_and_from_files(
    tiny: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("more.txt").write_text("c\n\n  d \n", encoding="utf-8")
    command = ["run", tiny, "--model", str(model), "--prompts", "a", "--prompts", "@more.txt", "--out", "here"]
    assert call([*command, "--set", "groups=[]", "--negative", "e", "--steps", "2", "--sampler", "euler", "-q"]) == 0
    experiment = cfglab.Store.open("here").experiment
    assert experiment.prompts == ("a", "c", "d")
    assert (experiment.negative, experiment.steps, experiment.sampler) == ("e", 2, "euler")
    capsys.readouterr()


def test_pictures_that_failed_are_said_and_the_report_is_still_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("small.yaml").write_text(SMALL, encoding="utf-8")
    folder = small_run(tmp_path / "run")
    with cfglab.Store.open(folder) as store:
        experiment, rows = store.experiment, store.rows()
    failed = [
        row.model_copy(
            update={
                "result": row.result.model_copy(update={"status": "failed", "error": f"Trace\n{words}\n"}),
                "settled": False,
            }
        )
        for row, words in zip(rows[3:5], ("ValueError: too large", "ValueError: too small"), strict=True)
    ]
    with cfglab.Store.create(folder, experiment) as store:
        store.record(failed)
    done = cfglab.Run(folder, drawn=34, failed=2)
    monkeypatch.setattr("cfglab.experiments.execution.run.run", lambda *_, **__: done)
    monkeypatch.setattr("cfglab.Run.report", lambda run, **_: run.folder / "report.html")
    assert call(["run", "small.yaml"]) == 1
    out, err = capsys.readouterr()
    assert out.endswith("/run/report.html\n")
    assert err.startswith("cfglab: 2 images failed, the first with: ValueError: too large; results.csv in ")
    assert err.endswith("says which; run it again to retry.\n")
    settled = [row.model_copy(update={"settled": True}) for row in failed]
    for known, words in (
        (settled[:1], "run it again to retry all but 1, which would fail again."),
        (settled, "they would fail again: choose another guidance or dtype, and another --out."),
    ):
        with cfglab.Store.create(folder, experiment) as store:
            store.record(known)
        assert call(["run", "small.yaml"]) == 1
        assert capsys.readouterr().err.endswith(f"says which; {words}\n")


def test_a_folder_in_the_way_is_left_alone(tiny: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("mine")
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    command = ["run", tiny, "--model", str(model), "--out"]
    assert "file: a run is a folder, but this is a file; choose another --out." in refused(capsys, *command, "file")
    assert "file/run" in refused(capsys, *command, "file/run")
    assert "full: " in refused(capsys, *command, "full")


def test_a_model_that_cannot_be_used_is_refused_before_anything_is_written(
    tiny: str, broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", tiny, "--model", str(broken)]
    assert "abacus" in refused(capsys, *command, "--device", "abacus")
    too_long = refused(capsys, *command, "--prompts", "abc" * 40)
    assert "120" in too_long
    assert "75" in too_long
    assert "width 13: a size is a multiple of 8" in refused(capsys, *command, "--set", "width=13")

    weights = next((broken / "unet").glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert weights.name in refused(capsys, *command)
    weights.rename(weights.with_suffix(".bin"))
    assert "pickle" in refused(capsys, *command)
    weights.with_suffix(".bin").unlink()
    assert "unet" in refused(capsys, *command)
    (broken / "model_index.json").unlink()
    assert f"{broken} is no pipeline: it is a folder without model_index.json" in refused(capsys, *command)


# -- the machine -----------------------------------------------------------------------------------------------------


def _raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def parse(_: str) -> None:
        raise error

    monkeypatch.setattr("cfglab.schedules.parse", parse)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "runs/x.png"), "runs/x.png: No space left on device;"),
        (cfglab.MachineError("the disk is full; free some."), "the disk is full; free some."),
        (MemoryError("Unable to allocate 9 GiB"), "out of memory (Unable to allocate 9 GiB); close other"),
        (ZeroDivisionError("division\nby zero"), "ZeroDivisionError: division by zero -- this is a fault of cfglab"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_fault_of_the_machine_exits_with_1(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raising(monkeypatch, error)
    assert words in refused(capsys, "plot", "7.5", code=1)


def test_a_stopped_command_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raising(monkeypatch, KeyboardInterrupt())
    assert refused(capsys, "plot", "7.5", code=130) == "stopped; run it again to continue."


def test_a_reader_that_leaves_is_no_error() -> None:
    command = [sys.executable, "-c", "from cfglab.cli import main; main()", "plot", *(["7.5"] * 3), "--steps", "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()  # before anything was written
        assert process.stderr.read() == b""


def test_a_terminal_without_unicode_still_gets_its_curves() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cfglab", "plot", "7.5"],
        capture_output=True,
        env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0
    assert b"1 7.5   dose 7.5" in done.stdout


@pytest.mark.parametrize("stated", [{}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "5"}], ids=str)
def test_threads_wait_briefly_unless_the_environment_says_how(
    stated: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", dict(stated))
    threads.wait_briefly()
    assert os.environ == (stated or {"GOMP_SPINCOUNT": threads.SPINS})
