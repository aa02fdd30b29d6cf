"""Every script of examples/laboratory runs, on few samples: what it asserts holds, and its image is written."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "laboratory"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "lab")
PAGE = FOLDER.parents[1] / "docs" / "laboratory.md"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_and_its_claims_hold(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib as mpl

    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", [name, "--samples", "400", "--out", str(tmp_path)])
    with mpl.rc_context():
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    sys.modules.pop("lab")
    assert (tmp_path / f"{name}.png").stat().st_size > 5000
    assert "holds: " in capsys.readouterr().out


def test_the_page_shows_every_script_with_its_command_and_picture() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in SCRIPTS:
        assert f"python examples/laboratory/{name}.py" in page
        assert f"(images/lab/{name}.png)" in page
        assert (PAGE.parent / "images" / "lab" / f"{name}.png").is_file()
