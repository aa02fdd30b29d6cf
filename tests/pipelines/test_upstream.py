"""The harness of diffusers' own tests under guide(): it skips with a line, sees what differs, restores states."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from cfglab.errors import InputError
from cfglab.pipelines import guide
from tests.pipelines.upstream import __main__ as upstream

FOLDER = Path(upstream.__file__).parent


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The plugin as pytest finds it, with empty counts."""
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module("twins")
    for counter in (module.counts, module.classes, module.lines):
        counter.clear()
    return module


def draw(twins: Any, pipe: Any, **kwargs: Any) -> torch.Tensor:
    call = twins.twinned(type(pipe).__call__, "StableDiffusionPipeline")
    settings = {"num_inference_steps": 2, "output_type": "latent", "guidance_scale": 3.0}
    latents: torch.Tensor = call(pipe, "a cat", **settings | kwargs).images
    return latents


@pytest.mark.parametrize("given", ["", "/nowhere"])
def test_without_a_checkout_it_says_so_in_one_line(
    given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIFFUSERS_TESTS", given)
    assert upstream.main([]) == (1 if given else 0)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "skipped" in said
    assert "DIFFUSERS_TESTS=/path" in said


def test_a_checkout_is_named_by_its_root_or_its_tests(tmp_path: Path) -> None:
    (tmp_path / "tests" / "pipelines").mkdir(parents=True)
    (tmp_path / "setup.py").write_text('version="0.42.1",  # expected format', encoding="utf-8")
    assert upstream.checkout(str(tmp_path)) == upstream.checkout(str(tmp_path / "tests")) == tmp_path
    assert upstream.version(tmp_path) == "0.42.1"
    assert upstream.checkout(str(tmp_path / "tests" / "pipelines")) is None


def test_a_call_is_made_twice_from_the_same_states(twins: Any, pipe: Any) -> None:
    torch.manual_seed(5)  # no generator given: torch's own
    twice = draw(twins, pipe)
    torch.manual_seed(5)
    once = pipe("a cat", num_inference_steps=2, output_type="latent", guidance_scale=3.0).images
    assert torch.equal(twice, once)
    generator = torch.Generator().manual_seed(1)
    draw(twins, pipe, generator=generator)
    after = torch.Generator().manual_seed(1)
    pipe("a cat", num_inference_steps=2, output_type="latent", guidance_scale=3.0, generator=after)
    assert torch.equal(generator.get_state(), after.get_state())
    assert dict(twins.counts) == {"bit for bit": 2}


def test_a_call_without_guidance_is_made_once(twins: Any, pipe: Any) -> None:
    draw(twins, pipe, guidance_scale=1.0)
    assert not twins.counts


def test_what_differs_fails_the_test_there(twins: Any, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "guide", lambda pipe, scale: guide(pipe, scale + 30))
    with pytest.raises(pytest.fail.Exception, match=r"under guide\(\) at its own scale 3 differs by"):
        draw(twins, pipe, generator=torch.Generator().manual_seed(1))
    assert dict(twins.counts) == {"different": 1}


@pytest.mark.parametrize(
    ("calls", "untouched"),
    [({"bit for bit": 2, "to rounding": 1}, True), ({"different": 1}, False), ({"failed": 1}, False), ({}, True)],
)
def test_a_red_test_is_excused_only_where_guide_changed_nothing(
    twins: Any, calls: dict[str, int], untouched: bool
) -> None:
    assert twins.agreed(twins.Counter(calls)) == untouched


def test_what_is_refused_is_listed_and_the_test_goes_on(twins: Any, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def refuse(pipe: Any, scale: float) -> Iterator[None]:  # noqa: ARG001
        raise InputError("a switch: refused; leave it out.")
        yield  # type: ignore[unreachable]

    monkeypatch.setattr(twins, "guide", refuse)
    latents = draw(twins, pipe, generator=torch.Generator().manual_seed(1))
    assert torch.isfinite(latents).all()
    assert twins.lines == ["refused: StableDiffusionPipeline: a switch: refused; leave it out."]
