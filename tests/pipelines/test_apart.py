"""No file of the adapter knows a method, and no method knows a pipeline: read off the names in their code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cfglab
from cfglab.guidance import TRANSFORMS
from cfglab.pipelines.profiles.table import profiles
from cfglab.pipelines.profiles.table_refused import REFUSED
from cfglab.schedules.schedule import Schedule

SOURCE = Path(cfglab.__file__).parent
NUMBER = {"Constant"}  # the schedule that is a number: what a model with an embedded scale can be given
HOST = {"pipe", "pipeline", "unet", "scheduler", "guidance_scale", "diffusers"}


def subclasses(kind: type) -> Iterator[type]:
    direct: list[type] = kind.__subclasses__()
    for subclass in direct:
        yield subclass
        yield from subclasses(subclass)


def methods() -> set[str]:
    """Every transform and schedule of cfglab, by the name of its class and of its kind."""
    kinds = [*TRANSFORMS.values(), *subclasses(Schedule)]
    ours = {kind for kind in kinds if kind.__module__.startswith("cfglab.")}
    return {kind.__name__ for kind in ours} | set(TRANSFORMS)


def names(code: str, *, texts: bool = True) -> set[str]:
    """Identifiers, attributes and imported names; with `texts` those too that are compared with or looked up."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                found.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                found |= {alias.name for alias in aliases}
                found |= {part for alias in aliases for part in alias.name.split(".")}
                found |= set((getattr(node, "module", None) or "").split("."))
            case ast.Compare(comparators=others) if texts:
                found |= {one.value for one in others if isinstance(one, ast.Constant) and isinstance(one.value, str)}
            case ast.Subscript(slice=ast.Constant(value=str(name))) if texts:
                found.add(name)
    return found


def knows(folder: str, forbidden: set[str], *, texts: bool) -> dict[str, set[str]]:
    files = sorted((SOURCE / folder).rglob("*.py"))
    assert files
    found = {file.name: names(file.read_text(encoding="utf-8"), texts=texts) & forbidden for file in files}
    return {name: words for name, words in found.items() if words}


def test_no_file_of_the_adapter_knows_a_method() -> None:
    # "rescale" is also what a profile says of a pipeline that rescales behind its combine
    assert knows("pipelines", methods() - NUMBER - {"rescale"}, texts=True) == {}


@pytest.mark.parametrize("folder", ["guidance", "schedules", "denoising"])
def test_no_method_knows_a_pipeline(folder: str) -> None:
    forbidden = HOST | set(profiles()) | set(REFUSED)
    if folder == "denoising":  # whose StepReader reads schedulers
        forbidden.remove("scheduler")
    assert knows(folder, forbidden, texts=False) == {}  # APG has a form that is called "diffusers"


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("from cfglab.guidance import APG\n", "APG"),
        ("if one.kind == 'apg':\n    pass\n", "apg"),
        ("x = isinstance(one, guidance.PredictionNorm)\n", "PredictionNorm"),
        ("def f(pipe):\n    pass\n", "pipe"),
        ("import diffusers\n", "diffusers"),
        ("from diffusers.utils import x\n", "diffusers"),
    ],
)
def test_the_reading_sees(code: str, word: str) -> None:
    assert word in methods() | HOST
    assert word in names(code)
