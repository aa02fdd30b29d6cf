"""The examples in docstrings run, and every public name has its parameters or fields described."""

import doctest
import importlib
import inspect
import pkgutil
from inspect import Parameter
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

import cfglab
import cfglab.guidance
import cfglab.schedules
from cfglab.guidance import TRANSFORMS, Transform
from cfglab.schedules import PUBLISHED, SHAPES, Schedule

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
LEAST = 150
"""Examples that must be found at least, so that the collection itself cannot fail silently."""


EXPERIMENTS = tuple(
    f"experiments.{name}"
    for name in (
        "spec.document",
        "spec.experiment",
        "spec.prompts",
        "spec.starting_noise",
        "storage.database",
        "execution.run",
    )
)


def _modules() -> list[str]:
    packages: tuple[ModuleType, ...] = (cfglab.schedules, cfglab.guidance)
    inside = [
        module.name
        for package in packages
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    modules = ("step", "errors", "svg.plot", "svg.scale", "metrics.registry", *EXPERIMENTS)
    return [*(f"cfglab.{name}" for name in modules), *(package.__name__ for package in packages), *inside]


MODULES = _modules()
NAMES = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in (cfglab.schedules, cfglab.guidance)
    for name in package.__all__
}
NAMES |= {f"text.{name}": value for kinds in (PUBLISHED, SHAPES, TRANSFORMS) for name, value in kinds.items()}
DESCRIBED = {
    name: value
    for name, value in NAMES.items()
    if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith("cfglab.")
}
"""Without the transforms that other tests define."""
ELSEWHERE = ("kind", "strength", "space")
"""Fields that the base class describes for all transforms."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_run(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"cl": cfglab}, optionflags=FLAGS)
    assert result.failed == 0


def test_examples_are_found() -> None:
    finder = doctest.DocTestFinder()
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert sum(len(test.examples) for test in found) >= LEAST


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_public_name_describes_its_parameters_or_fields(name: str) -> None:
    value = DESCRIBED[name]
    text = inspect.cleandoc(value.__doc__ or "")
    assert text.split("\n", 1)[0].endswith("."), "the summary is one line"
    _, _, section = text.partition("\nAttributes:\n" if inspect.isclass(value) else "\nArgs:\n")
    assert [field for field in _fields(value) if f"    {field}: " not in section] == []


@pytest.mark.parametrize("base", [Schedule, Transform])
def test_a_method_of_a_base_class_describes_its_parameters(base: type) -> None:
    methods = {name: value for name, value in vars(base).items() if name[0] != "_" and inspect.isfunction(value)}
    assert len(methods) > 7
    for name, value in methods.items():
        text = inspect.cleandoc(value.__doc__ or "")
        parameters = [one for one in inspect.signature(value).parameters if one != "self"]
        assert [one for one in parameters if f"    {one}: " not in text] == [], name


def test_the_fields_of_the_base_class_are_described() -> None:
    assert [field for field in ELSEWHERE if f"    {field}: " not in inspect.cleandoc(Transform.__doc__ or "")] == []


def _fields(value: Any) -> list[str]:
    """The fields of a class, or the parameters of a function."""
    if inspect.isclass(value) and issubclass(value, BaseModel):
        return [field for field in value.model_fields if field not in ELSEWHERE]
    parameters = inspect.signature(value).parameters.values()
    return [
        parameter.name
        for parameter in parameters
        if parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]
