"""The API reference: one page for each public package, made from what its `__all__` names. Run by mkdocs."""

import ast
from pathlib import Path

import mkdocs_gen_files

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "schedules": "The guidance scale as a value.",
    "guidance": "Transforms, guidance and its text form.",
    "pipelines": "Loading and guiding diffusers pipelines.",
    "experiments": "Experiments, runs and comparisons.",
    "metrics": "What is measured.",
}

TABLES = {"AnySchedule", "AnyTransform", "METRICS", "PUBLISHED", "SAMPLERS", "SHAPES", "TRANSFORMS", "Space"}
"""Tables and aliases of types, whose members have entries of their own."""


def public(package: str) -> list[str]:
    """The names in `__all__` of a package that have an entry, read without importing it."""
    tree = ast.parse((ROOT / "src" / "cfglab" / package / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [name for name in ast.literal_eval(node.value) if name not in TABLES]
    raise ValueError(f"cfglab.{package} has no __all__")


def index() -> dict[str, tuple[str, ...]]:
    """Where `import cfglab as cl` finds each public name."""
    tree = ast.parse((ROOT / "src" / "cfglab" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "_NAMES" and node.value is not None:
            return dict(ast.literal_eval(node.value))
    raise ValueError("cfglab has no _NAMES")


def write(page: str, lines: list[str]) -> None:
    with mkdocs_gen_files.open(f"reference/{page}.md", "w") as file:
        file.write("\n".join(lines) + "\n")


nav = ["# Reference", "", "`import cfglab as cl` gives these names; each is imported when it is first used.", ""]
nav += ["| name | defined in |", "|---|---|"]
others: list[str] = []
for module, names in index().items():
    for name in names:
        home = next((package for package in PACKAGES if name in public(package)), None)
        if home:
            target = f"{home}.md#cfglab.{home}.{name}"
        elif name in TABLES:
            target = "index.md"
        else:
            target = f"more.md#cfglab.{module}.{name}"
            others += [f"::: cfglab.{module}.{name}", ""]
        shown = f"[`cl.{name}`]({target})"
        nav.append(f"| {shown} | `cfglab.{module}` |")
write("index", nav)
write("more", ["# Other names", "", "Steps, errors, hosts and what else `import cfglab as cl` gives.", "", *others])
for package, text in PACKAGES.items():
    lines = [f"# cfglab.{package}", "", text, ""]
    for name in public(package):
        inherited = ["    options:", "      inherited_members: true"] if name == "Schedule" else []
        lines += [f"::: cfglab.{package}.{name}", *inherited, ""]
    write(package, lines)
