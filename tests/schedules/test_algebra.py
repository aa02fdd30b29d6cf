"""What the words of the algebra mean, step by step."""

import math
import subprocess
import sys

import pytest

from cfglab.errors import InputError
from cfglab.schedules import Constant, Cosine, Function, Linear, Table
from cfglab.step import Step, steps

LINE = Linear(max=10, min=0)
SIGMAS = [14.0, 5.0, 1.6, 0.5, 0.1]


def on(schedule, n, sigmas=None):
    return [schedule.is_on(step) for step in steps(n, sigmas)]


def test_inverted_mirrors_between_the_declared_ends():
    assert LINE.values(5) == pytest.approx([10, 8, 6, 4, 2])
    assert LINE.inverted().values(5) == pytest.approx([0, 2, 4, 6, 8])
    assert LINE.inverted(low=0, high=20).values(5) == pytest.approx([10, 12, 14, 16, 18])
    assert Constant(3).inverted().values(2) == [3, 3]


def test_inverted_mirrors_a_warmup_too_which_may_leave_the_range():
    warm = Cosine(max=7.5, min=1, warmup=5, warmup_start=0)
    assert warm.inverted().values(10)[0] == 8.5
    assert warm.inverted().values(10) == pytest.approx([8.5 - w for w in warm.values(10)])


@pytest.mark.parametrize(
    "composite", [LINE + 1, LINE.clip(low=2), LINE.then(3, at=2), LINE.warmed_up(2), LINE.matched_to(3), Function(len)]
)
def test_composites_and_functions_need_a_range(composite):
    with pytest.raises(InputError, match=r"declare no min and max; write \.inverted\(low=1, high=7.5\)\.$"):
        composite.inverted()
    assert composite.inverted(low=1, high=7.5).span() == (1, 7.5)


def test_half_a_range_is_none():
    with pytest.raises(InputError, match=r"a range has two ends; give both, or neither\.$"):
        LINE.inverted(low=1)


def test_reversed():
    assert LINE.reversed().values(5) == pytest.approx([2, 4, 6, 8, 10])
    assert LINE.reversed().inverted().values(5) == pytest.approx([8, 6, 4, 2, 0])
    assert on(LINE.inside(steps=(0, 2)).reversed(), 5) == [False, False, False, True, True]


def test_then_gives_each_its_own_part():
    assert LINE.then(LINE, at=2).values(4) == [10, 5, 10, 5]
    assert LINE.then(7, at=0.5).values(4) == [10, 5, 7, 7]
    assert LINE.then(7, at=10).values(4) == LINE.values(4)
    assert LINE.then([1, 2], at=0.34).values(4) == [10, 5, 1, 2]
    assert LINE.then(LINE.then(1, at=1), at=1).values(4) == [10, 10, 1, 1]


def test_a_restart_is_then():
    once = Cosine().values(25)
    assert Cosine().then(Cosine(), at=0.5).values(50) == pytest.approx(once + once)


@pytest.mark.parametrize("at", [0, -1, 2.5, 1.5, math.nan, "3", True])
def test_then_needs_a_moment(at):
    with pytest.raises(InputError, match=r"^then\(at="):
        LINE.then(1, at=at)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({"progress": (0.2, 0.8)}, [0, 1, 1, 1, 0]),
        ({"progress": (0, 1)}, [1, 1, 1, 1, 1]),
        ({"steps": (1, 3)}, [0, 1, 1, 0, 0]),
        ({"steps": (3, 99)}, [0, 0, 0, 1, 1]),
        ({"sigma": (0.5, 5.0)}, [0, 1, 1, 0, 0]),  # (low, high]: 5.0 is inside, 0.5 is not
    ],
)
def test_inside_is_off_outside(window, expected):
    schedule = LINE.inside(**window)
    assert on(schedule, 5, SIGMAS) == [bool(is_on) for is_on in expected]
    inside = [w if is_on else 1.0 for w, is_on in zip(LINE.values(5), expected, strict=True)]
    assert schedule.values(5, SIGMAS) == inside


def test_windows_in_a_window():
    assert on(LINE.inside(steps=(1, 4)).inside(progress=(0.5, 1)), 6) == [False] * 3 + [True] + [False] * 2


def test_off_stays_off_through_every_word():
    part = LINE.inside(steps=(2, 4))
    for word in (
        2 * part,
        part + LINE,
        LINE - part,
        part.clip(low=5),
        part.inverted(low=0, high=10),
        part.scaled(3),
        part.matched_to(2),
        Constant(3).then(part, at=1).then(2, at=9),
    ):
        values = word.values(6)
        for step in steps(6):
            assert word.is_on(step) or values[step.index] == 1.0, (word, step)
        assert not all(word.is_on(step) for step in steps(6)), word


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({}, r"^inside with no window: it takes one window; write progress="),
        ({"progress": (0, 1), "steps": (0, 4)}, r"^inside with progress and steps: it takes one window"),
        ({"progress": (0.8, 0.2)}, r"\(0.8, 0.2\)\): a window \(a, b\) has 0 <= a < b <= 1; write progress="),
        ({"progress": (0, 1.2)}, "0 <= a < b <= 1"),
        ({"sigma": (-1, 2)}, r"0 <= a < b; write sigma=\(1, 5\)\.$"),
        ({"steps": (4, 4)}, r"0 <= a < b; write steps=\(1, 5\)\.$"),
        ({"steps": (0.5, 4)}, "a whole number of steps"),
        ({"sigma": (0.1, math.nan)}, "a finite number"),
        ({"progress": 0.3}, r"two numbers are needed, where it opens and where it closes; write \(0.2, 0.8\)\.$"),
    ],
)
def test_bad_windows(window, message):
    with pytest.raises(InputError, match=message):
        LINE.inside(**window)


def test_sigma_windows_need_sigmas():
    for schedule in (LINE.inside(sigma=(0.2, 2)), 2 * LINE.inside(sigma=(0.2, 2)).clip(low=1)):
        assert schedule.reads_sigma()
        with pytest.raises(InputError, match=r"at a step without sigma: .* give sigmas=, one a step\.$"):
            schedule.values(5)
        with pytest.raises(InputError, match="without sigma"):
            schedule.dose(5)
        assert len(schedule.values(5, SIGMAS)) == 5
    for word in (lambda s: s.reversed(), lambda s: s.warmed_up(2), lambda s: s.then(1, at=2).reversed()):
        with pytest.raises(
            InputError, match=r"another step's sigma is not known; write .* \.inside\(sigma=…\) last\.$"
        ):
            word(LINE.inside(sigma=(0.2, 2)))


def test_warmed_up_is_the_warmup_of_the_shapes():
    for k in (0.3, 1, 3):
        shape = Cosine(k=k, warmup=7, warmup_start=0.5)
        assert Cosine(k=k).warmed_up(7, start=0.5).values(30) == pytest.approx(shape.values(30))
    assert Constant(5).warmed_up(fraction=0.5).values(4) == [1, 3, 5, 5]
    assert Constant(5).warmed_up(9).values(3) == pytest.approx([1, 1 + 4 / 9, 1 + 8 / 9])
    assert Table([4, 2]).warmed_up(2, start=0).values(4) == [0, 2, 4, 2]


@pytest.mark.parametrize(
    "given", [{}, {"steps": 3, "fraction": 0.1}, {"steps": 0}, {"steps": 0.5}, {"fraction": 1}, {"fraction": 2}]
)
def test_warmed_up_takes_steps_or_a_fraction(given):
    with pytest.raises(InputError, match=r"warmed_up\(|0\.1|0\.2"):
        LINE.warmed_up(**given)


def test_arithmetic():
    half = Constant(0.5)
    assert (LINE + 1).values(2) == [11, 6]
    assert (1 + LINE).values(2) == [11, 6]
    assert (LINE - 1).values(2) == [9, 4]
    assert (1 - LINE).values(2) == [-9, -4]
    assert (2 * LINE).values(2) == (LINE * 2).values(2) == [20, 10]
    assert (LINE * half + LINE - half).values(2) == [14.5, 7]
    with pytest.raises(TypeError):
        LINE + "1"
    with pytest.raises(InputError, match="a finite number is needed"):
        LINE * math.inf
    with pytest.raises(InputError, match="w = inf at step 0"):
        (Constant(1e300) * Constant(1e300)).values(1)


def test_clip():
    assert LINE.clip(3, 7).values(4) == [7, 7, 5, 3]
    assert LINE.clip(low=3).values(4) == [10, 7.5, 5, 3]
    assert LINE.clip(high=7).values(4) == [7, 7, 5, 2.5]
    with pytest.raises(InputError, match=r"^clip without bounds"):
        LINE.clip()
    with pytest.raises(InputError, match=r"^clip\(low=7, high=3\): low is at most high; swap them\.$"):
        LINE.clip(7, 3)


def test_a_switch_in_the_last_step_and_beyond():
    assert LINE.then(3, at=0.999).values(4) == LINE.values(4)
    assert LINE.then(3, at=0.001).values(4) == [10, 3, 3, 3]
    assert LINE.then(3, at=1)(Step(0, 1)) == 10


def test_schedules_load_no_torch():
    code = (
        "import sys, cfglab.schedules as s; s.parse('cosine().matched_to(3)').values(9); print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
