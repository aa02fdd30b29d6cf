"""Every name and keyword of cf_guidance 0.0.3 and min_diffusion 0.0.3: here, or listed on docs/notebooks.md."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from cf_guidance.transforms import BaseNormGuidance, GuidanceTfm, TNormGuidance
from cfglab.errors import InputError
from min_diffusion.core import MinimalDiffusion
from tests.oracles import Published

PAGE = Path(__file__).parents[2] / "docs" / "notebooks.md"
PRIVATE = "_modidx"  # what nbdev writes for its own pages


def modules(published: Published) -> Iterator[tuple[str, ast.Module]]:
    for package in ("cf_guidance", "min_diffusion"):
        for file in sorted((published.folder / package).glob("*.py")):
            if file.stem != PRIVATE:
                name = package if file.stem == "__init__" else f"{package}.{file.stem}"
                yield name, ast.parse(file.read_text(encoding="utf-8"))


def exported(tree: ast.Module) -> set[str]:
    """What a module says is its own: __all__ and __version__."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "__all__":
                names |= set(ast.literal_eval(node.value))
            elif node.targets[0].id == "__version__":
                names.add("__version__")
    return names


def members(tree: ast.Module) -> Iterator[tuple[str, str | None, str, list[str]]]:
    """(class or "", its first base, name, parameters) of every function, method and attribute set on self."""
    own = exported(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in own:
            yield "", None, node.name, parameters(node)
        if isinstance(node, ast.ClassDef) and node.name in own:
            attributes = set()
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef):
                    yield node.name, None, inner.name, parameters(inner)
                if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                    attributes |= (
                        {inner.attr} if isinstance(inner.value, ast.Name) and inner.value.id == "self" else set()
                    )
            for attribute in sorted(attributes):
                yield node.name, None, attribute, []


def parameters(function: ast.FunctionDef) -> list[str]:
    given = function.args
    return [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs) if one.arg != "self"]


def listed() -> set[str]:
    """The names between backticks in the first column of the table of what is not there."""
    text = PAGE.read_text(encoding="utf-8").split("## What is not there")[1].split("\n## ")[0]
    first = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]
    return set(re.findall(r"`([^`]+)`", " ".join(first)))


@cache
def instance(name: str, tiny: Path) -> Any:
    if name == "MinimalDiffusion":
        made: Any = MinimalDiffusion(str(tiny), "cpu", torch.float32)
        made.load()
        return made
    tfm = getattr(importlib.import_module("cf_guidance.transforms"), name)({"g": 2.0})
    tfm(torch.ones(1, 4), torch.zeros(1, 4), 0)
    return tfm


def test_every_member_is_here_or_on_the_page(published: Published, tiny: Path) -> None:
    known, missing, walked = listed(), [], 0
    for module, tree in modules(published):
        ours = importlib.import_module(module)
        absent = set()
        for name in sorted(exported(tree)):
            walked += 1
            try:
                getattr(ours, name)
            except (AttributeError, ImportError):
                absent.add(name)
                missing += [] if name in known or module in known else [f"{module}.{name}"]
        for owner, _, name, wanted in members(tree):
            walked += 1
            if owner in absent or name in absent:
                continue
            place = instance(owner, tiny) if owner else ours
            if not hasattr(place, name):
                missing += [] if name in known else [f"{module}.{owner}.{name}"]
                continue
            value = getattr(place, name)
            if callable(value) and wanted and not isinstance(value, torch.nn.Module):
                accepted = inspect.signature(value).parameters
                loose = any(one.kind is one.VAR_KEYWORD for one in accepted.values())
                missing += [f"{module}.{owner}.{name}({one})" for one in wanted if one not in accepted and not loose]
    assert walked > 60
    assert missing == []


def test_nothing_is_listed_that_is_here(published: Published) -> None:
    names = {name for _, tree in modules(published) for name in exported(tree)}
    names |= {name for _, tree in modules(published) for _, _, name, _ in members(tree)}
    here = [
        name
        for name in listed() & names
        for module, tree in modules(published)
        if module != "min_diffusion.kdiff" and name in exported(tree) and name in vars(importlib.import_module(module))
    ]
    assert here == []


def test_a_sampler_of_k_diffusion_says_what_to_write(published: Published) -> None:
    kdiff = importlib.import_module("min_diffusion.kdiff")
    for name in exported(dict(modules(published))["min_diffusion.kdiff"]):
        with pytest.raises(ImportError, match=rf"min_diffusion.kdiff.{name}: .*scheduler_kls='heun'") as caught:
            getattr(kdiff, name)
        assert "\n" not in str(caught.value)
    names: dict[str, Any] = {}
    exec("from min_diffusion.kdiff import *", names)  # what the published core does
    assert set(names) == {"__builtins__"}


@pytest.mark.parametrize("kind", [GuidanceTfm, BaseNormGuidance, TNormGuidance])
def test_hooks_of_a_subclass_are_called_in_the_published_order(published: Published, kind: type[GuidanceTfm]) -> None:
    def hooked(base: Any) -> Any:
        class Own(base):  # type: ignore[misc]
            def pre_proc(self, u: torch.Tensor, t: torch.Tensor, idx: int | None = None) -> None:
                super().pre_proc(u, t, idx)
                self.seen = [("pre", idx)]

            def post_proc(self, u: torch.Tensor, t: torch.Tensor, idx: int | None = None) -> None:
                super().post_proc(u, t, idx)
                self.seen.append(("post", idx))
                self.pred = self.pred * 2 + u  # type: ignore[has-type]

        return Own({"g": [3.0, 5.0]})

    ours, theirs = hooked(kind), hooked(getattr(published.module("cf_guidance.transforms"), kind.__name__))
    u, t = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    torch.testing.assert_close(ours(u, t, 1), theirs(u, t, 1), rtol=2e-5, atol=2e-5)
    assert ours.seen == theirs.seen == [("pre", 1), ("post", 1)]


@pytest.mark.parametrize("name", ["load_vae", "diffuse_step", "load_scheduler", "image_from_latents", "to_device"])
def test_an_override_that_nothing_would_call_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"class Own overrides {name}: nothing calls that here") as caught:
        type("Own", (MinimalDiffusion,), {name: print})
    assert "\n" not in str(caught.value)


def test_an_override_that_is_called_is_not(tiny: Path) -> None:
    class Own(MinimalDiffusion):
        def get_initial_latents(self, height: int, width: int) -> torch.Tensor:
            return torch.zeros_like(super().get_initial_latents(height, width))

    ours = Own(str(tiny), "cpu", torch.float32)
    ours.generate("a", steps=1)
    assert ours.init_latents is not None
    assert not ours.init_latents.any()
