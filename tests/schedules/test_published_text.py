"""Schedules in the writing of other programs, against those programs' rules written again here."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfglab.errors import InputError
from cfglab.schedules import (
    Constant,
    Cosine,
    Linear,
    Table,
    from_invokeai,
    from_sd_cpp,
    parse,
    to_invokeai,
    to_sd_cpp,
)
from cfglab.schedules.published.named import ideogram4


def sd_cpp(text, steps, cfg_scale):
    """What stable-diffusion.cpp uses step by step: guidance x count in order, resized, read from the end."""
    listed = []
    for segment in text.split("+"):
        guidance, _, count = segment.partition("x")
        listed += [float(guidance)] * int(count)
    listed = listed[:steps] + [cfg_scale] * (steps - len(listed))
    return [listed[steps - 1 - step] for step in range(steps)]


@pytest.mark.parametrize("text", ["3.0x3+7.0x45", "4x10+6x10+8x10", "7.5x1", "-1x2+0.5x3"])
@pytest.mark.parametrize("steps", [1, 4, 5, 20, 48, 60])
def test_stable_diffusion_cpp_in(text, steps):
    listed = sum(int(part.split("x")[1]) for part in text.split("+"))
    if listed == steps + 1:
        with pytest.raises(InputError, match="one step too long"):
            from_sd_cpp(text, steps=steps)
        return
    assert from_sd_cpp(text, steps=steps, scale=9).values(steps) == sd_cpp(text, steps, 9.0)


def test_the_published_list_reads_as_the_published_schedule():
    assert from_sd_cpp("3.0x3+7.0x45") == ideogram4()
    assert to_sd_cpp(ideogram4(), 48) == "3x3+7x45"
    assert parse("45x7+3x3") == ideogram4()  # the project's own writing: steps x scale, the first step first


@given(st.lists(st.floats(-1e20, 1e20).map(lambda w: w + 0.0), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_stable_diffusion_cpp_there_and_back(entries):
    text = to_sd_cpp(entries, len(entries))
    assert from_sd_cpp(text) == Table(entries)
    assert sd_cpp(text, len(entries), 0.0) == entries


@pytest.mark.parametrize(
    "text", ["", "7", "7x", "x3", "7x0", "7x-1", "7x2.5", "7x3+", "7 3", "7x3x2", "7x99999", "nanx3"]
)
def test_stable_diffusion_cpp_mistakes(text):
    with pytest.raises(InputError) as caught:
        from_sd_cpp(text)
    assert "\n" not in str(caught.value)


def test_a_short_list_needs_the_scale_of_the_first_steps():
    with pytest.raises(InputError, match=r"^'3x3' for 10 steps: the first 7 have no scale; give scale=\.$"):
        from_sd_cpp("3x3", steps=10)
    assert from_sd_cpp("3x3", steps=5, scale=7) == Table([7, 7, 3, 3, 3])


def test_invokeai():
    assert from_invokeai("[7.5, 7.5, 3]") == from_invokeai([7.5, 7.5, 3]) == Table([7.5, 7.5, 3])
    assert from_invokeai(7) == from_invokeai("7") == Constant(7)
    assert to_invokeai(7.5, 20) == 7.5
    assert to_invokeai(Linear(max=5, min=1), 4) == [5, 4, 3, 2]
    assert from_invokeai(to_invokeai(Cosine(k=0.3), 20)).values(20) == Cosine(k=0.3).values(20)
    assert to_invokeai(Constant(3).inside(sigma=(1, 9)), 3, [14, 5, 0.5]) == [1, 3, 1]
    with pytest.raises(InputError, match=r"^w = 0\.5 at step 1: InvokeAI's cfg_scale is 1 or more; write \.clip"):
        to_invokeai([2, 0.5], 2)
    with pytest.raises(InputError, match=r"w = 0\.5 at step 0"):
        from_invokeai(0.5)
    for wrong in ("cosine()", '{"a": 1}', '"7"', "null", "7,5", "[]", "[1, null]", "true", None):
        with pytest.raises(InputError) as caught:
            from_invokeai(wrong)
        assert "\n" not in str(caught.value)
