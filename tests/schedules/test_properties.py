"""Laws that every schedule keeps, on schedules nobody wrote down."""

import inspect
import itertools
import math

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

import cfglab.schedules
from cfglab.errors import InputError
from cfglab.schedules import (
    C2FG,
    PUBLISHED,
    AnySchedule,
    Beta,
    CFGPlusPlus,
    CFGSkip,
    CogVideoXShipped,
    Constant,
    Cosine,
    Linear,
    Phases,
    Power,
    Schedule,
    Table,
    parse,
)
from cfglab.step import Step, steps

usual = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

real = st.floats(-50, 50, allow_nan=False)
positive = st.floats(0.01, 20)
ramp = {"max": real, "min": real, "warmup": st.integers(0, 12), "warmup_start": real}
shapes = st.one_of(
    real.map(Constant),
    st.builds(Linear, **ramp),
    st.builds(Cosine, **ramp, k=positive, cycles=st.floats(0, 6)),
    st.builds(Power, **ramp, k=positive, power=positive),
    st.lists(st.one_of(real, st.sampled_from([1.0, 7.5])), min_size=20, max_size=25).map(Table),
)
curves = st.one_of(
    st.builds(Beta, scale=real, a=st.floats(1, 9), b=st.floats(1, 9)),
    st.builds(C2FG, max=real, rate=st.floats(0, 9)),
    st.builds(
        CFGSkip,
        w=real,
        mode=st.sampled_from(["early", "late", "middle", "early_late", "alternate"]),
        ratio=st.floats(0, 1),
    ),
)
arguments = {
    "w0": real,
    "w": real,
    "scale": real,
    "low": real,
    "s": positive,
    "at": st.floats(0.01, 0.99),
    "sigma": st.tuples(st.floats(0, 1), st.floats(1.1, 9)),
    "steps": st.sampled_from([48, 20]),
}
published = st.one_of(
    st.builds(make, **{name: arguments[name] for name in inspect.signature(make).parameters})
    for make in PUBLISHED.values()
)
sampled = st.one_of(
    st.builds(CFGPlusPlus, lam=st.floats(0, 1), eta=st.floats(0, 1)),
    st.builds(CogVideoXShipped, scale=real),
    st.builds(Phases, scales=st.tuples(real, real, real), sigma=st.just((5.0, 0.5))),
)
moments = st.one_of(st.integers(1, 25), st.floats(0.01, 0.99))
windows = st.one_of(
    st.tuples(st.floats(0, 0.5), st.floats(0.51, 1)).map(lambda pair: {"progress": pair}),
    st.tuples(st.integers(0, 5), st.integers(6, 30)).map(lambda pair: {"steps": pair}),
)


def wider(parts):
    return st.one_of(
        st.builds(lambda s, low, high: s.inverted(low, high), parts, real, real),
        st.builds(Schedule.reversed, parts),
        st.builds(lambda a, b, at: a.then(b, at=at), parts, parts, moments),
        st.builds(lambda s, window: s.inside(**window), parts, windows),
        st.builds(lambda s, n, start: s.warmed_up(n, start=start), parts, st.integers(1, 12), real),
        st.builds(lambda s, f: s.warmed_up(fraction=f), parts, st.floats(0.01, 0.99)),
        st.builds(lambda s, f: s.scaled(f), parts, real),
        st.builds(lambda s, low, width: s.clip(low, low + width), parts, real, positive),
        st.builds(lambda s, high: s.clip(high=high), parts, real),
        st.builds(lambda s, dose, limit: s.matched_to(dose, limit=limit), parts, real, positive),
        st.builds(lambda a, b: a + b, parts, st.one_of(parts, real)),
        st.builds(lambda a, b: a - b, st.one_of(parts, real), parts),
        st.builds(lambda a, b: a * b, st.one_of(parts, real), parts),
        st.builds(lambda a, window: a.inside(sigma=window), shapes, st.just((0.1, 2.0))),
    )


nested = st.recursive(st.one_of(shapes, curves, published, sampled), wider, max_leaves=4)


@st.composite
def any_schedule(draw):
    """Words refuse what reads sigma where its step is not the run's: those are drawn again."""
    try:
        return draw(nested)
    except InputError:
        assume(False)


NAMES = {name: getattr(cfglab.schedules, name) for name in cfglab.schedules.__all__}


@given(any_schedule())
@usual
def test_text_repr_and_json_read_back(schedule):
    assert parse(str(schedule)) == schedule
    assert str(parse(str(schedule))) == str(schedule)
    assert parse(str(schedule)).to_json() == schedule.to_json()
    assert eval(repr(schedule), NAMES) == schedule
    assert Schedule.from_json(schedule.to_json()) == schedule
    assert TypeAdapter(AnySchedule).validate_python(schedule.model_dump()) == schedule
    assert hash(parse(str(schedule))) == hash(schedule)


@given(any_schedule(), st.integers(1, 20))
@usual
def test_calls_and_lists_agree_and_are_finite(schedule, n):
    sigmas = [4 * 0.7**i for i in range(n)]
    try:
        values = schedule.values(n, sigmas)
    except InputError:  # a dose that cannot be matched, or a product beyond all numbers, is refused by name
        return
    assert values == [schedule(step) for step in steps(n, sigmas)]
    assert all(math.isfinite(w) for w in values)
    assert all(schedule.is_on(step) or w == 1 for step, w in zip(steps(n, sigmas), values, strict=True))


@given(st.one_of(curves, published, sampled), st.integers(1, 20))
@usual
def test_published_schedules_are_finite_on_every_run(schedule, n):
    """With all that a sampler knows; a list is used as far as it goes."""
    sigmas = [4 * 0.7**i for i in range(n)] + [0.0]
    run = [Step(i, n, timestep=999 * (n - i) / n, sigma=sigmas[i], next_sigma=sigmas[i + 1]) for i in range(n)]
    assert all(math.isfinite(schedule(step)) for step in run)
    assert [schedule(step) for step in reversed(run)] == [schedule(step) for step in run][::-1]


@given(st.one_of(shapes, curves.filter(lambda curve: curve.span())), st.integers(1, 20))
@usual
def test_inversion_is_an_involution(shape, n):
    assert shape.inverted().inverted().values(n) == pytest.approx(shape.values(n), abs=1e-9)
    assert shape.inverted(-3, 8).inverted(-3, 8).values(n) == pytest.approx(shape.values(n), abs=1e-9)
    assert shape.reversed().reversed().values(n) == shape.values(n)


@given(positive, positive, st.integers(1, 60))
@usual
def test_half_a_cosine_rises_with_k_and_falls_in_time(k, other, n):
    low, high = sorted((k, other))
    values, above = Cosine(k=low).values(n), Cosine(k=high).values(n)
    assert all(w <= v + 1e-12 for w, v in zip(values, above, strict=True))
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(values))
    assert values[0] == 7.5
    last = ((n - 1) / n) ** low
    assert values[-1] == pytest.approx(1 + 3.25 * (1 + math.cos(math.pi * last)))
    assert Cosine(k=low).inverted().values(n)[0] == 1.0


@given(any_schedule(), st.integers(2, 20))
@usual
def test_doses_are_means(schedule, n):
    sigmas = [4 * 0.7**i for i in range(n)] + [0.0]
    try:
        values = schedule.values(n, sigmas)
    except InputError:
        return
    assert schedule.dose(n, sigmas) == pytest.approx(sum(values) / n, abs=1e-6)
    between = schedule.effective_dose(sigmas)
    assert min(values) - 1e-6 <= between <= max(values) + 1e-6


def test_a_field_takes_whatever_stands_for_a_schedule():
    class Holder(BaseModel):
        schedule: AnySchedule

    for given_ in (7.5, "7.5", {"kind": "constant", "value": 7.5}, Constant(7.5)):
        assert Holder(schedule=given_).schedule == Constant(7.5)
    assert Holder.model_validate_json('{"schedule": "cosine(k=0.3).inverted()"}').schedule == Cosine(k=0.3).inverted()
    with pytest.raises(ValueError, match=r"cosine\(k=-1\): it must be above 0; 1 is the plain shape"):
        Holder(schedule="cosine(k=-1)")
    properties = TypeAdapter(AnySchedule).json_schema()["$defs"]["Cosine"]["properties"]
    assert properties["kind"]["const"] == "cosine"
