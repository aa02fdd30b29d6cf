"""get_cos_sched against cf-guidance 0.0.3 itself."""

import inspect
import math
from functools import partial
from random import Random

import numpy as np
import pytest

import cfglab
from cf_guidance.schedules import get_cos_sched
from cfglab.errors import InputError
from tests.oracles import Published


def drawn(random: Random) -> dict[str, float]:
    """Parameters of every kind, each left out half of the time."""
    scale = partial(random.uniform, -20, 20)
    everything = {
        "num_steps": random.choice([0, 1, 2, 10, 50, random.randrange(120)]),
        "max_val": scale(),
        "min_val": scale(),
        "num_cycles": random.choice([0, 0.5, 1, 1.5, random.uniform(0, 4)]),
        "num_warmup_steps": random.choice([0, 5, random.randrange(130)]),
        "warmup_init_val": scale(),
        "k_decay": 10 ** random.uniform(-1.7, 1.3),
        "cycle_mul": random.choice([1, random.uniform(0.05, 0.95), random.uniform(1.05, 3)]),
        "cycle_decay": random.uniform(0, 3),
        "cycle_limit": random.choice([-1, 0, 0.0, 0.5, 1, 2]),
    }
    return {name: value for name, value in everything.items() if random.random() < 0.5}


def test_random_parameters_give_the_published_numbers(published: Published) -> None:
    theirs = published.module("cf_guidance.schedules").get_cos_sched
    random = Random(0)
    for _ in range(5000):
        parameters = drawn(random)
        ours, wanted = get_cos_sched(**parameters), theirs(**parameters)
        np.testing.assert_allclose(ours, wanted, rtol=1e-11, atol=1e-11, err_msg=repr(parameters))


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
