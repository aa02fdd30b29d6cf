"""Acceptance (a) to (g) and (i): ComfyUI's own sampler, nodes and guiders are the oracles, on its own models."""

import gc
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import comfy.sample
import comfy.samplers
import pytest
import torch
from cfglab_pack.guided_model import GuidedModel, Run, noise_path
from comfy.model_base import ModelType
from torch import Tensor

from cfglab import Guidance
from cfglab.errors import InputError
from cfglab.hosts import SigmaSteps

from .figures import note
from .models import NEGATIVE, POSITIVE, condition, patcher, sample

KINDS = {"EPS": ModelType.EPS, "V": ModelType.V_PREDICTION, "FLOW": ModelType.FLOW, "EDM": ModelType.EDM}
SAMPLERS = ("euler", "heun", "dpmpp_2m", "dpmpp_sde", "lcm")
CFG_PP = ("euler_cfg_pp", "dpmpp_2m_cfg_pp")
CLOSE = 1e-5
"""Of the sample's size: the bound of the acceptance tests."""


def guided(model: Any, *texts: str, prompts: tuple[Any, ...] = (), weak: Any = None, first: bool = False) -> Any:
    return GuidedModel([Guidance(text) for text in texts], prompts, weak, first).attach(model)


def node(module: str, name: str) -> Callable[..., Any]:
    """A node of ComfyUI as a function of MODEL and its settings."""
    kind = getattr(pytest.importorskip(f"comfy_extras.{module}", reason="not in this version of ComfyUI"), name)

    def apply(model: Any, **settings: Any) -> Any:
        return (
            kind.execute(model, **settings).args[0] if hasattr(kind, "execute") else kind().patch(model, **settings)[0]
        )

    return apply


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference as a part of the sample's size."""
    return float((a - b).abs().max() / b.abs().max())


@contextmanager
def rows_counted(model: Any):
    """The rows that the network runs, call by call."""
    rows, own = [], model.model.apply_model

    def counted(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        rows.append(len(x))
        return own(x, *args, **kwargs)

    model.model.apply_model = counted
    try:
        yield rows
    finally:
        model.model.apply_model = own


# -- (a) -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Should have tb<=t1")  # torchsde, of the rounding of its own end
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampler", [*SAMPLERS, *CFG_PP])
def test_a_plain_scale_gives_the_bits_of_an_untouched_sampler(kind: str, sampler: str) -> None:
    model = patcher(KINDS[kind])
    untouched = sample(model, 5.0, sampler)
    assert torch.isfinite(untouched).all()
    assert torch.equal(sample(guided(model, "5"), 1.0, sampler), untouched)
    if sampler == "euler":  # the sampler's own cfg does not matter
        assert torch.equal(sample(guided(model, "5"), 3.0, sampler), untouched)
        assert not torch.equal(sample(guided(model, "4"), 5.0, sampler), untouched)
    note("a", f"{kind}, {sampler}", 0.0)


OTHER_PATHS = {
    "COSMOS_RFLOW": ModelType.FLOW_COSMOS,
    "StableCascade": ModelType.STABLE_CASCADE,
    "V continuous": ModelType.V_PREDICTION_CONTINUOUS,
    "V EDM": ModelType.V_PREDICTION_EDM,
}


@pytest.mark.parametrize("kind", OTHER_PATHS)
def test_a_further_classes_of_model_sampling_are_read(kind: str) -> None:
    model = patcher(OTHER_PATHS[kind])
    untouched = sample(model, 5.0)
    assert torch.isfinite(untouched).all()
    assert torch.equal(sample(guided(model, "5")), untouched)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    path, unit, _ = noise_path(model.get_model_object("model_sampling"))
    step = SigmaSteps([2.0, 0.0], path, unit).steps[0]
    seen = model.get_model_object("model_sampling").calculate_input(torch.tensor([2.0]), x)
    assert torch.allclose(SigmaSteps([2.0, 0.0], path, unit).network_input(x, step), seen, atol=1e-6)
    note("a", kind, 0.0)


def test_a_class_that_scales_otherwise_is_refused_by_name_and_nothing_is_changed() -> None:
    model = patcher(ModelType.IMG_TO_IMG)
    options = set(model.model_options)
    with pytest.raises(
        InputError, match=r"a MODEL with the sampling .*IMG_TO_IMG.*: how it scales its input is not known"
    ):
        guided(model, "5")
    assert set(model.model_options) == options


# -- (b) -------------------------------------------------------------------------------------------------------------

APG = "apg(as_in=comfyui, eta={}, norm_threshold=5, momentum={})"
ORACLES = [
    ("nodes_apg", "APG", {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.0}, APG.format(1, 0)),
    ("nodes_apg", "APG", {"eta": 0.0, "norm_threshold": 5.0, "momentum": -0.5}, APG.format(0, -0.5)),
    ("nodes_tcfg", "TCFG", {}, "tcfg()"),
    ("nodes_mahiro", "Mahiro", {}, "mahiro()"),
    ("nodes_cfg", "CFGZeroStar", {}, "cfg_zero_star(as_in=comfyui)"),
    ("nodes_cfg", "CFGNorm", {"strength": 1.0}, "cfg_norm(axis=channel, max=1, space=x0)"),
    ("nodes_eps", "EpsilonScaling", {"scaling_factor": 1.005}, "epsilon_scaling()"),
    ("nodes_fresca", "FreSca", {"scale_low": 1.0, "scale_high": 1.25, "freq_cutoff": 4}, "fresca(high=1.25, cutoff=4)"),
    ("nodes_pag", "PerturbedAttentionGuidance", {"scale": 3.0}, "pag()"),
    ("nodes_model_advanced", "RescaleCFG", {"multiplier": 0.7}, "rescale()"),
]


@pytest.mark.parametrize("kind", ["EPS", "V", "FLOW"])
@pytest.mark.parametrize(("module", "name", "settings", "text"), ORACLES, ids=[row[3].split("(")[0] for row in ORACLES])
def test_b_a_method_gives_what_comfyuis_node_gives(
    monkeypatch: pytest.MonkeyPatch, kind: str, module: str, name: str, settings: Any, text: str
) -> None:
    model, svd = patcher(KINDS[kind]), torch.linalg.svd
    if name == "TCFG":  # in float32 the node's own SVD is the larger error of the two, 1e-5 a step
        monkeypatch.setattr(
            torch.linalg, "svd", lambda m, **how: tuple(part.float() for part in svd(m.double(), **how))
        )
    oracle, plain = sample(node(module, name)(model, **settings), 5.0), sample(model, 5.0)
    ours = sample(guided(model, f"5 | {text}"))
    apart, moved = difference(ours, oracle), difference(plain, oracle)
    note("b", f"{name}, {kind}", apart, f"the node moves the sample by {moved:.2g}")
    assert moved > 100 * CLOSE
    if (name, kind) == ("RescaleCFG", "FLOW"):
        assert apart > 0.01, "the node applies its formula for VP models to a flow: a row of the table explains it"
    else:
        assert apart < CLOSE


# -- (c) -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("7.5", [2] * 8),
        ("constant(7.5).inside(progress=(0.25, 0.75))", [1, 1, 2, 2, 2, 2, 1, 1]),
        ("1", [1] * 8),
        ("1 | pag()", [2] * 8),
        ("constant(7.5).inside(progress=(0.25, 0.75)) | pag(stop=0.5)", [1, 1, 3, 3, 2, 2, 1, 1]),
        ("5 | cfg_zero_star(zero_steps=2)", [0, 0, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_c_the_network_runs_the_rows_that_the_plan_needs(text: str, needed: list[int]) -> None:
    model = guided(patcher(ModelType.EPS), text)
    with rows_counted(model) as rows:
        sample(model, steps=8)
    records = model.model_options["transformer_options"]["cfglab"].trace.steps
    assert [record.rows_run for record in records] == needed
    assert sum(rows) == sum(needed)
    note("c", text, sum(rows), f"of {16 + (8 if 'pag' in text else 0)} rows")


# -- (e) -------------------------------------------------------------------------------------------------------------


def run_with(model: Any, callback: Callable[[int], None]) -> Tensor:
    latent = torch.zeros(1, 4, 16, 16)
    noise = comfy.sample.prepare_noise(latent, 0)
    return comfy.sample.sample(
        *(model, noise, 6, 1.0, "euler", "simple", POSITIVE, NEGATIVE, latent),
        callback=lambda step, *_: callback(step),
        disable_pbar=True,
        seed=0,
    )


def test_e_two_runs_at_once_with_one_model_share_no_memory() -> None:
    model, inner = guided(patcher(ModelType.EPS), "7.5 | apg() | momentum()"), []
    alone, second = sample(model), sample(model, seed=1)

    def run_inside(step: int) -> None:
        if step == 2:
            inner.append(sample(model, seed=1))
            model.pre_run()  # ComfyUI keeps one patcher a network, and the end of the inner run has taken it away

    outer = run_with(model, run_inside)
    assert torch.equal(outer, alone)
    assert torch.equal(inner[0], second)


def test_e_a_cancelled_run_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, alive = guided(patcher(ModelType.EPS), "7.5 | apg()"), []
    started = Run.__init__
    monkeypatch.setattr(Run, "__init__", lambda self, *args: (alive.append(weakref.ref(self)), started(self, *args))[1])
    alone = sample(model)

    def cancel(step: int) -> None:
        if step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run_with(model, cancel)
    gc.collect()
    assert len(alive) == 2
    assert [run() for run in alive] == [None, None]
    assert torch.equal(sample(model), alone)


# -- (f) -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["EPS", "FLOW"])
def test_f_img2img_starts_its_own_run(kind: str) -> None:
    model, latent = patcher(KINDS[kind]), torch.randn(1, 4, 16, 16)
    untouched = sample(model, 5.0, denoise=0.5, latent=latent)
    assert torch.equal(sample(guided(model, "5"), denoise=0.5, latent=latent), untouched)
    traced = guided(model, "linear(max=8, min=2)")
    sample(traced, denoise=0.5, latent=latent)
    assert [record.w[0] for record in traced.model_options["transformer_options"]["cfglab"].trace.steps] == [
        pytest.approx(w) for w in (8, 7, 6, 5, 4, 3)
    ]
    note("f", f"img2img, {kind}", 0.0)


@pytest.mark.parametrize("text", ["7.5 | apg()", "5 | pag() | rescale()", "7.5 | adaptive(similarity=0.9)"])
def test_f_a_batch_of_4_is_4_singles(text: str) -> None:
    model = guided(patcher(ModelType.EPS), text)
    noise = torch.randn(4, 4, 16, 16)
    batch = sample(model, images=4, noise=noise)
    singles = torch.cat([sample(model, noise=noise[i : i + 1]) for i in range(4)])
    note("f", f"batch of 4, {text}", difference(batch, singles))
    assert difference(batch, singles) < CLOSE


def test_f_an_area_condition_and_another_negative_are_comfyuis() -> None:
    model = patcher(ModelType.EPS)
    positive = [*POSITIVE, *condition(3, area=(8, 8, 0, 0), strength=1.5)]
    untouched = sample(model, 5.0, positive=positive, negative=condition(4))
    assert torch.equal(sample(guided(model, "5"), positive=positive, negative=condition(4)), untouched)
    assert not torch.equal(sample(guided(model, "5"), positive=positive), untouched)
    note("f", "area condition and negative prompt", 0.0)


@pytest.mark.parametrize("before", [True, False])
def test_f_a_lora_before_or_behind_the_guidance_counts(before: bool) -> None:
    model = patcher(ModelType.EPS)
    name = next(name for name in model.model.state_dict() if name.endswith("attn2.to_k.weight"))
    weight = model.model.state_dict()[name]

    def with_lora(patched: Any) -> Any:
        patched = patched.clone()
        assert patched.add_patches({name: ("diff", (torch.ones_like(weight),))}, 0.5)
        return patched

    untouched = sample(with_lora(model), 5.0)
    ours = guided(with_lora(model), "5") if before else with_lora(guided(model, "5"))
    assert torch.equal(sample(ours), untouched)
    assert not torch.equal(sample(guided(model, "5")), untouched)
    note("f", f"LoRA {'before' if before else 'behind'} the guidance", 0.0)


STOCHASTIC = ("euler_ancestral", "dpmpp_sde", "dpmpp_2m_sde", "lcm", "seeds_2", "er_sde")


@pytest.mark.filterwarnings("ignore:Should have tb<=t1")  # torchsde, of the rounding of its own end
@pytest.mark.parametrize("sampler", STOCHASTIC)
def test_f_an_image_of_a_list_has_the_noise_that_it_has_alone(sampler: str) -> None:
    model, noise = patcher(ModelType.EPS), torch.randn(1, 4, 16, 16)
    listed = sample(guided(model, "5", "5", "3"), sampler=sampler, images=3, noise=noise.repeat(3, 1, 1, 1))
    for image, w in enumerate("553"):
        alone = sample(guided(model, w), sampler=sampler, noise=noise)
        assert difference(listed[image : image + 1], alone) < CLOSE
    note("f", f"an image of a list alone, {sampler}", difference(listed[2:], alone))


# -- (g) -------------------------------------------------------------------------------------------------------------

OTHERS = ("APG", "TCFG", "Mahiro", "CFGZeroStar", "CFGNorm", "PerturbedAttentionGuidance", "RescaleCFG")
CHAIN = [
    *(row[:3] for row in ORACLES[1:] if row[1] in OTHERS),
    ("nodes_lumina2", "RenormCFG", {"cfg_trunc": 100.0, "renorm_cfg": 1.0}),
]
CFGS = (1.0, 1.05, 3.0, 5.0)
"""Of the sampler, which does not matter."""


@pytest.mark.parametrize("kind", ["EPS", "FLOW"])
@pytest.mark.parametrize(("module", "name", "settings"), CHAIN, ids=[row[1] for row in CHAIN])
def test_g_other_nodes_of_a_chain_act_before_and_behind(kind: str, module: str, name: str, settings: Any) -> None:
    """A plain w of 5 beside the node is the node alone at cfg 5, wherever it stands and whatever the sampler's cfg."""
    model, other = patcher(KINDS[kind]), node(module, name)
    alone = sample(other(model, **settings), 5.0)
    before, behind = guided(other(model, **settings), "5"), other(guided(model, "5"), **settings)
    for place, chain in (("before", before), ("behind", behind)):
        apart = max(difference(sample(chain, cfg), alone) for cfg in CFGS)
        note("g", f"{name} {place}, {kind}", apart)
        assert apart < CLOSE
    assert difference(sample(guided(model, "5"), 5.0), alone) > 100 * CLOSE


def test_g_other_nodes_read_the_w_of_every_step() -> None:
    model = guided(patcher(ModelType.EPS), "[1, 1.2, 5, 0.5, 0, -1] | pag()")
    scales, apart = [], []

    def read(args: dict[str, Any]) -> Tensor:
        scales.append(args["cond_scale"])
        cfg = args["uncond_denoised"] + (args["cond_denoised"] - args["uncond_denoised"]) * args["cond_scale"]
        apart.append(difference(cfg, args["denoised"]))
        return args["denoised"]

    model.set_model_sampler_post_cfg_function(read)
    model.set_model_sampler_pre_cfg_function(lambda args: args["conds_out"])
    sample(model, 3.0)
    assert scales == [1, 1.2, 5, 0.5, 0, -1]
    assert max(apart) < CLOSE


def test_g_a_list_of_guidances_passes_every_result_on_beside_other_nodes() -> None:
    model, seen = guided(patcher(ModelType.EPS), "5", "1", "3 | pag()"), []
    noise = torch.randn(1, 4, 16, 16).repeat(3, 1, 1, 1)
    alone = sample(model, images=3, noise=noise)
    model.set_model_sampler_pre_cfg_function(lambda args: (seen.append(args["cond_scale"]), args["conds_out"])[1])
    assert difference(sample(model, images=3, noise=noise), alone) < CLOSE
    assert seen == [5.0] * 6


@pytest.mark.parametrize("text", ["constant(5).inside(progress=(0.3, 0.7))", "constant(5).inside(progress=(0.3, 1))"])
def test_g_a_cache_beside_rows_that_are_not_needed_gets_them(text: str) -> None:
    model, cache = patcher(ModelType.EPS), node("nodes_easycache", "EasyCacheNode")
    settings = {"reuse_threshold": 0.5, "start_percent": 0.1, "end_percent": 0.95, "verbose": False}
    cached = cache(guided(model, text), **settings)
    with rows_counted(cached) as rows:
        sample(cached, steps=12)
    assert rows == [2] * len(rows)


def test_g_a_cache_does_not_take_a_perturbed_pass_for_the_prediction() -> None:
    model, cache = patcher(ModelType.EPS), node("nodes_easycache", "EasyCacheNode")
    never = {"reuse_threshold": 1e-6, "start_percent": 0.1, "end_percent": 0.95, "verbose": False}
    alone = sample(guided(model, "5 | pag()"), steps=12)
    assert difference(sample(cache(guided(model, "5 | pag()"), **never), steps=12), alone) < CLOSE
    assert difference(sample(guided(model, "5"), steps=12), alone) > 100 * CLOSE


@pytest.mark.parametrize(
    ("sampler", "indices"),
    [
        ("euler", [0, 1, 2, 3]),
        ("heun", [0, 0, 1, 1, 2, 2, 3]),
        ("heunpp2", [0, 0, 0, 1, 1, 1, 2, 2, 3]),
    ],
)
def test_the_calls_of_a_step_have_its_w(sampler: str, indices: list[int]) -> None:
    model = guided(patcher(ModelType.EPS), "[8, 6, 4, 2]")
    sample(model, sampler=sampler, steps=4)
    steps = model.model_options["transformer_options"]["cfglab"].trace.steps
    assert [record.step.index for record in steps] == indices
    assert [record.w[0] for record in steps] == [8 - 2 * index for index in indices]


def test_g_a_formula_behind_the_guidance_does_not_depend_on_the_samplers_cfg() -> None:
    """RescaleCFG takes the deviation of cond as its target and the guided result as what it changes."""
    model = node("nodes_model_advanced", "RescaleCFG")(
        guided(patcher(ModelType.EPS), "linear(max=8, min=2)"), multiplier=0.7
    )
    assert difference(sample(model, 3.0), sample(model, 8.0)) < CLOSE


def test_g_first_in_the_chain_is_the_same_result_up_to_rounding() -> None:
    model, text = patcher(ModelType.EPS), "linear(max=8, min=2) | apg()"
    apart = difference(sample(guided(model, text, first=True), 5.0), sample(guided(model, text)))
    note("g", "first in the chain against exact", apart)
    assert 0 < apart < CLOSE


def test_g_a_second_guidance_is_refused() -> None:
    with pytest.raises(InputError, match="this MODEL already has a guidance"):
        guided(guided(patcher(ModelType.EPS), "5"), "5")


# -- (i) -------------------------------------------------------------------------------------------------------------


def custom(guider: Any, seed: int = 0) -> Tensor:
    """What SamplerCustomAdvanced gives."""
    sampling = guider.model_patcher.get_model_object("model_sampling")
    sigmas, latent = comfy.samplers.calculate_sigmas(sampling, "simple", 6), torch.zeros(1, 4, 16, 16)
    noise = comfy.sample.prepare_noise(latent, seed)
    return guider.sample(noise, latent, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=seed)


def cfg_guider(model: Any, cfg: float = 1.0) -> Any:
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(POSITIVE, NEGATIVE)
    guider.set_cfg(cfg)
    return guider


def basic_guider(model: Any) -> Any:
    from comfy_extras.nodes_custom_sampler import Guider_Basic

    guider = Guider_Basic(model)
    guider.set_conds(POSITIVE)
    return guider


def dual_guider(model: Any, w: float, nested: bool) -> Any:
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    guider = Guider_DualCFG(model)
    guider.set_conds(POSITIVE, condition(5), NEGATIVE)
    guider.set_cfg(*((w, 3.0) if nested else (3.0, w)), nested=nested)
    return guider


def test_i_cfg_guider_and_basic_guider_accept_the_model() -> None:
    model = patcher(ModelType.EPS)
    assert torch.equal(custom(cfg_guider(guided(model, "5"))), custom(cfg_guider(model, 5.0)))
    assert torch.equal(custom(basic_guider(guided(model, "1"))), custom(basic_guider(model)))
    perturbed = node("nodes_pag", "PerturbedAttentionGuidance")(model, scale=3.0)
    assert difference(custom(basic_guider(guided(model, "1 | pag()"))), custom(basic_guider(perturbed))) < CLOSE
    note("i", "CFGGuider, BasicGuider", 0.0)


@pytest.mark.parametrize("nested", [False, True])
def test_i_dual_cfg_guider_accepts_the_model(nested: bool) -> None:
    """The guidance takes the place of the formula that the guider itself asks for, with its own w."""
    model = patcher(ModelType.EPS)
    untouched = custom(dual_guider(model, 5.0, nested))
    assert torch.equal(custom(dual_guider(guided(model, "5"), 2.0, nested)), untouched)
    note("i", f"DualCFGGuider, {'nested' if nested else 'regular'}", 0.0)


def test_i_a_guider_without_a_negative_says_so_and_nothing_is_changed() -> None:
    model = patcher(ModelType.EPS)
    patched = guided(model, "5")
    with pytest.raises(InputError, match=r"no negative CONDITIONING at step 1: BasicGuider has none"):
        custom(basic_guider(patched))
    assert torch.equal(custom(cfg_guider(patched)), custom(cfg_guider(model, 5.0)))


def test_i_a_guider_of_three_predictions_is_refused() -> None:
    from comfy_extras.nodes_perpneg import Guider_PerpNeg

    guider = Guider_PerpNeg(guided(patcher(ModelType.EPS), "5"))
    guider.set_conds(POSITIVE, NEGATIVE, condition(6))
    guider.set_cfg(5.0, 1.0)
    with pytest.raises(InputError, match=r"a guider that combines 3 predictions.*perp_neg"):
        custom(guider)
