"""Where the mathematics says 1 or 0, w is exactly that: at w = 1 + 2e-16 the unconditional rows would run."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfglab.schedules import C2FG, Constant, Cosine, Linear, Power, Schedule, Table, parse

MAXIMA = [index / 10 for index in range(11, 160)]
STEPS = 10
usual = settings(max_examples=200, deadline=None, derandomize=True, database=None)
levels = st.one_of(st.sampled_from(MAXIMA), st.floats(1.0001, 40))


@pytest.mark.parametrize("shape", [Linear, Cosine, Power])
@pytest.mark.parametrize("low", [0, 1])
def test_ramps_begin_and_end_exactly(shape: type[Schedule], low: int) -> None:
    for top in MAXIMA:
        falling = shape(max=top, min=low)
        assert falling.values(STEPS)[0] == top
        rising = falling.inverted()
        assert rising.values(STEPS)[0] == low
        assert falling.inverted().inverted().values(STEPS)[0] == top
        assert rising.reversed().values(STEPS)[-1] == low
        assert rising.scaled(1.3).values(STEPS)[0] == (1 if low else 1 + 1.3 * (0 - 1))
        assert falling.warmed_up(3, start=low).values(STEPS)[0] == low
        assert (rising + 0).clip(high=99).values(STEPS)[0] == low
        assert Constant(3).then(rising, at=4).values(STEPS)[4] == low
        assert (top - rising).values(STEPS)[0] == top - low


def test_a_whole_cosine_comes_back_exactly() -> None:
    for top in MAXIMA:
        values = Cosine(max=top, min=1, cycles=1).values(STEPS)
        assert values[STEPS // 2] == 1
        assert Cosine(max=top, min=1, cycles=1).inverted().values(STEPS)[0] == 1
        assert Cosine(max=top, min=1, cycles=2).values(8)[4] == top


def test_matching_keeps_no_guidance_exactly() -> None:
    for top in MAXIMA:
        assert Cosine(max=top, min=1).inverted().matched_to(1.05).values(STEPS)[0] == 1
        assert Constant(top).matched_to(1).values(3) == [1, 1, 1]
        assert Table([top, 1, top]).matched_to(2).values(3)[1] == 1
        assert Table([1, top, 3]).inverted().values(3)[[1, top, 3].index(max(top, 3))] == 1


def test_a_line_through_one_is_one_there() -> None:
    for count in range(2, 60):
        values = Linear(max=count, min=0).values(count)
        assert values == pytest.approx(range(count, 0, -1))
        assert values[-1] == 1
        assert parse(f"linear(max={count}, min=0) - 1").values(count)[-1] == 0


def test_the_exponential_ends_where_its_range_does() -> None:
    for top in MAXIMA:
        rising = C2FG(max=top, rate=0.7)
        low, high = rising.span()
        assert rising.inverted().values(STEPS)[0] == high
        assert rising.values(STEPS)[0] == low


@usual
@given(top=levels, low=st.sampled_from([0.0, 1.0]), count=st.integers(1, 60), other=st.floats(-30, 30))
def test_sums_that_cancel_do_so_exactly(top: float, low: float, count: int, other: float) -> None:
    rising = Cosine(max=top, min=low).inverted()
    assert rising.values(count)[0] == low
    assert ((rising + other) - other).values(count)[0] == pytest.approx(low, abs=1e-12)
    assert (Constant(other) - other).values(1) == [0]
    assert (Constant(1 + other) - other).values(1) == [1]


@usual
@given(value=st.floats(-50, 50, allow_subnormal=False))
def test_what_a_person_writes_is_not_rounded(value: float) -> None:
    assert Constant(value).values(1) == [value + 0.0]
    assert Table([value]).values(1) == [value + 0.0]
