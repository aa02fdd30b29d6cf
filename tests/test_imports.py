"""What must stay light stays light: a fresh process imports cfglab, shows help, reads a run, and loads no torch."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cfglab
from tests.small_run import small_run

HEAVY = ("torch", "diffusers", "transformers", "matplotlib")
SOURCE = Path(cfglab.__file__).parent


def loaded(code: str, *arguments: str) -> set[str]:
    """The heavy modules in memory after a fresh process ran `code`, which must end well."""
    tail = f"\nimport sys, json\nprint('\\n' + json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", code + tail, *arguments], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def after(*arguments: str) -> set[str]:
    """The same, after a command of the command line."""
    return loaded("import sys\nfrom cfglab.cli import call\nassert call(sys.argv[1:]) == 0", *arguments)


def test_import_cfglab_loads_nothing_heavy() -> None:
    assert loaded("import cfglab") == set()


LIGHT = {
    " ".join(arguments): arguments
    for arguments in (
        ["--help"],
        ["run", "--help"],
        ["list"],
        ["list", "presets"],
        ["plot", "cosine(max=7.5, min=1, k=0.3).inverted()", "7.5"],
    )
}


@pytest.fixture(scope="module")
def heavy_after(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Command -> the heavy modules in memory after it, of one process that runs them all in their order."""
    file = tmp_path_factory.mktemp("light") / "heavy.json"
    code = f"""
import json, sys
from cfglab.cli import call
heavy = {{}}
for name, arguments in {LIGHT!r}.items():
    assert call(arguments) == 0, name
    heavy[name] = [module for module in {HEAVY!r} if module in sys.modules]
open(sys.argv[1], "w").write(json.dumps(heavy))
"""
    loaded(code, str(file))
    heavy: dict[str, list[str]] = json.loads(file.read_text())
    return heavy


@pytest.mark.parametrize("command", LIGHT)
def test_a_light_command_loads_nothing_heavy(command: str, heavy_after: dict[str, list[str]]) -> None:
    assert heavy_after[command] == []


def test_reading_a_run_loads_nothing_heavy(tmp_path: Path) -> None:
    folder = str(small_run(tmp_path / "run"))
    assert after("compare", folder, "--metric", "alignment") == set()
    code = "from pathlib import Path\nimport sys, cfglab\nfrom cfglab.viewer.server import RunViewer\n"
    code += "assert cfglab.Store.open(sys.argv[1]).results()\n"
    code += "assert RunViewer(Path(sys.argv[1])).state().state == 'complete'"
    assert loaded(code, folder) == set()


def test_this_check_can_fail() -> None:
    assert loaded("import cfglab, torch") == {"torch"}
    assert "matplotlib" in loaded("import sys; sys.modules['matplotlib'] = sys")
    with pytest.raises(AssertionError, match="no_such_name"):
        loaded("import cfglab\ncfglab.no_such_name")


def test_every_public_name_is_there() -> None:
    for name in cfglab.__all__:
        assert getattr(cfglab, name) is not None
    assert set(cfglab.__all__) <= set(dir(cfglab))
    with pytest.raises(AttributeError, match="'Cosin'; did you mean Cosine"):
        cfglab.Cosin  # noqa: B018


def test_the_names_for_type_checkers_are_the_same() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        (node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert typed == {(module, name) for name, module in cfglab._WHERE.items()}


def test_a_printed_value_reads_back_after_import_star() -> None:
    names: dict[str, object] = {}
    exec("from cfglab import *", names)
    value = cfglab.Guidance(cfglab.Cosine(max=7.5, min=1.0, k=0.3).inverted(), [cfglab.PredictionNorm()])
    assert eval(repr(value), names) == value
