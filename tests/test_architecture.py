"""Imports go downwards only, in the order that docs/architecture.md states; lazy imports inside functions count too."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "cfglab"
# Where an outside library may be imported. Everything else in cfglab works without it.
AT_HOME = {
    "diffusers": {"pipelines", "integrations"},
    "transformers": {"pipelines", "integrations"},
    "typer": {"cli"},
    "jinja2": {"report"},
    "matplotlib": {"report"},
    "sqlite3": {"experiments"},
    "gradio": {"ui"},
    "fastapi": {"ui"},
    "uvicorn": {"ui"},
    "starlette": {"ui"},
    "optuna": {"integrations"},
    "ray": {"integrations"},
    "torch_fidelity": {"integrations"},
    "ImageReward": {"integrations"},
}


DYNAMIC = ("import_module", "__import__")


def layers() -> dict[str, int]:
    """Name of each layer -> its height; names that share a height stand side by side in the document."""
    section = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## Layers", 1)[1]
    line = next(line for line in section.splitlines() if "→" in line)
    return {name: rank for rank, part in enumerate(line.split("→")) for name in re.findall(r"`(\w+)`", part)}


def layer_of(path: Path, source: Path) -> str:
    return path.relative_to(source).parts[0].removesuffix(".py")


def imports(path: Path, source: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import in a file, wherever it stands; `from cfglab import x` gives `cfglab.x`."""
    package = ["cfglab", *path.relative_to(source).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "cfglab":
                yield from ((node.lineno, f"cfglab.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in DYNAMIC:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value


def faults(source: Path) -> list[str]:
    """Each import that breaks the order, as one line that names file, line and rule."""
    order, found = layers(), []
    edges: dict[str, set[str]] = {}
    for path in sorted(source.rglob("*.py")):
        layer = layer_of(path, source)
        if layer in (
            "__init__",
            "__main__",
        ):  # the index resolves names of every layer, `python -m cfglab` is the command line
            continue
        if layer not in order:
            found.append(f"{path.relative_to(source)}: the layer {layer!r} is not in docs/architecture.md")
            continue
        for line, module in imports(path, source):
            where = f"{path.relative_to(source)}:{line}"
            top, _, rest = module.partition(".")
            if top in AT_HOME and layer not in AT_HOME[top]:
                found.append(f"{where}: {top} is imported in {', '.join(sorted(AT_HOME[top]))} only")
            if top != "cfglab" or rest == "__version__":
                continue
            target = rest.split(".")[0]
            if target not in order:
                found.append(f"{where}: {module} goes through the index, import from its own module")
            elif order[target] > order[layer]:
                found.append(f"{where}: {layer} may not import {target}, which is above it")
            elif target != layer:
                edges.setdefault(layer, set()).add(target)
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        found.append(f"layers import each other in a ring: {' -> '.join(error.args[1])}")
    return found


Edges = dict[str, dict[str, str]]
"""Node -> the nodes that it imports, each with the place of one such import, file:line."""


def edges_of_files(source: Path) -> Edges:
    """Each file, by its path without .py, and the files that it imports; a package stands for its __init__."""
    modules = {_dotted(path, source): _node(path, source) for path in source.rglob("*.py")}
    edges: Edges = {}
    for path in sorted(source.rglob("*.py")):
        node = _node(path, source)
        if node in ("__init__", "__main__"):
            continue
        for line, target in imported_modules(path, source, modules):
            if modules[target] not in (node, "__init__"):
                edges.setdefault(node, {}).setdefault(modules[target], f"{path.relative_to(source)}:{line}")
    return edges


def imported_modules(path: Path, source: Path, modules: dict[str, str]) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of a module of the package; `from package import module` gives the module."""
    package = ["cfglab", *path.relative_to(source).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            named = [f"{module}.{alias.name}" for alias in node.names]
            targets = [name if name in modules else module for name in named]
        elif isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in DYNAMIC:
            targets = [text.value for text in node.args[:1] if isinstance(text, ast.Constant)]
        else:
            continue
        yield from ((node.lineno, target) for target in targets if target in modules)


def _dotted(path: Path, source: Path) -> str:
    return ".".join(["cfglab", *path.relative_to(source).with_suffix("").parts]).removesuffix(".__init__")


def _node(path: Path, source: Path) -> str:
    return path.relative_to(source).with_suffix("").as_posix()


def circles(source: Path) -> list[str]:
    """Each folder with a circle between its files and subfolders, as a line with the imports that make one.

    A circle of files is one in the smallest folder that holds them all.
    """
    files = edges_of_files(source)
    graphs: dict[str, Edges] = {}
    folders = {folder for path in source.rglob("*.py") for folder in path.relative_to(source).parents} - {Path()}
    for folder in sorted(folder.as_posix() for folder in folders):
        inside: Edges = {}
        for node, targets in files.items():
            for target, place in targets.items():
                children = [_child(name, folder) for name in (node, target)]
                if all(children) and children[0] != children[1]:
                    inside.setdefault(children[0], {}).setdefault(children[1], place)
        graphs[folder] = inside
    lines = []
    for name, graph in graphs.items():
        try:
            TopologicalSorter({node: [*targets] for node, targets in graph.items()}).prepare()
        except CycleError as error:
            ring = error.args[1][::-1]
            places = [graph[first][second] for first, second in pairwise(ring)]
            lines.append(f"{name}: {' -> '.join(ring)} ({', '.join(places)})")
    return lines


def _child(node: str, folder: str) -> str:
    """The file or subfolder of a folder that holds a file; empty if the file lies elsewhere."""
    return node.removeprefix(f"{folder}/").split("/")[0] if node.startswith(f"{folder}/") else ""


def test_no_folder_has_a_circle_between_its_files_or_subfolders() -> None:
    assert circles(SOURCE) == []


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (
            {"a/x.py": "from cfglab.a.y import Y\n", "a/y.py": "def f():\n    from cfglab.a.x import X\n"},
            "a: x -> y -> x (a/x.py:1, a/y.py:2)",
        ),
        (
            {
                "a/x.py": "from cfglab.a import y\n",
                "a/y.py": "if TYPE_CHECKING:\n    from .x import X\n",
                "a/__init__.py": "",
            },
            "a: x -> y -> x (a/x.py:1, a/y.py:2)",
        ),
        (
            {"a/b/x.py": "import cfglab.a.c.y\n", "a/c/y.py": "from cfglab.a.b.z import Z\n", "a/b/z.py": ""},
            "a: b -> c -> b (a/b/x.py:1, a/c/y.py:1)",
        ),
        (
            {"a/b/x.py": "from ..b.y import Y\n", "a/b/y.py": "import_module('cfglab.a.b.x')\n"},
            "a/b: x -> y -> x (a/b/x.py:1, a/b/y.py:1)",
        ),
        (
            {"a/__init__.py": "from cfglab.a.x import X\n", "a/x.py": "from cfglab.a import other\n"},
            "a: __init__ -> x -> __init__ (a/__init__.py:1, a/x.py:1)",
        ),
        (
            {"a/x.py": "from cfglab.a.y import Y\n", "a/y.py": "import cfglab.a.z\n", "a/z.py": "from .x import X\n"},
            "a: x -> y -> z -> x (a/x.py:1, a/y.py:1, a/z.py:1)",
        ),
    ],
    ids=["inside a function", "for types only", "between subfolders", "by name", "through the package", "of three"],
)
def test_a_planted_circle_is_found(tmp_path: Path, files: dict[str, str], line: str) -> None:
    for file, code in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(code)
    assert [_turned(found) for found in circles(tmp_path)] == [_turned(line)]


def _turned(line: str) -> tuple[str, list[str], list[str]]:
    """A circle as its folder, its members and its places: where it begins says nothing."""
    folder, members, places = re.fullmatch(r"(.+?): (.+) \((.+)\)", line).groups()  # type: ignore[union-attr]
    return folder, sorted(members.split(" -> ")[1:]), sorted(places.split(", "))


def test_imports_without_a_circle_are_fine(tmp_path: Path) -> None:
    for file, code in {
        "a/b/x.py": "from cfglab.a.c.y import Y\nfrom cfglab.a.b.z import Z\n",
        "a/c/y.py": "import json\nfrom cfglab.errors import E\n",
        "a/b/z.py": "from cfglab.a.c import y\n",
        "a/__init__.py": "from cfglab.a.b.x import X\n",
        "errors.py": "",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(code)
    assert len(edges_of_files(tmp_path)) == 4
    assert circles(tmp_path) == []


def test_imports_go_downwards_only() -> None:
    assert faults(SOURCE) == []


def test_the_order_is_the_documents() -> None:
    order = layers()
    assert (
        order["errors"]
        < order["schedules"]
        < order["guidance"]
        < order["pipelines"]
        < order["experiments"]
        < order["cli"]
    )
    assert order["pipelines"] == order["scenes"] == order["metrics"]


@pytest.mark.parametrize(
    ("file", "code", "words"),
    [
        ("schedules/base.py", "from cfglab.pipelines.load import load\n", "schedules may not import pipelines"),
        (
            "schedules/base.py",
            "def f():\n    from ..report import html\n",
            "base.py:2: schedules may not import report",
        ),
        ("guidance/base.py", "import cfglab.experiments\n", "guidance may not import experiments"),
        ("metrics/sets.py", "from cfglab import experiments\n", "metrics may not import experiments"),
        ("step.py", "from cfglab import Cosine\n", "goes through the index"),
        ("step.py", "import importlib\nx = importlib.import_module('cfglab.report')\n", "step may not import report"),
        (
            "schedules/base.py",
            "def f():\n    import diffusers.utils\n",
            "diffusers is imported in integrations, pipelines only",
        ),
        ("helpers/base.py", "x = 1\n", "the layer 'helpers' is not in docs/architecture.md"),
    ],
)
def test_a_planted_upward_import_is_found(tmp_path: Path, file: str, code: str, words: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    found = faults(tmp_path)
    assert len(found) == 1
    assert words in found[0]


def test_a_planted_ring_is_found(tmp_path: Path) -> None:
    for file, code in {
        "scenes/a.py": "from cfglab.metrics import b\n",
        "metrics/b.py": "from cfglab.scenes import a\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(code)
    assert "in a ring" in faults(tmp_path)[0]


def test_downward_and_level_imports_are_fine(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "html.py").write_text(
        "import jinja2\nfrom ..experiments.store import Store\nfrom cfglab import __version__\n"
    )
    assert faults(tmp_path) == []


def test_every_file_that_the_document_names_is_there() -> None:
    """The module table names files by folder, the three ways through the code by their whole path."""
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    ways = document.split("## Three ways through the code")[1].split("\n## ")[0]
    named = re.findall(r"`([\w/]+\.py)`", ways)
    assert len(named) >= 20
    assert [path for path in named if not (SOURCE / path).is_file()] == []
    for line in document.splitlines():
        if found := re.match(r"\| (`[\w/., `]+`) \|", line):
            first, *_ = re.findall(r"`([\w/.]+)`", found[1])
            folder = first if first.endswith("/") else ""
            files = re.findall(r"`([\w/]+\.py)`", line)
            assert [file for file in files if not (SOURCE / folder / file).is_file()] == [], line


def test_the_three_ways_are_short() -> None:
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    ways = document.split("## Three ways through the code")[1].split("\n## ")[0]
    counts = [len(set(re.findall(r"`([\w/]+\.py)`", way))) for way in ways.split("\n**")[1:]]
    assert [count <= most for count, most in zip(counts, (20, 20, 9), strict=True)] == [True] * 3
