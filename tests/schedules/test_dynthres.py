"""The twelve modes of Dynamic Thresholding against `DynThresh.interpret_scale`, written again."""

import math

import pytest

from cfglab.errors import InputError
from cfglab.schedules import from_dynthres
from cfglab.schedules.interop import DYNTHRES


def interpret_scale(mode: str, scale: float, minimum: float, sched_val: float, step: int, max_steps: int) -> float:
    """mcmonkeyprojects/sd-dynamic-thresholding, with its own digits of pi."""
    scale -= minimum
    frac = step / (max_steps - 1)
    portion = (frac * sched_val) % 1.0
    factors = {
        "Constant": 1.0,
        "Linear Down": 1.0 - frac,
        "Half Cosine Down": math.cos(frac),
        "Cosine Down": math.cos(frac * 1.5707),
        "Linear Up": frac,
        "Half Cosine Up": 1.0 - math.cos(frac),
        "Cosine Up": 1.0 - math.cos(frac * 1.5707),
        "Power Up": math.pow(frac, sched_val),
        "Power Down": 1.0 - math.pow(frac, sched_val),
        "Linear Repeating": (0.5 - portion) * 2 if portion < 0.5 else (portion - 0.5) * 2,
        "Cosine Repeating": math.cos(frac * 6.28318 * sched_val) * 0.5 + 0.5,
        "Sawtooth": (frac * sched_val) % 1.0,
    }
    return scale * factors[mode] + minimum


@pytest.mark.parametrize("value", [4.0, 0.7])
@pytest.mark.parametrize("mode", DYNTHRES)
def test_a_mode_is_the_programs_own(mode: str, value: float) -> None:
    expected = [interpret_scale(mode, 9.0, 2.5, value, step, 23) for step in range(23)]
    assert from_dynthres(mode, 9.0, 23, minimum=2.5, value=value).values(23) == pytest.approx(expected, abs=2e-3)
    assert len(DYNTHRES) == 12


def test_names_are_read_as_people_write_them_and_one_step_is_its_start() -> None:
    assert from_dynthres("half_cosine_up", 7, 5) == from_dynthres("Half Cosine Up", 7, 5)
    assert from_dynthres("Linear Down", 7, 1).values(1) == [7.0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Cosine Dwn", 7, 5), "mode 'Cosine Dwn': Dynamic Thresholding has Constant, Linear Down,"),
        (("Constant", 7, 0), "0 steps: a run has 1 to"),
        (("Constant", float("inf"), 5), "scale inf, minimum 0.0 and value 4.0: finite numbers"),
    ],
)
def test_what_it_cannot_read_is_one_line(arguments: tuple[str, float, int], said: str) -> None:
    with pytest.raises(InputError) as error:
        from_dynthres(*arguments)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
