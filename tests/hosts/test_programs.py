"""The scripts in `hosts/`: stand-ins of the programs' hooks everywhere, their own classes where a checkout is named.

A stand-in has what a script uses and nothing else. With SDNEXT, REFORGE or INVOKEAI=/path/to/checkout the program's own
source takes its place: SD.Next's Script and AxisOption, reForge's sampling_function, InvokeAI's check of cfg_scale. The
programs themselves are not started: their environments are their own.
"""

import importlib.util
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Union

import numpy as np
import pytest
import torch
from pydantic import BaseModel, Field
from torch import Tensor

import cfglab as cl
from cfglab.errors import InputError
from cfglab.experiments.storage.infotext import GUIDANCE
from tests.hosts.code_base import functions_of
from tests.tiny import tiny_pipeline

HOSTS = Path(__file__).parents[2] / "hosts"


def module(**contents: Any) -> ModuleType:
    made = ModuleType("stand-in")
    vars(made).update(contents)
    return made


def script(monkeypatch: pytest.MonkeyPatch, file: str, modules: dict[str, ModuleType]) -> Any:
    """A script of `hosts/`, imported among these modules of its program."""
    for name, stand_in in modules.items():
        monkeypatch.setitem(sys.modules, name, stand_in)
    spec = importlib.util.spec_from_file_location("host_script", HOSTS / file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class Widget:
    """A part of a gradio page."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __enter__(self) -> "Widget":
        return self

    def __exit__(self, *_: object) -> None: ...


GRADIO = module(Accordion=Widget, Textbox=Widget)


# -- SD.Next


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    loaded = cl.load(str(tiny_pipeline(tmp_path_factory.mktemp("tiny") / "model")), device="cpu")
    loaded.set_progress_bar_config(disable=True)
    return loaded


class AxisOption:
    def __init__(self, label: str, tipe: type, apply: Callable[..., Any]) -> None:
        self.label, self.type, self.apply = label, tipe, apply


def sdnext_classes(source: str) -> tuple[type, type]:
    if source == "stand-in":
        return type("Script", (), {}), AxisOption
    import ast
    import os

    if not os.environ.get("SDNEXT"):
        pytest.skip("SDNEXT=/path/to/checkout runs this with its own classes")
    space: dict[str, Any] = {"format_value_add_label": None}
    for file, name in (("modules/scripts_manager.py", "Script"), ("scripts/xyz/xyz_grid_classes.py", "AxisOption")):
        tree = ast.parse((Path(os.environ["SDNEXT"]) / file).read_text(encoding="utf-8"))
        (node,) = (part for part in tree.body if isinstance(part, ast.ClassDef) and part.name == name)
        future = ast.parse("from __future__ import annotations").body
        exec(compile(ast.Module([*future, node], []), file, "exec"), space)
    return space["Script"], space["AxisOption"]


@pytest.fixture(params=["stand-in", "own source"])
def sdnext(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, pipe: Any) -> Any:
    base, axis = sdnext_classes(request.param)
    messages: list[str] = []
    shared = module(sd_model=pipe, state=SimpleNamespace(interrupted=False))
    grid = module(AxisOption=axis, axis_options=[])
    modules = {
        "gradio": GRADIO,
        "modules": module(),
        "modules.scripts_manager": module(Script=base, AlwaysVisible=object()),
        "modules.shared": shared,
        "modules.logger": module(log=SimpleNamespace(error=messages.append)),
        "scripts.xyz.xyz_grid_classes": grid,
    }
    vars(modules["modules"]).update(scripts_manager=modules["modules.scripts_manager"], shared=shared)
    loaded = script(monkeypatch, "sdnext/cfglab_guidance.py", modules)
    return SimpleNamespace(script=loaded.GuidanceScript(), shared=shared, grid=grid, messages=messages)


def draw(pipe: Any) -> np.ndarray:
    generator = torch.Generator().manual_seed(1)
    return np.asarray(pipe("a b", num_inference_steps=3, guidance_scale=6, generator=generator).images[0])


def job() -> Any:
    return SimpleNamespace(extra_generation_params={})


def test_sd_nexts_images_follow_the_guidance_and_the_pipeline_is_left_as_it_was(sdnext: Any, pipe: Any) -> None:
    plain, p, text = draw(pipe), job(), "linear(max=9, min=2) | rescale(strength=0.5)"
    with cl.guide(pipe, text):
        wanted = draw(pipe)
    sdnext.script.process(p, text)
    assert np.array_equal(draw(pipe), wanted)
    assert p.extra_generation_params == {GUIDANCE: text}
    sdnext.script.postprocess(p, None)
    assert np.array_equal(draw(pipe), plain)
    assert not np.array_equal(wanted, plain)


def test_an_axis_of_sd_nexts_grid_sets_the_guidance_of_a_cell(sdnext: Any, pipe: Any) -> None:
    sdnext.script.ui(False)
    sdnext.script.ui(True)
    (axis,) = sdnext.grid.axis_options
    p = job()
    axis.apply(p, "3", ["3", "4"])
    sdnext.script.process(p, "")
    with_axis = draw(pipe)
    sdnext.script.process(job(), "")  # an interrupted run had no postprocess
    with cl.guide(pipe, 3):
        assert np.array_equal(draw(pipe), with_axis)
    assert p.extra_generation_params == {GUIDANCE: "3"}


def test_a_guidance_that_cannot_be_read_stops_sd_next_with_one_line(sdnext: Any, pipe: Any) -> None:
    plain, p = draw(pipe), job()
    sdnext.script.process(p, "cosin(max=7)")
    (line,) = sdnext.messages
    assert line.startswith("cfglab: ")
    assert "\n" not in line
    assert sdnext.shared.state.interrupted
    assert p.extra_generation_params == {}
    assert np.array_equal(draw(pipe), plain)


# -- reForge


class Unet:
    """A model patcher of reForge: options, and the setters of hooks."""

    def __init__(self, sampling: Any) -> None:
        self.model_options: dict[str, Any] = {}
        self.sampling = sampling

    def clone(self) -> "Unet":
        copy = Unet(self.sampling)
        copy.model_options = {k: list(v) if isinstance(v, list) else v for k, v in self.model_options.items()}
        return copy

    def get_model_object(self, name: str) -> Any:
        assert name == "model_sampling"
        return self.sampling

    def set_model_sampler_calc_cond_batch_function(self, function: Any) -> None:
        self.model_options["sampler_calc_cond_batch_function"] = function

    def set_model_sampler_post_cfg_function(self, function: Any, disable_cfg1_optimization: bool = False) -> None:
        before = self.model_options.get("sampler_post_cfg_function", [])
        self.model_options["sampler_post_cfg_function"] = [*before, function]
        self.model_options["disable_cfg1_optimization"] = disable_cfg1_optimization


class Eps:
    sigma_data = 1.0


class V(Eps): ...


class Edm(V): ...


class Const: ...


SIGMAS = torch.tensor([14.6, 6.0, 2.0, 0.5, 0.0])


def denoised(x: Tensor, sigma: Tensor, text: float) -> Tensor:
    s = sigma.reshape(-1, 1, 1, 1)
    return torch.tanh(x / (s**2 + 1).sqrt() + text) / (1 + s)


def calc_cond_batch(model: Any, conds: Any, x: Tensor, sigma: Tensor, _: Any) -> list[Tensor]:
    model.rows += len(x) * sum(cond is not None for cond in conds)
    return [torch.zeros_like(x) if cond is None else denoised(x, sigma, cond[0]["text"]) for cond in conds]


def sampling_function(
    model: Any, x: Tensor, timestep: Tensor, uncond: Any, cond: Any, cond_scale: float, model_options: Any
) -> Tensor:
    """The order of reForge's and ComfyUI's hooks, written out for what the script sets."""
    args = {"conds": [cond, uncond], "input": x, "sigma": timestep, "model": model, "model_options": model_options}
    if calc := model_options.get("sampler_calc_cond_batch_function"):
        out = calc(args)
    else:
        out = calc_cond_batch(model, [cond, uncond], x, timestep, model_options)
    result = out[1] + (out[0] - out[1]) * cond_scale
    for post in model_options.get("sampler_post_cfg_function", []):
        result = post({**args, "denoised": result})
    return result


def reforge_sampling(source: str) -> Callable[..., Tensor]:
    if source == "stand-in":
        return sampling_function
    names = ("cfg_function", "sampling_function")
    known = {"calc_cond_batch": calc_cond_batch, "shared": SimpleNamespace(opts=SimpleNamespace())}
    return functions_of("REFORGE", "ldm_patched/modules/samplers.py", *names, **known)[1]


@pytest.fixture(params=["stand-in", "own source"])
def reforge(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    kinds = module(EPS=Eps, V_PREDICTION=V, EDM=Edm, CONST=Const)
    modules = {
        "gradio": GRADIO,
        "ldm_patched": module(),
        "ldm_patched.modules": module(model_sampling=kinds, samplers=module(calc_cond_batch=calc_cond_batch)),
        "modules": module(scripts=module(Script=object, AlwaysVisible=object())),
    }
    loaded = script(monkeypatch, "reforge/cfglab_guidance.py", modules)
    return SimpleNamespace(script=loaded.GuidanceScript(), sample=reforge_sampling(request.param))


def reforge_job(unet: Unet) -> Any:
    sampler = SimpleNamespace(get_sigmas=lambda *_: SIGMAS, funcname="sample_euler")
    objects = SimpleNamespace(forge_objects=SimpleNamespace(unet=unet))
    return SimpleNamespace(sd_model=objects, sampler=sampler, steps=4, extra_generation_params={})


def euler(reforge: Any, p: Any, cfg: float = 7.0) -> tuple[Tensor, int]:
    model = SimpleNamespace(rows=0)
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * SIGMAS[0]
    options = p.sd_model.forge_objects.unet.model_options
    for now, after in pairwise(SIGMAS):
        D = reforge.sample(model, x, now.expand(2), [{"text": -0.5}], [{"text": 1.0}], cfg, model_options=options)
        x = x + (after - now) * (x - D) / now
    return x, model.rows


def test_a_plain_scale_is_reforges_own(reforge: Any) -> None:
    plain, rows = euler(reforge, reforge_job(Unet(Eps())), 7.0)
    p = reforge_job(Unet(Eps()))
    reforge.script.process_before_every_sampling(p, "7")
    mine, mine_rows = euler(reforge, p, 3.0)
    torch.testing.assert_close(mine, plain, rtol=1e-6, atol=1e-6)
    assert rows == mine_rows == 16
    assert p.extra_generation_params == {GUIDANCE: "7"}


def test_the_rows_that_a_step_does_not_need_are_not_run_in_reforge(reforge: Any) -> None:
    p = reforge_job(Unet(Eps()))
    reforge.script.process_before_every_sampling(p, "constant(7).inside(steps=(1, 3))")
    assert euler(reforge, p, 1.0)[1] == 2 * (4 + 2)


@pytest.mark.parametrize("kind", [Eps, V])
def test_a_method_gives_the_same_in_reforge_as_around_the_bare_denoiser(reforge: Any, kind: Any) -> None:
    text = "6 | apg(norm_threshold=3) | rescale(strength=0.4, space=v)"
    p = reforge_job(Unet(kind()))
    reforge.script.process_before_every_sampling(p, text)
    mine, _ = euler(reforge, p)
    bare = cl.guided(
        lambda x, sigma, text: denoised(x, sigma, text.reshape(-1, 1, 1, 1)),
        text,
        uncond={"text": torch.full((2,), -0.5)},
        levels=SIGMAS.tolist(),
        model="v" if kind is V else "epsilon",
    )
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * SIGMAS[0]
    for now, after in pairwise(SIGMAS):
        x = x + (after - now) * (x - bare(x, now.expand(2), text=torch.ones(2))) / now
    torch.testing.assert_close(mine, x, rtol=1e-5, atol=1e-5)


def test_other_patches_of_reforge_act_after_the_guidance_and_the_first_unet_stays(reforge: Any) -> None:
    unet = Unet(Eps())
    unet.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * 0)
    p = reforge_job(unet)
    reforge.script.process_before_every_sampling(p, "5")
    x, _ = euler(reforge, p)
    assert torch.allclose(x, torch.zeros_like(x), atol=1e-5)
    assert list(unet.model_options) == ["sampler_post_cfg_function", "disable_cfg1_optimization"]
    untouched = reforge_job(unet)
    reforge.script.process_before_every_sampling(untouched, "  ")
    assert untouched.sd_model.forge_objects.unet is unet


@pytest.mark.parametrize(
    ("text", "sampling", "words"),
    [
        ("cosin(max=7)", Eps(), "cosin"),
        ("7 | pag()", Eps(), "reForge: it needs a perturbed pass"),
        ("7", Edm(), "another noise path"),
        ("7", object(), "another noise path"),
    ],
)
def test_what_reforge_cannot_do_ends_the_generation_in_one_line(
    reforge: Any, text: str, sampling: Any, words: str
) -> None:
    p = reforge_job(Unet(sampling))
    reforge.script.process_before_every_sampling(p, text)
    with pytest.raises(RuntimeError, match=words) as caught:
        euler(reforge, p)
    assert "\n" not in str(caught.value)


# -- InvokeAI


@pytest.fixture
def invokeai(monkeypatch: pytest.MonkeyPatch) -> Any:
    def invocation(*_: Any, **__: Any) -> Callable[[Any], Any]:
        return lambda node: node

    class FloatCollectionOutput(BaseModel):
        collection: list[float]

    api = module(
        BaseInvocation=BaseModel,
        FloatCollectionOutput=FloatCollectionOutput,
        InputField=Field,
        InvocationContext=object,
        invocation=invocation,
    )
    modules = {"invokeai": module(), "invokeai.invocation_api": api}
    return script(monkeypatch, "invokeai/cfglab_schedule.py", modules).CfglabScheduleInvocation


@pytest.mark.parametrize(
    "text", ["cosine(max=7.5, min=1, k=0.3)", "6", "constant(4).inside(sigma=(0.5, 5))", "[5, 4, 3]"]
)
def test_invokeai_gets_a_scale_for_each_step(invokeai: Any, text: str) -> None:
    steps = 3
    scales = invokeai(schedule=text, steps=steps).invoke(None).collection
    sigmas = [float(step.sigma or 0) for step in cl.levels("sd", steps).steps]
    assert scales == cl.Guidance(text).schedule.values(steps, sigmas)
    assert len(scales) == steps


def test_the_scales_pass_invokeais_own_check(invokeai: Any) -> None:
    def field_validator(*_: Any) -> Callable[[Any], Any]:
        return lambda function: function

    (check,) = functions_of(
        "INVOKEAI",
        "invokeai/app/invocations/denoise_latents.py",
        "ge_one",
        field_validator=field_validator,
        Union=Union,
        List=list,
    )
    scales = invokeai(schedule="cosine(max=7.5, min=1)", steps=12).invoke(None).collection
    assert check(None, scales) == scales
    with pytest.raises(ValueError, match="greater than 1"):
        check(None, [7.0, 0.5])


@pytest.mark.parametrize(
    ("text", "words"), [("7 | apg()", "no method"), ("linear(max=3, min=0)", "1 or more"), ("x", "unknown shape")]
)
def test_what_invokeai_cannot_do_is_one_line(invokeai: Any, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        invokeai(schedule=text, steps=8).invoke(None)
    assert "\n" not in str(caught.value)


# -- all of them


@pytest.mark.parametrize("folder", ["sdnext", "reforge", "invokeai", "stable-diffusion.cpp"])
def test_a_host_is_thin_and_has_a_page(folder: str) -> None:
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in (HOSTS / folder).glob("*.py"))
    assert lines <= 80
    assert (HOSTS / folder / "README.md").is_file()
