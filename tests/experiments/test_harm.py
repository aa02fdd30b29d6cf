"""A run whose folder is harmed while it draws: it stops with one line, and the same command goes on to the same end."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cfglab.errors import CfglabError, InputError, MachineError
from cfglab.experiments.storage.store import Store
from tests.quick_run import contents, quick, run_quickly

Harm = Callable[[Path], object]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves that nothing happens to."""
    folder = tmp_path_factory.mktemp("quiet") / "run"
    assert run_quickly(folder).drawn == 8
    return contents(folder)


def harmed(folder: Path, harm: Harm, at: int = 2) -> str:
    """The one line with which a run stops that is harmed before its batch `at`."""
    with pytest.raises(CfglabError) as caught:
        run_quickly(folder, lambda number: harm(folder) if number == at else None)
    line = str(caught.value)
    assert "\n" not in line
    return line


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def replaced_by_a_folder(folder: Path) -> None:
    (folder / "results.sqlite").unlink()
    (folder / "results.sqlite").mkdir()


def replaced_by_a_file(folder: Path) -> None:
    (folder / "results.sqlite").unlink()
    (folder / "results.sqlite").write_bytes(b"something else, long enough to look like a database" * 100)


def cut_short(folder: Path) -> None:
    with (folder / "results.sqlite").open("r+b") as file:
        file.truncate(1000)


def emptied(folder: Path) -> None:
    with (folder / "results.sqlite").open("r+b") as file:
        file.truncate(0)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / "results.sqlite").unlink(), "was deleted while it was written; run again"),
        (shutil.rmtree, "images"),
        (lambda folder: shutil.rmtree(folder / "images"), "images"),
    ],
    ids=["results", "everything", "pictures"],
)
def test_what_is_deleted_is_drawn_anew_by_the_same_command(
    harm: Harm, words: str, tmp_path: Path, quiet: dict[str, Any]
) -> None:
    assert words in harmed(tmp_path / "run", harm)
    assert run_quickly(tmp_path / "run").failed == 0
    assert contents(tmp_path / "run") == quiet


@pytest.mark.parametrize("harm", [replaced_by_a_folder, replaced_by_a_file, cut_short, emptied])
def test_results_that_were_spoiled_may_be_deleted_and_the_run_goes_on(
    harm: Harm, tmp_path: Path, quiet: dict[str, Any]
) -> None:
    line = harmed(tmp_path / "run", harm)
    assert line.startswith(f"{tmp_path / 'run' / 'results.sqlite'}: was ")
    assert "delete it and run again, which draws every image anew" in line
    with pytest.raises(CfglabError, match=r"results\.sqlite: .*(remove it|delete it and run again)"):
        run_quickly(tmp_path / "run")
    remove(tmp_path / "run" / "results.sqlite")
    assert run_quickly(tmp_path / "run").drawn == 8
    assert contents(tmp_path / "run") == quiet


def test_the_log_of_deleted_results_is_not_taken_for_that_of_the_new_ones(
    tmp_path: Path, quiet: dict[str, Any]
) -> None:
    folder = tmp_path / "run"
    with Store.create(folder, quick()) as store:
        store.set_meta("weights", "of another model")
        logs = {name: (folder / name).read_bytes() for name in ("results.sqlite-wal", "results.sqlite-shm")}
    (folder / "results.sqlite").unlink()
    for name, content in logs.items():
        (folder / name).write_bytes(content)
    assert run_quickly(folder).drawn == 8
    assert contents(folder) == quiet


def test_only_its_own_experiment_goes_on_in_a_folder_that_lost_its_results(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_quickly(folder)
    (folder / "results.sqlite").unlink()
    before = contents(folder)
    for attempt in (Store.create, Store.check):
        with pytest.raises(InputError, match=r"holds a run of another experiment, without its results\.sqlite"):
            attempt(folder, quick(seeds="0..3"))
    (folder / "experiment.yaml").write_text("no experiment")
    with pytest.raises(InputError, match="holds a run of another experiment"):
        Store.check(folder, quick())
    (folder / "experiment.yaml").unlink()
    with pytest.raises(InputError, match="holds other files and no run"):
        Store.check(folder, quick())
    assert {name: content for name, content in before.items() if name != "experiment.yaml"} == contents(folder)


def test_results_that_another_program_holds_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: real(*given, **{**options, "timeout": 0}))
    with closing(real(tmp_path / "other")) as other:

        def hold(folder: Path) -> None:
            other.execute("ATTACH ? AS run", (str(folder / "results.sqlite"),))
            other.execute("BEGIN IMMEDIATE")
            other.execute("CREATE TABLE run.mine (x)")

        line = harmed(tmp_path / "run", hold)
        assert "results.sqlite: another program has it in use (database is locked); wait for it and run again." in line
    assert run_quickly(tmp_path / "run").drawn == 4


def test_a_fault_is_said_and_not_what_comes_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise MachineError("the second fault")

    monkeypatch.setattr(Store, "write_csv", fail)

    def burn(_: Path) -> None:
        raise MachineError("the first fault")

    assert harmed(tmp_path / "run", burn) == "the first fault"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'"text"', b"7"])
def test_versions_that_cannot_be_read_begin_again(content: bytes, tmp_path: Path) -> None:
    with Store.create(tmp_path, quick()) as store:
        (tmp_path / "versions.json").write_bytes(content)
        store.note_versions({"torch": "1"})
    assert b'"torch": "1"' in (tmp_path / "versions.json").read_bytes()
