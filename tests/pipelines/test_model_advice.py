"""The catalogue of model families against the installed diffusers, and what advise() says."""

import doctest
import inspect
import json
import re
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import pytest

import cfglab as cl
from cfglab import cli
from cfglab.errors import InputError
from cfglab.guidance import TRANSFORMS
from cfglab.guidance.perturbations.hooks import cross_attentions
from cfglab.guidance.perturbations.joint_attention import token_order
from cfglab.pipelines.advice.catalogue import families, read_catalogue, sources
from cfglab.pipelines.advice.family import Fact, Family
from cfglab.pipelines.advice.levels import family_levels
from cfglab.pipelines.advice.methods import APART, JOINT, methods_for, not_guided, profile_of_family
from cfglab.pipelines.advice.starting_points import starting_points
from cfglab.step import Step
from docs import advise_page
from tests.pipelines.families import case, cases

SPEC = find_spec("diffusers")
PACKAGE = Path(str(SPEC and SPEC.origin)).parent
ROOT = Path(__file__).parents[2]
NAMES = sorted(families())


@cache
def words(path: Path) -> str:
    """A file without the marks of doctests, its white space as single spaces."""
    text = re.sub(r"^\s*(>>>|\.\.\.)\s?", "", path.read_text(encoding="utf-8"), flags=re.M)
    return " ".join(text.split())


def call_of(pipeline: str) -> Any:
    return inspect.signature(inspect.unwrap(getattr(diffusers, pipeline).__call__)).parameters


def test_a_hundred_families_are_known() -> None:
    assert len(NAMES) >= 100


def test_the_defaults_of_every_family_are_those_of_the_installed_signature() -> None:
    for name, family in families().items():
        default, parameters = family.default, call_of(family.pipeline)
        assert parameters["num_inference_steps"].default == default.steps, name
        if default.argument is None:
            assert not {"guidance_scale", "true_cfg_scale", "max_guidance_scale"} & set(parameters), name
        else:
            assert parameters[default.argument].default == default.scale, name


def test_every_quote_of_the_installed_package_and_of_this_repository_stands_there() -> None:
    for name, family in families().items():
        for fact_name, fact in family.facts().items():
            first, _, rest = fact.source.partition("/")
            if first in ("diffusers", "cfglab"):
                path = (PACKAGE if first == "diffusers" else ROOT) / rest
                assert " ".join(fact.quote.split()) in words(path), (name, fact_name, fact.source)


def test_the_classes_of_every_family_are_pipelines_of_diffusers() -> None:
    for family in families().values():
        for kind in (family.pipeline, *family.classes):
            assert hasattr(getattr(diffusers, kind), "from_pretrained"), kind


def test_every_convention_agrees_with_the_profile_that_guides_the_class() -> None:
    formulas = {one.cls: one.combine for one in cases()}
    for name, family in families().items():
        profile = profile_of_family(family)
        if profile is None:
            continue
        one_less = formulas.get(family.pipeline) == "c + g (c - u)" or profile.off == 0.0
        if family.convention.value == "w - 1":
            assert one_less or profile.injected == "quarter", name
        if family.convention.value == "w":
            assert profile.layout != "embedded", name
            assert not one_less, name
            assert profile.injected == "", name
            assert family.default.argument == profile.scale, name
        if family.convention.value == "embedded":
            assert profile.embedded, name


def test_the_scheduler_of_every_family_is_built_and_says_the_same_prediction() -> None:
    for name, family in families().items():
        if family.scheduler.value is None or name == "stable-cascade":  # whose sampler has no sigmas
            continue
        levels = family_levels(family, 4)
        assert len(levels.steps) == 4, name
        preconditioned = "sigma_data" in family.scheduler.value.get("settings", {})  # by EDM, what its type is said of
        assert levels.prediction in (family.prediction.value, "model", *(["edm"] if preconditioned else [])), name


def test_the_levels_of_a_shifted_flow_are_its_formula() -> None:
    shift, even = 7.0, [1, 0.75, 0.5, 0.25]
    shifted = [shift * t / (1 + (shift - 1) * t) for t in even]
    levels = family_levels(families()["hunyuan-video"], 4).steps
    assert [step.sigma for step in levels[1:]] == pytest.approx([t / (1 - t) for t in shifted[1:]], rel=1e-4)
    flux = family_levels(families()["flux-dev"], 4).steps
    t = [2.718281828**1.15 * t / (1 + (2.718281828**1.15 - 1) * t) for t in even]
    assert [step.sigma for step in flux[1:]] == pytest.approx([part / (1 - part) for part in t[1:]], rel=1e-4)


PASSES = {
    "prompt": {"SecondPrompt"},
    "text": {"NoisedText"},
    "timestep": {"NoisedTimestep", "ShiftedTimestep"},
    "layers": {"SkippedLayers", "RandomBlocks", "ShuffledTokens"},
    "self-attention": {"IdentityAttention", "BlurredQueries", "BlurredSample"},
    "cross-attention": {"SparseAttention"},
    "attention to the text": {"NormalizedAttention"},
    "longer text": {"FlippedValues"},
    "image": {"CroppedSample"},
    "image to edit": {"WithoutImage"},
    "sound of a video": {"Sound", "IsolatedModalities"},
    "weak model": {"WeakModelPass", "SkippedLayers"},
}
"""What a card may say -> the classes of the passes that it means."""
FIELDS: dict[str, dict[str, Any]] = {
    "adaptive": {"similarity": 0.9},
    "autoguidance": {"w": 2, "model": "twin"},
    "composed": {"prompt": "a", "w": 2},
    "dual_cfg": {"prompt": "a", "w": 2},
    "feedback": {"pi": 0.95},
    "perp_neg": {"prompt": "a", "w": 2},
    "nag": {"s": 5},
    "tsg": {"w": 2, "s": 1},
    "skip_layers": {"layers": ("mid",)},
}


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_the_card_of_a_method_states_the_pass_that_the_method_asks_for(name: str) -> None:
    kind = TRANSFORMS[name]
    fields = {key: value for key, value in FIELDS.get(name, {}).items() if key in kind.model_fields}
    required = [key for key, field in kind.model_fields.items() if field.is_required() and key not in fields]
    transform = kind(**fields, **{key: "a" if key == "prompt" else 0.5 for key in required})
    run = [Step(index, 20, 50.0 * (19 - index), 10 - index / 2, 9.5 - index / 2, 0.5) for index in range(20)]
    passes = [one_pass for step in run if (one_pass := transform.variation(step)) is not None]
    needs = kind.card.needs if kind.card else ""
    assert bool(passes) == bool(needs and needs != "frames")  # which are those of the predictions
    assert {type(one_pass).__name__ for one_pass in passes} <= PASSES.get(needs, set())


def test_starting_points_parse_and_every_transform_in_them_applies() -> None:
    for family in families().values():
        methods = methods_for(family)
        points, applying = starting_points(family, methods), {method.name for method in methods if method.applies}
        assert len(points) == (0 if not_guided(family) else 3), family.name
        for point in points:
            kinds = {transform.kind for transform in cl.parse_guidance(point.text).transforms}
            assert kinds <= applying, (family.name, point.text)
        assert [method.name for method in methods] == sorted(TRANSFORMS)


@pytest.mark.parametrize("name", ["flux-dev", "sd3.5-large-turbo", "cogvideox-5b", "ltx-video-distilled"])
def test_starting_points_still_apply_after_every_method_was_tried_on_the_tensors(name: str) -> None:
    advice = cl.advise(name, 4)
    applying = {method.name for method in advice.methods if method.applies}
    assert len(advice.starting_points) == 3
    for point in advice.starting_points:
        assert {transform.kind for transform in cl.parse_guidance(point.text).transforms} <= applying


def test_a_scale_of_the_convention_w_minus_one_becomes_w_in_the_starting_points() -> None:
    assert cl.advise("Krea2Pipeline", 4).starting_points[0].text == "5.5"
    assert "(w = 5.5)" in str(cl.advise("Krea2Pipeline", 4))
    assert cl.advise("Tongyi-MAI/Z-Image", 4).starting_points[0].text == "6"


def test_methods_on_attention_apply_where_it_is_known_which_tokens_are_the_image() -> None:
    def applies(name: str) -> tuple[bool | None, ...]:
        methods = {method.name: method.applies for method in cl.advise(name, 4).methods}
        return tuple(methods[kind] for kind in ("pag", "nag", "vsf", "pladis", "sag"))

    assert applies("sd3") == applies("flux-dev") == applies("qwen-image") == (True, True, True, True, False)
    assert applies("Tongyi-MAI/Z-Image-Turbo") == (True, True, False, True, False)
    assert applies("chroma") == (True, True, True, True, False)
    assert applies("auraflow") == (False, False, False, False, False)
    assert applies("sd1") == (True,) * 5


def test_the_networks_of_joint_attention_that_the_advice_knows_are_those_that_the_methods_know() -> None:
    made = {one.cls: one for one in cases()}
    joint = {family.pipeline: family for family in families().values() if family.attention.value == "joint"}
    for pipeline in sorted(joint.keys() & made.keys()):
        network = getattr(made[pipeline].build(), made[pipeline].denoisers[0])
        file = joint[pipeline].attention.source.rpartition("/")[2]
        assert (token_order(network) is not None) == (file in JOINT), pipeline


def test_attention_apart_from_the_image_is_found_where_the_advice_says_so() -> None:
    made = {one.cls: one for one in cases()}
    apart = {
        family.attention.source.rpartition("/")[2]: family.pipeline
        for family in families().values()
        if family.attention.value == "separate" and family.pipeline in made
    }
    assert len(apart) > 12
    for file, pipeline in apart.items():
        network = getattr(made[pipeline].build(), made[pipeline].denoisers[0])
        if file in APART:
            with pytest.raises(InputError, match="no cross-attention in"):
                cross_attentions(network, "nag")
        else:
            assert cross_attentions(network, "nag"), pipeline
    nag = {method.name: method for method in cl.advise("ltx-video", 4).methods}["nag"]
    assert (nag.applies, nag.reason) == (False, "the layers in which the network attends to its text are not known")


def test_a_scale_that_is_an_input_of_the_network_leaves_what_reads_one_prediction() -> None:
    advice = cl.advise("FluxFillPipeline", 4)
    applies = {method.name: method.applies for method in advice.methods}
    assert (applies["apg"], applies["nag"], applies["pag"]) == (False, True, True)
    assert all(not cl.parse_guidance(point.text).transforms for point in advice.starting_points)


def test_a_model_without_guidance_has_methods_that_need_no_unconditional_row() -> None:
    applies = {method.name: method.applies for method in cl.advise("stabilityai/sdxl-turbo", 4).methods}
    assert (applies["pag"], applies["apg"], applies["rescale"]) == (True, False, True)


def test_a_method_that_refuses_packed_tokens_is_told_apart_from_one_that_refuses_pure_noise() -> None:
    methods = {method.name: method for method in cl.advise("flux-dev", 4).methods}
    assert methods["fdg"].applies is False
    assert "height and width" in methods["fdg"].reason
    assert methods["tcfg"].applies is True
    assert "space" not in methods["tcfg"].reason
    of_v = {method.name: method for method in cl.advise("cogvideox-2b", 4).methods}
    assert "tcfg(space=v): the first step is pure noise" in of_v["tcfg"].reason


def test_names_classes_and_hub_ids_lead_to_their_family_in_any_case() -> None:
    assert cl.advise("flux-dev", 4).family is cl.advise("fluxpipeline", 4).family
    assert cl.advise("black-forest-labs/flux.1-SCHNELL", 4).family.name == "flux-schnell"
    assert cl.advise("FluxPipeline", 4).variants == ("flux-schnell",)


def test_the_terminal_prints_facts_with_sources_methods_and_levels(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["advise", "sdxl", "--steps", "5", "--sampler", "dpm++2m"]) == 0
    text = capsys.readouterr().out
    for part in ("Stable Diffusion XL 1.0 (sdxl)", "is w: 1 is no guidance", "read 2026-11-29", "starting points:"):
        assert part in text
    table = text.split("noise levels of dpm++2m at 5 steps:\n")[1].splitlines()
    levels = family_levels(families()["sdxl"], 5, "dpm++2m").steps
    assert table[0].split() == ["step", "timestep", "sigma", "t", "log", "SNR"]
    assert [float(line.split()[2]) for line in table[1:]] == pytest.approx([step.sigma for step in levels], rel=1e-3)


def test_the_json_is_strict_and_holds_every_fact(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["advise", "FluxPipeline", "--steps", "3", "--json"]) == 0
    data = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))
    assert (
        data["facts"]["recommended_scale"] | {"value": 3.5, "read": "2026-11-29"} == data["facts"]["recommended_scale"]
    )
    assert data["levels"][0]["sigma"] is None  # pure noise
    assert set(data["facts"]) == set(families()["flux-dev"].facts())


def test_without_a_model_every_family_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["advise"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(families())


@pytest.mark.parametrize(
    ("model", "name"),
    [("FLUX.1-schnell", "flux-schnell"), ("flux.1 dev", "flux-dev"), ("Stable Diffusion XL 1.0", "sdxl")],
)
def test_a_family_is_found_by_its_title_and_by_a_hub_id_without_its_owner(model: str, name: str) -> None:
    assert cl.advise(model).family.name == name


def test_an_advice_shows_itself_in_a_notebook_with_its_text_escaped() -> None:
    bundle = cl.advise("pixart-alpha", 4)._repr_mimebundle_()
    assert bundle["text/plain"].startswith("PixArt-α (pixart-alpha)")
    assert "4.5, their program&#x27;s default" in bundle["text/html"]
    assert "<code>4.5 | rescale(strength=0.7)</code>" in bundle["text/html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["flux-devv"], "no model 'flux-devv' in the catalogue of"),
        (["flux-devv"], "the closest names are flux-dev, flux2-dev, flux2-klein."),
        (["wan-2"], "the closest names are wan-2.1, wan-2.1-i2v, wan-2.2-a14b, wan-2.2-i2v-a14b, wan-2.2-ti2v-5b."),
        (["\x1b[31mx"], "no model"),
        (["sdxl", "--steps", "0"], "0 steps: a run has 1 to 10,000"),
        (["sdxl", "--sampler", "eulr"], "no sampler 'eulr'"),
        (["sd3", "--sampler", "ddim"], "sampler ddim for sd3, which predicts a flow"),
        (["cogvideox-5b", "--sampler", "dpm++2m"], "it does not read snr_shift_scale"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["advise", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert "\x1b" not in error


def entry() -> dict[str, Any]:
    family = families()["sdxl"]
    data = family.model_dump(exclude={"name", "group"})
    return {**data, "classes": list(family.classes), "models": list(family.models), "pitfalls": []}


def change(path: str, value: Any) -> dict[str, Any]:
    data = deepcopy(entry())
    *parents, last = path.split("/")
    part = data
    for name in parents:
        part = part[name]
    part[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("recommended_scale/source", "", "sdxl, recommended_scale: 7.5 has no source"),
        ("convention/quote", " ", "sdxl, convention: 'w' has no quote"),
        ("convention/source", "nowhere/file.md", "the source 'nowhere/file.md' is not in sources.yaml"),
        ("convention/value", "w + 1", "'w + 1' is none of w, w - 1"),
        ("prediction", {"value": None}, "sdxl, prediction: it is not known and there is no reason"),
        ("recommended_scale/value", [7, 5], "[7, 5] is no number and no range"),
        ("pitfalls", [{"value": "It burns."}], "sdxl, pitfall 1: 'It burns.' has no source"),
        ("titel", "x", "titel"),
    ],
)
def test_an_entry_of_the_catalogue_that_breaks_a_rule_is_refused_in_one_line(
    path: str, value: Any, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_catalogue({"unet": {"sdxl": change(path, value)}}, dict(sources()))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_families_of_one_class_and_a_source_without_a_date_are_refused() -> None:
    with pytest.raises(InputError, match="StableDiffusionXLPipeline leads to sdxl and to other"):
        read_catalogue({"unet": {"sdxl": entry(), "other": entry()}}, dict(sources()))
    with pytest.raises(InputError, match="docs has no title or date"):
        read_catalogue({}, {"docs": {"title": "x"}})


def test_a_model_that_is_no_text_is_one_line() -> None:
    with pytest.raises(InputError, match="model 3: it is a name"):
        cl.advise(3)  # type: ignore[arg-type]
    assert repr(cl.advise("sdxl", 4)).startswith("<advice on sdxl: Stable Diffusion XL 1.0, 4 steps")


def test_facts_and_families_are_frozen() -> None:
    assert Fact.model_config["frozen"]
    assert Family.model_config["frozen"]


@pytest.mark.parametrize("name", ["sd1", "sd3", "flux-dev", "wan-2.1", "pixart-sigma"])
def test_the_attention_of_a_family_is_that_of_its_network(name: str) -> None:
    family = families()[name]
    network = getattr(case(family.pipeline).build(), (profile_of_family(family) or cl.Profile()).denoisers[0])
    if family.attention.value == "separate":
        assert cross_attentions(network, "nag")
    else:
        with pytest.raises(InputError, match="text and image share one attention"):
            cross_attentions(network, "nag")


def test_the_page_is_what_the_catalogue_says_and_its_examples_run() -> None:
    page = advise_page.PAGE.read_text(encoding="utf-8")
    assert page == advise_page.advise_page(), "make docs writes it again"
    failed, tried = doctest.testfile(str(advise_page.PAGE), module_relative=False)
    assert (failed, tried >= 7) == (0, True)
