"""Skipped steps against musubi-tuner's own rule, and phases against what Wan's pipeline does."""

import numpy as np
import pytest

from cfglab.errors import InputError
from cfglab.schedules import CFGSkip, Phases, parse

MODES = ("early", "late", "middle", "early_late", "alternate")


def guided_by_musubi(mode: str, ratio: float, count: int) -> list[bool]:
    """The rule of --cfg_skip_mode, from its documentation: which part is *not* guided."""
    guided = int(count * ratio)
    if mode == "alternate":
        total, on = 0.0, []
        for _ in range(count):
            total += ratio
            on.append(total >= 1)
            total -= 1 if on[-1] else 0
        return on
    first = {
        "early": count - guided,
        "late": 0,
        "early_late": (count - guided) // 2,
        "middle": (count - (count - guided)) // 2,
    }[mode]
    length = count - guided if mode == "middle" else guided
    inside = [first <= index < first + length for index in range(count)]
    return [not on for on in inside] if mode == "middle" else inside


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ratio", [0, 0.1, 0.3, 0.5, 0.7, 1])
@pytest.mark.parametrize("count", [1, 4, 7, 20, 50])
def test_the_guided_steps_are_those_of_musubi_tuner(mode: str, ratio: float, count: int) -> None:
    schedule = CFGSkip(w=5, mode=mode, ratio=ratio)
    expected = guided_by_musubi(mode, ratio, count)
    assert schedule.values(count) == [5.0 if on else 1.0 for on in expected]
    if mode != "alternate":
        assert sum(expected) == int(count * ratio)


def test_a_mode_names_the_part_that_is_skipped() -> None:
    assert parse('cfg_skip(w=5, mode="early", ratio=0.5)').values(4) == [1, 1, 5, 5]
    assert parse('cfg_skip(w=5, mode="middle", ratio=0.5)').values(4) == [5, 1, 1, 5]
    assert parse('cfg_skip(w=5, mode="early_late", ratio=0.5)').values(4) == [1, 5, 5, 1]


@pytest.mark.parametrize("boundary", [0.875, 0.9])
def test_two_phases_are_the_scales_of_the_two_experts_of_wan(boundary: float) -> None:
    """The pipeline: `guidance_scale` where t >= boundary_ratio * 1000, else `guidance_scale_2`."""
    times = np.linspace(1, 0.01, 40)
    times[7] = boundary
    times = -np.sort(-times)
    sigmas = [*(t / (1 - t) if t < 1 else np.inf for t in times), 0.0]
    schedule = Phases(scales=(4, 3), sigma=(boundary / (1 - boundary),))
    assert schedule.values(40, sigmas) == [4.0 if 1000 * t >= 1000 * boundary else 3.0 for t in times]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('cfg_skip(w=5, mode="effective", ratio=0.5)', "mode"),
        ('cfg_skip(w=5, mode="late", ratio=1.5)', "it is between 0 and 1; write ratio=0.5"),
        ('cfg_skip(w=5, mode="late")', "cfg_skip without ratio"),
        ("phases(scales=(3, 1), sigma=(7, 1))", "phases with 2 scales and 2 noise levels"),
        ("phases(scales=(3, 2, 1), sigma=(1, 7))", "noise levels are 0 or more and fall"),
        ("phases(scales=(3, 1), sigma=(-1))", "sigma"),
    ],
)
def test_what_is_refused_is_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        parse(text)
    assert "\n" not in str(raised.value)


def test_phases_without_noise_levels_say_what_to_give() -> None:
    with pytest.raises(InputError, match="phases end at noise over signal; give sigmas="):
        parse("phases(scales=(3, 1), sigma=[7])").values(4)
