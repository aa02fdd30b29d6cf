"""What guide() refuses, in one clear line, and that the pipeline is whole afterwards."""

import copy
import inspect
import pickle
import warnings
from functools import cache
from typing import Any

import diffusers
import pytest
import torch
from diffusers.pipelines.cosmos.pipeline_cosmos3_omni import CosmosActionCondition
from torch import Tensor

from cfglab.errors import InputError
from cfglab.guidance import APG, Guidance
from cfglab.pipelines import Profile, attach, detach, guide
from cfglab.pipelines.profiles.lookup import profile_of
from cfglab.pipelines.profiles.source_check import read_source
from cfglab.pipelines.profiles.table import profiles
from cfglab.pipelines.profiles.table_refused import GUIDER, REFUSED
from cfglab.step import steps
from tests.pipelines.families import Case, case
from tests.pipelines.families.parts import pil
from tests.pipelines.refused import EVERY, outcomes, tried
from tests.pipelines.refused_tries import Try

POLICY = CosmosActionCondition("policy", chunk_size=4, domain_name="pusht", resolution_tier=256, image=pil(32))


@cache
def pipe_of(name: str) -> Any:
    return case(name).build()


def untouched(made: Case, pipe: Any) -> Tensor:
    return made.call(pipe, made.scales[0], steps=2)


def refused(name: str, guidance: Any, words: str, scale: float | None = None, **arguments: Any) -> None:
    """The call inside guide() is refused with these words, and the pipeline is as it was."""
    made, pipe = case(name), pipe_of(name)
    before, kinds = untouched(made, pipe), {part: type(value) for part, value in pipe.components.items()}
    with pytest.raises(InputError, match=words) as refusal, guide(pipe, guidance):
        made.call(pipe, made.scales[1] if scale is None else scale, **{"steps": 3, **arguments})
    assert "\n" not in str(refusal.value)
    assert {part: type(value) for part, value in pipe.components.items()} == kinds
    assert torch.equal(untouched(made, pipe), before)


@pytest.mark.parametrize(
    ("name", "scale", "arguments", "words"),
    [
        ("StableDiffusionPipeline", 1.0, {}, "guidance_scale=1.0 inside guide.*any guidance_scale above 1 .it is not"),
        ("StableDiffusion3Pipeline", 0.5, {}, "guidance_scale=0.5 inside guide"),
        ("IFPipeline", 1.0, {}, "guidance_scale=1.0 inside guide"),
        ("ZImagePipeline", 0.0, {}, "any guidance_scale above 0"),
        ("FluxPipeline", 1.0, {}, "true_cfg_scale=1.0 .*above 1 and a negative_prompt"),
        ("FluxPipeline", 4.0, {"negative": None}, "true_cfg_scale=4.0 .* and a negative_prompt"),
        ("QwenImagePipeline", 4.0, {"negative": None}, "true_cfg_scale=4.0 .* and a negative_prompt"),
        ("WanPipeline", 1.0, {}, "guidance_scale=1.0 inside guide"),
        ("StableDiffusionInstructPix2PixPipeline", 3.0, {"image_guidance_scale": 0.5}, "an image_guidance_scale of 1"),
        ("StableDiffusionXLInstructPix2PixPipeline", 3.0, {"image_guidance_scale": 0.5}, "=0.5 .*_scale of 1 or more"),
        (
            "StableDiffusionXLInstructPix2PixPipeline",
            3.0,
            {"image_guidance_scale": 0.5, "images": 3},
            "an image_guidance_scale of 1 or more",
        ),
    ],
)
def test_a_call_without_guidance(name: str, scale: float, arguments: dict[str, Any], words: str) -> None:
    refused(name, 3.0, words, scale, **arguments)


@pytest.mark.parametrize("name", ["AmusedPipeline", "VQDiffusionPipeline"])
@pytest.mark.parametrize(
    ("guidance", "advice"),
    [
        ("constant(5).inside(sigma=(0.1, 5))", "use progress= or steps= in place of sigma=, or a schedule over the"),
        ("linear(max=8, min=2).inside(sigma=(0.1, 5)) + 1", "use progress= or steps= in place of sigma="),
        ("cfg_plus_plus(lam=0.6)", "or a schedule over the steps"),
        ("phases(scales=(3, 1), sigma=(1,))", "or a schedule over the steps"),
        ("5 | higs(space=model)", "leave it out"),
        ("5 | tag()", "leave it out"),
        ("5 | tsr()", "leave it out"),
    ],
)
def test_tokens_have_no_noise_level(name: str, guidance: str, advice: str) -> None:
    refused(name, guidance, f"with a model of tokens: it reads the noise level .* have neither; .*{advice}")


@pytest.mark.parametrize(
    ("guidance", "said"),
    [
        ("constant(5).inside(sigma=(0.1, 5))", "give sigmas=, one a step"),
        ("cfg_plus_plus(lam=0.6)", "give sigmas=, one a step"),
        ("phases(scales=(3, 1), sigma=(1,))", "give sigmas=, one a step"),
        ("5 | higs(space=model)", "give the step its sigma"),
        ("5 | tag()", r"call combine\(uncond, cond, step, latents\)"),
        ("5 | tsr()", "give the step both"),
    ],
)
def test_a_loop_of_ones_own_is_told_what_to_give(guidance: str, said: str) -> None:
    run, prediction = Guidance(guidance).start("epsilon"), torch.ones(1, 4, 8, 8)
    for step in steps(2):
        with pytest.raises(InputError, match=said):
            run.combine(prediction * 0, prediction, step)


def test_a_network_that_was_distilled() -> None:
    made = case("FluxControlPipeline-embedded")
    pipe = made.build()
    pipe.transformer.register_to_config(guidance_embeds=False)
    with pytest.raises(InputError, match="FluxControlPipeline with a distilled transformer"), guide(pipe, 3.0):
        made.call(pipe, 3.0)
    klein = case("Flux2KleinPipeline").build()
    klein.register_to_config(is_distilled=True)
    with pytest.raises(InputError, match=r"guidance_scale=3\.0 inside guide"), guide(klein, 3.0):
        case("Flux2KleinPipeline").call(klein, 3.0)


@pytest.mark.parametrize(
    "name", ["StableDiffusionPipeline", "FluxPipeline", "FluxPipeline-embedded", "ZImagePipeline", "DiTPipeline"]
)
def test_a_list_of_another_length(name: str) -> None:
    refused(name, [2.0, 3.0], "2 guidances for 1 images: a list holds one per image")


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "FluxPipeline"])
def test_a_table_shorter_than_the_run(name: str) -> None:
    refused(name, [[3.0, 2.0]], "a list of 2 scales for 3 steps: every step needs its own; add 1 or run 2 steps")


@pytest.mark.parametrize(
    "methods",
    ["prediction_norm()", "rescale()", "cfg_norm()", "icg()", "per_position(map='0 1')", "per_channel(map='0 1')"],
)
def test_transforms_on_an_embedded_scale(methods: str) -> None:
    """Also what does nothing where there is no unconditional prediction beside the conditional one."""
    refused("FluxPipeline-embedded", f"3 | {methods}", "FluxPipeline, whose scale is an input")


def test_transforms_on_an_embedded_scale_of_flux_2() -> None:
    refused("Flux2Pipeline", "3 | prediction_norm()", "one prediction, and what acts on cond - uncond has nothing")


def test_noise_in_a_network_of_one_sequence() -> None:
    refused("Cosmos3OmniPipeline", "3 | tsg(w=2, s=1)", "8 embeddings of the time step for 1 rows")
    refused("Cosmos3OmniPipeline", "3 | cads()", "no encoding of a text among input_ids")


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("StableDiffusion3Pipeline", {"skip_guidance_layers": [0]}, r"skip_guidance_layers=\[0\] .*skips layers"),
        ("BriaPipeline", {"normalize": True}, r"normalize=True .*rescale"),
        ("ZImagePipeline", {"cfg_truncation": 0.5}, r"cfg_truncation=0.5 .*inside\("),
        ("Lumina2Pipeline", {"cfg_trunc_ratio": 0.5}, r"cfg_trunc_ratio=0.5 .*inside\("),
        ("CogVideoXPipeline", {"use_dynamic_cfg": True}, "use_dynamic_cfg=True .*leave it at False"),
        ("StableVideoDiffusionPipeline", {"min_guidance_scale": 2.0}, r"min_guidance_scale=2.0 .*per_frame\("),
        ("AceStepPipeline", {"cfg_interval_end": 0.5}, r"cfg_interval_end=0.5 .*inside\("),
        ("AceStepPipeline", {"audio_cover_strength": 0.5}, "audio_cover_strength=0.5 .*for another text as well"),
        (
            "StableDiffusionInpaintPipelineLegacy",
            {"add_predicted_noise": True},
            "add_predicted_noise=True .*unconditional prediction .*leave it at False",
        ),
        ("GlmImagePipeline", {"image": [pil()]}, "image=.* to fill a cache .*leave it at None, or make this call"),
        ("Cosmos3OmniPipeline", {"enable_sound": True}, "enable_sound=True .*the sound beside .*leave it at False"),
        ("Cosmos3OmniPipeline", {"action": POLICY}, "action=.* actions beside the video, .*leave it at None"),
        ("Kandinsky6TI2VAPipeline", {"sample_audio": True}, "sample_audio=True .*the sound beside .*leave it at False"),
        ("WanPipeline", {"guidance_scale_2": 2.0}, "guidance_scale_2=2.0 .*over both experts"),
        ("Ideogram4Pipeline", {"guidance_schedule": [3.0] * 3}, r"guidance_schedule=.* use table\("),
    ],
)
def test_what_would_be_lost(name: str, arguments: dict[str, Any], words: str) -> None:
    refused(name, 3.0, words, **arguments)


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "FluxPipeline", "FluxPipeline-embedded"])
def test_a_prediction_that_is_no_number(name: str) -> None:
    made, pipe = case(name), pipe_of(name)
    network = getattr(pipe, made.denoisers[0])
    calls: list[int] = []

    def broken(_module: Any, _args: Any, output: Any) -> Any:
        calls.append(1)
        return (output[0] * float("nan"),) if len(calls) > 2 else None

    broken.row_independent = True  # type: ignore[attr-defined]
    hook = network.register_forward_hook(broken)
    step = 2 if made.style == "two calls" else 3
    try:
        with (
            pytest.raises(InputError, match=f"NaN in the guided prediction at step {step} of 3 under 3"),
            guide(pipe, 3),
        ):
            made.call(pipe, made.scales[1], steps=3)
    finally:
        hook.remove()
    assert torch.isfinite(untouched(made, pipe)).all()


def test_a_class_that_is_not_known() -> None:
    pipe = pipe_of("StableDiffusionPipeline")

    class Mine(type(pipe)):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    mine = Mine(**pipe.components, requires_safety_checker=False)
    mine.set_progress_bar_config(disable=True)
    with pytest.raises(InputError, match=r"Mine cannot be guided: .*no combine of two .*profile=Profile\(\.\.\.\)"):
        guide(mine, 3.0)
    made = case("StableDiffusionPipeline")
    with guide(mine, 3.0, profile=Profile()):
        assert torch.equal(made.call(mine, 5.0), made.call(pipe, 3.0))


def test_a_subclass_with_the_same_call_is_its_parent() -> None:
    pipe = pipe_of("StableDiffusionPipeline")

    class Renamed(type(pipe)):  # type: ignore[misc]
        """Of the same call."""

    assert (
        profile_of(Renamed(**pipe.components, requires_safety_checker=False)) == profiles()["StableDiffusionPipeline"]
    )


@pytest.mark.parametrize(
    ("name", "profile", "words"),
    [
        (
            "StableDiffusionPipeline",
            Profile(parts=("uncond", "cond", "perturbed")),
            "2 rows in the first denoiser call",
        ),
        ("StableDiffusionPipeline", Profile(denoisers=("vae",)), "did not call its vae"),
        (
            "StableDiffusionPipeline",
            Profile(sample="latents"),
            "UNet2DConditionModel was called without 'latents', which is the sample",
        ),
        ("FluxPipeline", profiles()["SanaPipeline"], "1 rows in the first denoiser call"),
        (
            "HiDreamImagePipeline",
            Profile(denoisers=("transformer",), dims=(("encoder_hidden_states_llama3", 2),)),
            "rows in 'encoder_hidden_states_llama3' of a call with 2",
        ),
        ("StableDiffusionUpscalePipeline", Profile(layout="two calls", parts=("cond", "uncond")), "no unconditional"),
    ],
)
def test_a_profile_that_does_not_fit(name: str, profile: Profile, words: str) -> None:
    made, pipe = case(name), pipe_of(name)
    before = untouched(made, pipe)
    with pytest.raises(InputError, match=words), guide(pipe, 3.0, profile=profile):
        made.call(pipe, made.scales[1], steps=3)
    assert torch.equal(untouched(made, pipe), before)


def test_a_diffusers_that_is_laid_out_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = profiles() | {"StableDiffusionPipeline": Profile(parts=("cond", "uncond"))}
    monkeypatch.setattr("cfglab.pipelines.profiles.lookup.profiles", lambda: changed)
    with pytest.raises(InputError, match=r"not laid out as cfglab knows it .*\[uncond; cond\]"):
        guide(pipe_of("StableDiffusionPipeline"), 3.0)


def test_pipelines_that_are_guided_otherwise() -> None:
    from diffusers import HunyuanImagePipeline, KandinskyV22CombinedPipeline

    for kind, words in ((HunyuanImagePipeline, "to_guider"), (KandinskyV22CombinedPipeline, "made of two pipelines")):
        with pytest.raises(InputError, match=words):
            guide(object.__new__(kind), 3.0)
    with pytest.raises(InputError, match="str cannot be guided"):
        guide("pipe", 3.0)


def test_one_guide_at_a_time() -> None:
    pipe = pipe_of("StableDiffusionPipeline")
    with guide(pipe, 3.0):
        with pytest.raises(InputError, match="StableDiffusionPipeline is guided already: one guide"):
            guide(pipe, 5.0)
        with pytest.raises(InputError, match="guided already"):
            attach(pipe, 5.0)
        with pytest.raises(InputError, match="is inside guide"):
            detach(pipe)


def test_a_pipeline_that_shares_the_denoiser_runs_untouched() -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    made, pipe = case("StableDiffusionImg2ImgPipeline"), pipe_of("StableDiffusionPipeline")
    other = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    before = made.call(other, 5.0)
    with guide(pipe, 1.5) as trace:
        assert torch.equal(made.call(other, 5.0), before)
    assert not trace.steps


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "FluxPipeline"])
def test_attach_stays_until_detach(name: str) -> None:
    made, pipe = case(name), pipe_of(name)
    before, wanted = untouched(made, pipe), made.call(pipe, 5.0, steps=2)
    trace = attach(pipe, 5.0)
    for _ in range(2):
        assert torch.equal(untouched(made, pipe), wanted)
        assert [record.step.index for record in trace.steps] == [0, 1]  # of the latest call
    copied = copy.deepcopy(pipe)
    assert torch.equal(untouched(made, copied), before)  # a copy is not guided
    assert type(copied) is type(pipe)
    network = getattr(pipe, made.denoisers[0])
    assert type(pickle.loads(pickle.dumps(network))) is type(getattr(copied, made.denoisers[0]))
    detach(pipe)
    assert torch.equal(untouched(made, pipe), before)
    with pytest.raises(InputError, match="is not guided: detach"):
        detach(pipe)


def test_an_attached_pipeline_can_be_forgotten() -> None:
    import gc
    import weakref

    pipe = case("StableDiffusionPipeline").build()
    attach(pipe, 3.0)
    case("StableDiffusionPipeline").call(pipe, 5.0, steps=1)
    seen = weakref.ref(pipe.unet)
    del pipe
    gc.collect()
    assert seen() is None


def test_a_transform_that_needs_latents_it_cannot_have() -> None:
    """APG on x0 needs them; a prediction of another shape than the sample has none."""
    made, pipe = case("StableDiffusionLatentUpscalePipeline"), pipe_of("StableDiffusionLatentUpscalePipeline")
    with pytest.raises(InputError, match="space"), guide(pipe, Guidance(3, [APG(space="x0")])):
        made.call(pipe, 3.0, steps=2)


def test_profiles_say_what_is_wrong_with_them() -> None:
    with pytest.raises(InputError, match="layout"):
        Profile(layout="both")
    with pytest.raises(InputError, match="denoiser"):
        Profile(denoiser=("unet",))


SAYS = {
    "AnyFlowFARPipeline": "kv_cache",
    "CycleDiffusionPipeline": "source_guidance_scale",
    "HeliosPyramidPipeline": "is_cfg_zero_star",
    "LEditsPPPipelineStableDiffusion": "edit_guidance_scale",
    "LEditsPPPipelineStableDiffusionXL": "edit_guidance_scale",
    "LTXI2VLongMultiPromptPipeline": "skip_steps_sigma_threshold",
    "SemanticStableDiffusionPipeline": "edit_guidance_scale",
    "StableDiffusionAttendAndExcitePipeline": "enable_grad",
    "StableDiffusionGLIGENTextImagePipeline": "noise_pred_uncond, _ =",
    "StableDiffusionPanoramaPipeline": "views",
    "StableDiffusionParadigmsPipeline": "parallel",
    "StableDiffusionPipelineSafe": "sld_guidance_scale",
    "StableDiffusionPix2PixZeroPipeline": "requires_grad",
    "StableDiffusionSAGPipeline": "sag_scale",
    "TextToVideoZeroPipeline": "backward_loop",
    "TextToVideoZeroSDXLPipeline": "backward_loop",
    "UnCLIPImageVariationPipeline": "super_res_first",
    "UnCLIPPipeline": "super_res_first",
    "UniDiffuserPipeline": "_infer_mode",
    "VersatileDiffusionDualGuidedPipeline": "dual_attention",
    "ZImageOmniPipeline": "x_combined",
}
"""Of each class that combines predictions in a way of its own: what stands in its source because of that."""


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_the_reason_of_a_refusal_holds_in_the_source(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = getattr(diffusers, name)
    reason, source = REFUSED[name], read_source(kind)
    if reason == GUIDER:
        assert "guider" in inspect.signature(kind.__init__).parameters
    elif "made of two pipelines" in reason:
        assert "_pipe = " in inspect.getsource(kind.__init__)
    elif name in SAYS:
        assert SAYS[name] in inspect.getsource(kind)
    else:  # it combines nothing
        assert not source.formula
        assert not source.parts


def test_what_is_refused_is_tried() -> None:
    assert set(EVERY) == set(outcomes()) == set(REFUSED)
    inside = {name for name, attempt in EVERY.items() if attempt.inside or attempt.guider}
    one_scale = {"HeliosPyramidPipeline"}  # whose stages a schedule could not follow
    assert {name for name, said in outcomes().items() if said.endswith("the same")} == inside | one_scale
    guided = case("StableDiffusionPipeline")
    assert tried(Try(guided.build, guided.call)) == "2 2 2 rows, the same"


@pytest.mark.parametrize("name", ["DDIMPipeline", "SemanticStableDiffusionPipeline", "KandinskyV22CombinedPipeline"])
def test_what_a_try_says_is_what_happens(name: str) -> None:
    assert tried(EVERY[name]) == outcomes()[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_try_says_what_happens(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert tried(EVERY[name]) == outcomes()[name]
