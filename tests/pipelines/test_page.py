"""docs/pipelines.md is what the cases and the profiles say, and they say the same."""

import inspect

import diffusers
import pytest

from cfglab.pipelines.interception.batched import two_parts
from cfglab.pipelines.profiles.lookup import profile_of
from cfglab.pipelines.profiles.source_check import read_source
from cfglab.pipelines.profiles.table import profiles
from cfglab.pipelines.profiles.table_refused import ONE, REFUSED
from tests.pipelines import page
from tests.pipelines.families import Case, cases


def test_the_page_is_written() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run `make docs`"


def test_sixty_classes_of_thirty_families_are_run() -> None:
    assert len({case.cls for case in cases()}) >= 60
    assert len({case.family for case in cases()}) >= 30


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_profile_and_case_agree(case: Case) -> None:
    profile = profiles()[case.cls]
    assert profile_of(object.__new__(getattr(diffusers, case.cls))) == profile
    if case.style == "embedded":
        assert profile.embedded
        return
    assert profile.scale == case.scale_argument
    assert profile.layout in (("two calls",) if case.style == "two calls" else ("batched", "with sound"))
    assert set(case.denoisers) <= set(profile.denoisers)
    assert profile.helpers == case.helpers
    assert profile.lists == (case.style == "lists")
    parts = profile.parts
    if profile.third_from and case.style != "three parts":  # a call whose batch has no third part
        parts = two_parts(parts)
    assert len(parts) == (3 if case.style == "three parts" else 2)
    if case.order != "other":
        assert parts[:2] == tuple(case.order.split())
    assert bool(profile.variance) == (case.variance != "none") or case.cls.startswith("Sana")
    assert profile.off == case.off or case.off is None or profile.networks
    assert profile.negated == ("sign is flipped" in case.before + case.after)


def test_what_the_generic_rule_would_do_is_said_right_of_what_is_run() -> None:
    """The reading that the list of unknown classes rests on, where its truth is known."""
    for case in cases():
        source, profile = read_source(getattr(diffusers, case.cls)), profiles()[case.cls]
        said = page.rule(source)
        if case.style == "two calls":
            assert said.startswith(("not clear", "does not fit: 2 parts, 2 calls")) or 'layout="two calls"' in said
        if source.layout == "batched" and len(source.parts) == 2:
            assert ('parts=("cond", "uncond")' in said) == (profile.parts[0] == "cond")
            assert profile.denoisers == ("unet",) or f'denoisers=("{profile.denoisers[0]}",)' in said


def test_a_class_that_diffusers_itself_cannot_run() -> None:
    kind = diffusers.EasyAnimateControlPipeline
    assert "text_encoder_index=" in inspect.getsource(kind.__call__)
    assert "text_encoder_index" not in inspect.signature(kind.encode_prompt).parameters


def test_no_class_is_refused_without_a_reason() -> None:
    known = dict(page.classes())
    assert not known.keys() - profiles().keys() - REFUSED.keys()
    assert not REFUSED.keys() & profiles().keys()
    assert all(reason.endswith(".") for reason in REFUSED.values())
    for name, reason in REFUSED.items():
        if reason.startswith(ONE) and name in known:  # and that is what its source says
            assert not read_source(known[name]).formula, name


def test_the_generic_rule_does_not_fit_everything() -> None:
    known = {name: page.rule(read_source(kind)) for name, kind in page.classes()}
    assert "3 parts" in known["OmniGenPipeline"]
    assert "norm would be lost" in known["LongCatImagePipeline"]


@pytest.mark.parametrize("name", profiles())
def test_what_a_profile_names_is_there(name: str) -> None:
    try:
        kind = getattr(diffusers, name)
        arguments = inspect.signature(kind.__call__).parameters
    except ImportError as error:
        pytest.skip(str(error))
    if hasattr(kind, "_backends"):
        pytest.skip(f"diffusers offers it with {', '.join(kind._backends)} only")
    profile = profiles()[name]
    parts = inspect.signature(kind.__init__).parameters
    assert {*profile.denoisers, *profile.helpers} <= set(parts)
    named = {argument for argument, _ in profile.fixed} | {argument for argument, *_ in profile.refused}
    named |= {*profile.third_from, *([profile.image_scale] if "neither" in profile.parts else [])}
    assert named <= set(arguments)
    assert profile.layout == "embedded" or profile.scale in arguments
    rescales = profile.post_combine == "rescale" or profile.layout == "with sound"  # which leaves it to the pipeline
    assert ("rescale" in read_source(kind).post_combine) == rescales
