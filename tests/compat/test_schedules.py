"""get_cos_sched against cf-guidance 0.0.3 itself."""

import inspect
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cfglab
from cf_guidance.schedules import get_cos_sched
from cfglab.errors import InputError
from tests.oracles import Published, install_published

scales = st.floats(-20, 20)
parameters = st.fixed_dictionaries(
    {},
    optional={
        "num_steps": st.integers(0, 120),
        "max_val": scales,
        "min_val": scales,
        "num_cycles": st.floats(0, 4),
        "num_warmup_steps": st.integers(0, 130),
        "warmup_init_val": scales,
        "k_decay": st.floats(0.02, 20),
        "cycle_mul": st.floats(0.05, 3).filter(lambda x: x == 1 or abs(x - 1) > 1e-6),
        "cycle_decay": st.floats(0, 3),
        "cycle_limit": st.sampled_from([-1, 0, 0.0, 0.5, 1, 2]),
    },
)


@settings(max_examples=3000, deadline=None)
@given(parameters)
def test_any_parameters_give_the_published_numbers(given_parameters: dict[str, float]) -> None:
    theirs = install_published().module("cf_guidance.schedules").get_cos_sched(**given_parameters)
    assert get_cos_sched(**given_parameters) == pytest.approx(theirs, rel=1e-11, abs=1e-11)


def test_the_signature_is_the_published_one(published: Published) -> None:
    theirs = inspect.signature(published.module("cf_guidance.schedules").get_cos_sched).parameters
    ours = inspect.signature(get_cos_sched).parameters
    assert [(name, p.default, p.kind) for name, p in ours.items()] == [
        (name, p.default, p.kind) for name, p in theirs.items()
    ]


@pytest.mark.parametrize(
    ("k", "golden", "mean"),
    [
        (0.1, {0: 7.5, 1: 2.5411, 25: 1.0717, 49: 1.0001}, 1.3344),
        (0.3, {0: 7.5, 1: 6.0831, 25: 1.5491, 49: 1.0006}, 2.1977),
        (1.0, {0: 7.5, 1: 7.4936, 25: 4.2500, 49: 1.0064}, 4.3150),
        (5.0, {0: 7.5, 1: 7.5, 25: 7.4844, 49: 1.1469}, 6.6122),
    ],
)
def test_the_notebooks_curves(k: float, golden: dict[int, float], mean: float) -> None:
    values = get_cos_sched(num_steps=50, max_val=7.5, min_val=1.0, k_decay=k)
    assert {index: values[index] for index in golden} == pytest.approx(golden, abs=5e-5)
    assert math.fsum(values) / 50 == pytest.approx(mean, abs=5e-5)


def test_the_inversion_of_the_notebook_is_the_inverted_schedule() -> None:
    by_hand = [8.5 - g for g in get_cos_sched(min_val=1.0, k_decay=0.3)]
    assert cfglab.Cosine(max=7.5, min=1, k=0.3).inverted().values(50) == pytest.approx(by_hand)


def test_restart_parameters_do_nothing_within_a_run() -> None:
    assert get_cos_sched(cycle_mul=2.0, cycle_decay=0.1) == get_cos_sched()


def test_cycle_limit_of_zero_leaves_the_warm_up_and_then_the_minimum() -> None:
    values = get_cos_sched(num_steps=6, min_val=1.0, num_warmup_steps=2, cycle_limit=0)
    assert values == [0.0, 3.75, 1.0, 1.0, 1.0, 1.0]


def test_a_k_of_zero_is_refused_with_the_rule() -> None:
    with pytest.raises(InputError, match=r"k.*0") as caught:
        get_cos_sched(k_decay=0.0)
    assert "\n" not in str(caught.value)
