"""A guider saved and loaded: alone, in a Modular pipeline, in the classic ones that have a guider; never pickled."""

import json
import re
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import ClassifierFreeGuidance

import cfglab
from cfglab.errors import InputError
from cfglab.guidance import Guidance, PredictionNorm, UpdateNorm
from cfglab.pipelines.guider.guider import Guider, to_guider
from cfglab.pipelines.guider.save import save_with_guider
from cfglab.schedules import Cosine
from tests.documents import python_of
from tests.pipelines.families import parts
from tests.pipelines.modular import MODULAR, hunyuan, recorded
from tests.pipelines.modular.oracles import Listed, NormOfX0

GUIDANCE = Guidance(Cosine(max=7, min=2).inside(progress=(0.2, 0.8)), [PredictionNorm(space="x0", strength=0.5)])


@pytest.mark.parametrize("guidance", [GUIDANCE, Guidance(3), [GUIDANCE, Guidance(5)]], ids=str)
def test_a_guider_is_the_json_of_its_guidance(tmp_path: Path, guidance: Any) -> None:
    guider = to_guider(guidance)
    guider.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["guider_config.json"]
    stored = json.loads((tmp_path / "guider_config.json").read_text())
    several = isinstance(guidance, list)
    expected = [json.loads(one.model_dump_json()) for one in (guidance if several else [guidance])]
    assert stored["guidance"] == (expected if several else expected[0])
    for again in (Guider.from_pretrained(tmp_path), guider.new(), Guider.from_config(dict(guider.config))):
        assert again.guidances == guider.guidances
        assert again.several == several
    assert "guidance" in repr(guider)


def test_new_takes_another_guidance() -> None:
    assert to_guider(3).new(guidance="cosine(max=7)").guidances == [Guidance(Cosine(max=7))]


def test_a_function_and_a_live_object_run_but_are_not_stored(tmp_path: Path) -> None:
    class Mine:
        def start(self, prediction: str) -> Any:
            raise NotImplementedError

    for given, words in ((lambda _: 7.5, "function"), (Mine(), "cannot be written: only a Guidance is stored")):
        guider = to_guider(given)
        with pytest.raises(InputError, match=words):
            guider.save_pretrained(tmp_path)
        with pytest.raises(InputError, match="no guidance in this configuration of a guider"):
            guider.new()
    assert list(tmp_path.iterdir()) == []
    modular = MODULAR["Wan"]
    pipe = modular.build()
    pairs = [modular.run(modular.use(pipe, to_guider(one)))[-1] for one in (lambda step: 5 - step.index, [[5, 4, 3]])]
    assert torch.equal(*pairs)


def test_a_modular_pipeline_comes_back_with_its_guiders(tmp_path: Path) -> None:
    modular = MODULAR["Wan 2.2"]
    pipe = modular.build()
    ours, theirs = to_guider(GUIDANCE), ClassifierFreeGuidance(guidance_scale=2.5)
    pipe.update_components(guider=ours, guider_2=theirs)
    latents = modular.run(pipe)
    save_with_guider(pipe, tmp_path / "saved")
    assert (pipe.guider, pipe.guider_2) == (ours, theirs)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pt", ".pth", ".pkl", ".pickle", ".bin")]
    (tmp_path / "saved").rename(tmp_path / "moved")
    with parts.calm(0):
        again = diffusers.ModularPipeline.from_pretrained(tmp_path / "moved")
        again.load_components()
    assert again.guider.guidances == [GUIDANCE]
    assert isinstance(again.guider, cfglab.Guider)
    assert again.guider_2.config["guidance_scale"] == 2.5
    for name in ("transformer", "transformer_2"):
        left, right = getattr(pipe, name).state_dict(), getattr(again, name).state_dict()
        assert all(torch.equal(left[key], right[key]) for key in left)
    pipe.update_components(guider=again.guider, guider_2=again.guider_2)
    assert all(map(torch.equal, modular.run(pipe), latents))
    save_with_guider(pipe, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "guider" / "guider_config.json").read_text())["guidance"]


def test_what_cannot_be_saved_is_said_before_anything_is(tmp_path: Path) -> None:
    modular = MODULAR["Wan"]
    pipe = modular.use(modular.build(), to_guider(lambda _: 7.5))
    with pytest.raises(InputError, match="function"):
        save_with_guider(pipe, tmp_path / "saved")
    assert not (tmp_path / "saved" / "transformer").exists()
    with pytest.raises(InputError, match="dict is not a Modular pipeline: its own save_pretrained saves the guider"):
        save_with_guider({}, tmp_path)


@pytest.mark.parametrize("name", list(hunyuan.CALLS))
def test_the_classic_pipelines_with_a_guider(tmp_path: Path, name: str) -> None:
    pipe = hunyuan.build(name, ClassifierFreeGuidance(guidance_scale=4.0))

    def draw(guider: Any, **more: Any) -> list[Any]:
        pipe.guider = guider
        with recorded(pipe.scheduler) as latents:
            hunyuan.draw(pipe, name, **more)
        return latents

    own = draw(pipe.guider)
    assert all(map(torch.equal, draw(to_guider(4)), own))
    assert (draw(to_guider(3))[-1] - own[-1]).abs().max() > 5e-3
    guider = to_guider(Cosine(max=7, min=2).inside(progress=(0.2, 0.7)))
    assert all(
        map(torch.equal, draw(guider, steps=4), draw(Listed([1, *Cosine(max=7, min=2).values(4)[1:3], 1]), steps=4))
    )
    assert (guider.trace.rows_run, guider.trace.rows_saved) == (6, 2)

    seen: list[Any] = []
    handle = pipe.transformer.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
    )
    oracle = draw(NormOfX0(4.0, pipe.scheduler, seen, flow=True))
    handle.remove()
    for left, right in zip(draw(to_guider(Guidance(4, [PredictionNorm(space="x0")]))), oracle, strict=True):
        torch.testing.assert_close(left, right, rtol=2e-4, atol=2e-4)

    normed = to_guider(Guidance(0.2, [UpdateNorm(space="model")]))
    latents = draw(normed)
    with parts.calm(0):
        pipe.save_pretrained(tmp_path)
        again = type(pipe).from_pretrained(tmp_path)
    assert again.guider.guidances == normed.guidances
    assert all(map(torch.equal, draw(again.guider), latents))


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    code = python_of("docs/modular.md", "cl.save_with_guider")
    published = '"stabilityai/stable-diffusion-xl-base-1.0"'
    assert published in code
    with parts.calm(0):
        MODULAR["SDXL"].case.build().save_pretrained("tiny")
        exec(compile(code.replace(published, '"tiny"'), "docs/modular.md", "exec"), {})
        again = diffusers.ModularPipeline.from_pretrained("fox-pipeline")
        again.load_components()
    assert (tmp_path / "fox.png").stat().st_size > 100
    table = capsys.readouterr().out.splitlines()
    assert len([line for line in table if "/20" in line]) == 20
    assert re.search(r"rows saved", table[0])
    assert isinstance(again.guider.guidances[0].transforms[0], PredictionNorm)
