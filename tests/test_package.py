"""The built wheel, installed in another place, is the whole product: code, presets, sprites, weights."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import cfglab

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

DRAW = """
import sys
from pathlib import Path
import cfglab
assert Path(cfglab.__file__).is_relative_to(sys.argv[1]), cfglab.__file__
pipe = cfglab.load("scenes")
with cfglab.guide(pipe, cfglab.Cosine(max=5, min=1, k=0.3).inverted()) as trace:
    image = pipe("a photograph of an astronaut riding a horse", num_inference_steps=4).images[0]
assert image.size == (128, 128) and len(image.getcolors(128 * 128)) > 100
assert trace.rows_run > 0
print(Path(cfglab.__file__).parent)
"""


def run(*words: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    return next(folder.glob("cfglab-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder), str(wheel), cwd=folder)
    return folder


def test_the_wheel_holds_everything_that_the_package_reads(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in (source / "cfglab").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= held
    assert any(name.endswith("licenses/LICENSE") for name in held)
    assert any(name.endswith("licenses/NOTICE") for name in held)
    assert not [name for name in held if name.startswith(("tests/", "cf_guidance/", "min_diffusion/"))]


def test_the_wheel_is_small_enough(wheel: Path) -> None:
    assert wheel.stat().st_size < 70e6, "60 MB of weights, and the code"


def test_the_wheel_draws_a_picture_outside_the_repository(installed: Path) -> None:
    place = run("-c", DRAW, str(installed), cwd=installed, PYTHONPATH=str(installed)).strip().splitlines()[-1]
    assert place == str(installed / "cfglab")


def test_the_installed_command_answers(installed: Path) -> None:
    said = run("-m", "cfglab", "--version", cwd=installed, PYTHONPATH=str(installed))
    assert said == f"cfglab {PROJECT['project']['version']}\n"


def test_one_version_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert cfglab.__version__ == version
    for place in ("compat", "models"):
        project = tomllib.loads((ROOT / place / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert project["version"] == version
        assert project["dependencies"][0] == f"cfglab>={version.rpartition('.')[0]},<1"
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_development_pins_lie_within_what_the_package_asks_for() -> None:
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
        if "==" in line and not line.startswith("#")
    )
    groups = PROJECT["dependency-groups"]
    wanted = [*PROJECT["project"]["dependencies"], *groups["dev"], *groups["docs"]]
    names = {re.match(r"[\w-]+", need).group().lower() for need in wanted}  # type: ignore[union-attr]
    assert names == set(pins)


def test_the_page_of_releases_states_the_lowest_versions() -> None:
    """A lower bound that changes has to be run again, and the page says what ran."""
    rows = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8").split("## A release")[0].splitlines()
    stated: dict[str, str] = {}
    for row in rows:
        if row.startswith("| ") and row[2].islower() and not row.startswith("| package"):
            names, versions = row.split("|")[1:3]
            stated |= dict(zip(names.replace(" ", "").split(","), re.findall(r"\d+(?:\.\d+)+", versions), strict=True))
    bounds = dict(re.findall(r"^([\w-]+)>=([\d.]+)", need)[0] for need in PROJECT["project"]["dependencies"])
    assert stated.keys() - {"optuna"} == bounds.keys()
    assert [name for name, bound in bounds.items() if not f"{stated[name]}.".startswith(f"{bound}.")] == []
