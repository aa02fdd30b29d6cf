"""Imports inside `experiments/` go downward in the order that docs/architecture.md states, and SQL is in one folder."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "cfglab"
PACKAGE = "cfglab.experiments."
SQL = re.compile(r"\b(SELECT|INSERT (OR REPLACE )?INTO|DELETE FROM|CREATE TABLE|PRAGMA)\b")


def folder_order() -> list[str]:
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (line,) = [line for line in document.splitlines() if line.startswith("Inside `experiments/`:")]
    return re.findall(r"`(\w+)`", line)


def imported_modules(path: Path) -> set[str]:
    """Every module of the experiments that a file imports, also inside functions and under TYPE_CHECKING."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE):
            modules.add(node.module.removeprefix(PACKAGE))
        elif isinstance(node, ast.Import):
            modules |= {name.name.removeprefix(PACKAGE) for name in node.names if name.name.startswith(PACKAGE)}
    return modules


def faults(source: Path) -> list[str]:
    """Every upward import and every circle of files below `experiments/`, one line each."""
    order = folder_order()
    graph = {
        path.relative_to(source).with_suffix("").as_posix().replace("/", "."): imported_modules(path)
        for path in source.rglob("*.py")
        if path.name != "__init__.py"
    }
    lines = [
        f"{module} imports {imported}, which is above it"
        for module, imports in sorted(graph.items())
        for imported in sorted(imports)
        if order.index(imported.split(".")[0]) > order.index(module.split(".")[0])
    ]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        lines.append(f"circle: {' -> '.join(error.args[1])}")
    return lines


def files_with_sql(source: Path) -> list[str]:
    """Files outside of `experiments/storage` that hold an SQL statement or import sqlite3."""
    names = []
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(source).as_posix()
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        modules |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        if (any(map(SQL.search, texts)) or "sqlite3" in modules) and not name.startswith("experiments/storage/"):
            names.append(name)
    return names


def test_the_document_orders_every_folder_of_the_experiments() -> None:
    folders = {path.parent.name for path in (SOURCE / "experiments").glob("*/__init__.py")}
    assert set(folder_order()) == folders


def test_imports_inside_the_experiments_go_downward_and_make_no_circle() -> None:
    assert faults(SOURCE / "experiments") == []


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        (
            {"spec/a.py": "def f():\n    from cfglab.experiments.storage.b import c\n", "storage/b.py": ""},
            "spec.a imports storage.b, which is above it",
        ),
        (
            {
                "spec/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
                "    from cfglab.experiments.spec.b import B\n",
                "spec/b.py": "import cfglab.experiments.spec.a\n",
            },
            "circle: ",
        ),
    ],
)
def test_a_planted_upward_import_or_circle_is_found(tmp_path: Path, files: dict[str, str], fault: str) -> None:
    for name, code in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)
    (line,) = faults(tmp_path)
    assert line.startswith(fault)


def test_only_the_storage_of_experiments_holds_sql() -> None:
    assert files_with_sql(SOURCE) == []


@pytest.mark.parametrize("code", ["query = 'SELECT value FROM metrics'\n", "def f():\n    import sqlite3\n"])
def test_planted_sql_is_found(tmp_path: Path, code: str) -> None:
    for name in ("report/tables.py", "experiments/storage/store.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(code)
    assert files_with_sql(tmp_path) == ["report/tables.py"]
