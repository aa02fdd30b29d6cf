"""The node pack on a stand-in of ComfyUI's hooks: what they are called with, and what they give, in this order.

`make comfyui` runs the pack on ComfyUI itself. This contract is written from its documentation, without its code.
"""

import copy
import importlib.util
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cfglab import Guidance
from cfglab.errors import InputError

PACK = Path(__file__).parents[2] / "comfyui"
WRAPPERS = {name.upper(): name for name in ("outer_sample", "sampler_sample", "predict_noise")}
"""ComfyUI's kinds of wrappers."""
SIGMAS = torch.tensor([14.6, 6.0, 2.5, 1.0, 0.4, 0.0])
SHAPE = (2, 4, 8, 8)


class EPS:
    def timestep(self, sigma: Tensor) -> Tensor:
        return 100 * sigma


class CONST(EPS): ...


class Odd: ...


class Model:
    """A network: x0 from x and a number, which is the condition. It notes the rows that it runs."""

    def __init__(self, sampling: type) -> None:
        self.diffusion_model, self.model_sampling, self.rows = torch.nn.Identity(), sampling(), 0

    def x0(self, condition: list[float], x: Tensor, sigma: Tensor) -> Tensor:
        self.rows += len(x)
        return torch.sin(x + condition[0]) / (1 + sigma[0]) + condition[0]


class Patcher:
    """A MODEL."""

    def __init__(self, sampling: type = EPS) -> None:
        self.model = Model(sampling)
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.wrappers: dict[str, Any] = {}

    def clone(self) -> "Patcher":
        patched = copy.copy(self)
        patched.model_options = copy.deepcopy(self.model_options)
        patched.wrappers = dict(self.wrappers)
        return patched

    def get_model_object(self, name: str) -> Any:
        return getattr(self.model, name)

    def set_model_sampler_calc_cond_batch_function(self, function: Any) -> None:
        self.model_options["sampler_calc_cond_batch_function"] = function

    def set_model_sampler_pre_cfg_function(self, function: Any, disable_cfg1_optimization: bool = False) -> None:
        self.model_options.setdefault("sampler_pre_cfg_function", []).append(function)
        self.model_options["disable_cfg1_optimization"] = disable_cfg1_optimization

    def set_model_sampler_cfg_function(self, function: Any) -> None:
        self.model_options["sampler_cfg_function"] = function

    def add_wrapper_with_key(self, kind: str, _key: str, wrapper: Any) -> None:
        self.wrappers[kind] = wrapper

    def get_additional_models_with_key(self, _key: str) -> list[Any]:
        return []


class Guider:
    """One run of Euler's method over the five hooks."""

    def __init__(self, patcher: Patcher, cfg: float = 1.0, negative: Any = (-0.5,)) -> None:
        self.model_patcher, self.cfg, self.conds = patcher, cfg, {"positive": [0.8], "negative": negative}
        self.model_options = {
            **patcher.model_options,
            "transformer_options": dict(patcher.model_options["transformer_options"]),
        }

    def _wrapped(self, kind: str, function: Callable[..., Tensor], *args: Any) -> Tensor:
        wrapper = self.model_patcher.wrappers.get(kind)
        if wrapper is None:
            return function(*args)
        guider = self

        class Executor:
            class_obj = guider

            def __call__(self, *args: Any) -> Tensor:
                return function(*args)

        return wrapper(Executor(), *args)

    def sample(self, noise: Tensor) -> Tensor:
        return self._wrapped("outer_sample", self._outer, noise, noise, None, SIGMAS)

    def _outer(self, noise: Tensor, _latent: Tensor, _sampler: Any, sigmas: Tensor) -> Tensor:
        return self._wrapped("sampler_sample", self._sample, self, sigmas, {}, None, noise)

    def _sample(self, _guider: Any, sigmas: Tensor, _options: Any, _callback: Any, noise: Tensor) -> Tensor:
        x = noise * sigmas[0]
        for sigma, after in itertools.pairwise(sigmas):
            denoised = self._wrapped("predict_noise", self.predict, x, sigma.expand(len(x)), self.model_options)
            x = x + (x - denoised) / sigma * (after - sigma)
        return x

    def predict(self, x: Tensor, sigma: Tensor, options: dict[str, Any]) -> Tensor:
        model = self.model_patcher.model
        conds = [self.conds["positive"], self.conds["negative"]]
        shared = {"input": x, "sigma": sigma, "model": model, "model_options": options}
        calc = options.get("sampler_calc_cond_batch_function")
        out = calc({"conds": conds, **shared}) if calc else calc_cond_batch(model, conds, x, sigma, options)
        for function in options.get("sampler_pre_cfg_function", []):
            out = function({"conds": conds, "conds_out": out, "cond_scale": self.cfg, "timestep": sigma, **shared})
        cond, uncond = out
        if "sampler_cfg_function" in options:
            given = {"cond": x - cond, "uncond": x - uncond, "cond_scale": self.cfg, **shared}
            denoised = x - options["sampler_cfg_function"](given)
        else:
            denoised = uncond + (cond - uncond) * self.cfg
        for function in options.get("sampler_post_cfg_function", []):
            both = {"cond": conds[0], "uncond": conds[1], "cond_denoised": cond, "uncond_denoised": uncond}
            denoised = function({"denoised": denoised, "cond_scale": self.cfg, **both, **shared})
        return denoised


def calc_cond_batch(model: Model, conds: list[Any], x: Tensor, sigma: Tensor, _options: Any) -> list[Tensor]:
    return [torch.zeros_like(x) if condition is None else model.x0(condition, x, sigma) for condition in conds]


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The pack's module `guided_model`, with the stand-in in place of ComfyUI."""
    parts = {
        "comfy": {},
        "comfy.k_diffusion": {},
        "comfy.k_diffusion.sampling": {},
        "comfy.samplers": {"calc_cond_batch": calc_cond_batch},
        "comfy.model_sampling": {"CONST": CONST, "EPS": EPS},
        "comfy.patcher_extension": {"WrappersMP": types.SimpleNamespace(**WRAPPERS)},
        "comfy.sampler_helpers": {"convert_cond": lambda condition: condition},
    }
    for name, content in parts.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            monkeypatch.setattr(sys.modules[parent], child, module, raising=False)
    spec = importlib.util.spec_from_file_location(
        "contract_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "contract_pack", module)
    spec.loader.exec_module(module)
    yield importlib.import_module("contract_pack.guided_model")
    for name in [name for name in sys.modules if name.startswith("contract_pack.")]:
        del sys.modules[name]


def noise(images: int = SHAPE[0]) -> Tensor:
    return torch.randn(images, *SHAPE[1:], generator=torch.Generator().manual_seed(0))


def guided(pack: Any, *texts: str, model: Patcher | None = None, **more: Any) -> Patcher:
    return pack.GuidedModel([Guidance(text) for text in texts], **more).attach(model or Patcher())


def test_a_plain_scale_is_the_hosts_own_formula_bit_for_bit(pack: Any) -> None:
    assert torch.equal(Guider(guided(pack, "5")).sample(noise()), Guider(Patcher(), 5.0).sample(noise()))


def test_rows_that_the_plan_does_not_need_are_not_run(pack: Any) -> None:
    model = guided(pack, "constant(5).inside(progress=(0.4, 1))")
    Guider(model).sample(noise())
    assert model.model.rows == 2 * (1 + 1 + 2 + 2 + 2)
    trace = model.model_options["transformer_options"]["cfglab"].trace
    assert [(record.rows_run, record.rows_saved) for record in trace.steps] == [(2, 2), (2, 2), (4, 0), (4, 0), (4, 0)]


def test_both_rows_run_where_another_node_reads_them_and_it_never_sees_zeros(pack: Any) -> None:
    model, seen = guided(pack, "constant(5).inside(progress=(0.4, 1))"), []
    model.model_options["sampler_post_cfg_function"].append(
        lambda args: (seen.append(args["uncond_denoised"]), args["denoised"])[1]
    )
    alone = Guider(guided(pack, "constant(5).inside(progress=(0.4, 1))")).sample(noise())
    assert float((Guider(model).sample(noise()) - alone).abs().max()) == 0
    assert model.model.rows == 4 * 5
    assert all(bool(uncond.any()) for uncond in seen)


def half(args: dict[str, Any]) -> Tensor:
    """A formula of another node: half the guidance, with the conditional prediction as its reference."""
    full: Tensor = args["uncond"] + args["cond_scale"] * (args["cond"] - args["uncond"])
    return (full + args["cond"]) / 2


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("cfg", [5.0, 2.0, 1.05, 1.0])
def test_a_formula_of_another_node_acts_on_the_guided_result_whatever_the_samplers_cfg(
    pack: Any, before: bool, cfg: float
) -> None:
    alone = Patcher()
    alone.set_model_sampler_cfg_function(half)
    if before:
        chain = guided(pack, "5", model=alone)
    else:
        chain = guided(pack, "5")
        chain.set_model_sampler_cfg_function(half)
    assert torch.allclose(Guider(chain, cfg).sample(noise()), Guider(alone, 5.0).sample(noise()), atol=1e-5)


def test_two_runs_in_turns_share_no_memory(pack: Any) -> None:
    model = guided(pack, "5 | apg()")
    alone = Guider(model).sample(noise())
    model.model_options["sampler_post_cfg_function"].append(lambda args: args["denoised"])
    turns: list[Tensor] = []
    plain: Callable[[Any], Tensor] = model.model_options["sampler_post_cfg_function"][-1]

    def other_run(args: dict[str, Any]) -> Tensor:
        if not turns:
            turns.append(torch.zeros(1))
            turns.append(Guider(model).sample(noise()))
        return plain(args)

    model.model_options["sampler_post_cfg_function"][-1] = other_run
    assert torch.equal(Guider(model).sample(noise()), alone)
    assert torch.equal(turns[1], alone)


def test_every_image_of_a_list_has_its_own_guidance(pack: Any) -> None:
    same = noise(1).repeat(2, 1, 1, 1)
    batch = Guider(guided(pack, "1", "5")).sample(same)
    assert torch.allclose(batch[:1], Guider(Patcher(), 1.0).sample(same[:1]), atol=1e-6)
    assert torch.allclose(batch[1:], Guider(Patcher(), 5.0).sample(same[1:]), atol=1e-6)


def test_a_further_prompt_is_a_condition_of_the_guider(pack: Any) -> None:
    model = guided(pack, "5 | perp_neg(prompt=blurry)", prompts=([0.2],))
    Guider(model).sample(noise())
    assert model.model.rows == 3 * 2 * 5


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (lambda pack: guided(pack, "5", model=Patcher(Odd)), "a MODEL with the sampling Odd: how it scales its input"),
        (lambda pack: guided(pack, "5", model=guided(pack, "5")), "this MODEL already has a guidance"),
        (lambda pack: guided(pack, "5 | pag()"), r"pag\(\) in ComfyUI: it needs a perturbed pass"),
        (
            lambda pack: guided(pack, "5 | perp_neg(prompt=blurry)"),
            r"1 further prompts in the guidance \('blurry'\) and 0",
        ),
        (
            lambda pack: guided(pack, "5", prompts=([0.2],)),
            r"0 further prompts in the guidance \(none\) and 1 connected",
        ),
        (
            lambda pack: Guider(guided(pack, "1", "5", "7")).sample(noise()),
            "3 guidances for a batch of 2: every image has one",
        ),
        (lambda pack: Guider(guided(pack, "5"), negative=None).sample(noise()), "no negative CONDITIONING at step 1"),
        (
            lambda pack: Guider(guided(pack, "5"))._sample(None, SIGMAS, {}, None, noise()),
            "a sampler that starts no guider",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(pack: Any, start: Callable[[Any], object], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        start(pack)
    assert "\n" not in str(caught.value)


def test_a_flow_model_starts_at_pure_noise_without_a_division_by_zero(
    pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SIGMAS", torch.tensor([1.0, 0.7, 0.4, 0.0]))
    for text in ("5 | tcfg()", "5 | epsilon_scaling()", "5 | apg()"):
        assert torch.isfinite(Guider(guided(pack, text, model=Patcher(CONST))).sample(noise())).all()


@pytest.mark.usefixtures("pack")
def test_the_live_check_says_the_first_fault_of_a_text() -> None:
    fault_of = importlib.import_module("contract_pack.texts").fault_of
    assert fault_of("CfglabGuidanceList", "7.5\n5 | apg()\n") == ""
    assert "cosine" in fault_of("CfglabGuidanceList", "7.5\ncosin(max=7)")
    assert fault_of("CfglabGuidance", "7.5\n5 | apg()\n") != ""
    assert fault_of("CfglabGuidance", "  \n") != ""
