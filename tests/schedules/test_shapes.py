"""The shapes against published numbers: the table of the series, and cf-guidance 0.0.3 itself."""

import math
import random

import numpy as np
import pytest

from cfglab.errors import InputError
from cfglab.schedules import Constant, Cosine, Function, Linear, Power, Table, as_schedule
from cfglab.step import Step

GOLDEN = {  # k: g at steps 0, 1, 5, 10, 25, 40, 49, the mean, the mean of the inverted (N = 50, max 7.5, min 1)
    0.1: (7.5, 2.5411, 1.6551, 1.3480, 1.0717, 1.0078, 1.0001, 1.3344, 7.1656),
    0.2: (7.5, 4.6846, 2.9503, 2.1410, 1.2651, 1.0305, 1.0003, 1.7481, 6.7519),
    0.3: (7.5, 6.0831, 4.2379, 3.0818, 1.5491, 1.0670, 1.0006, 2.1977, 6.3023),
    0.5: (7.5, 7.1845, 6.0238, 4.7865, 2.2815, 1.1771, 1.0016, 2.9984, 5.5016),
    0.7: (7.5, 7.4332, 6.8821, 5.9557, 3.0957, 1.3297, 1.0032, 3.6253, 4.8747),
    1.0: (7.5, 7.4936, 7.3409, 6.8793, 4.2500, 1.6207, 1.0064, 4.3150, 4.1850),
    1.5: (7.5, 7.4999, 7.4840, 7.3725, 5.6931, 2.2136, 1.0143, 5.0598, 3.4402),
    2.0: (7.5, 7.5, 7.4984, 7.4744, 6.5481, 2.8662, 1.0251, 5.5304, 2.9696),
    3.0: (7.5, 7.5, 7.5, 7.4990, 7.2526, 4.1275, 1.0553, 6.0882, 2.4118),
    5.0: (7.5, 7.5, 7.5, 7.5, 7.4844, 5.9247, 1.1469, 6.6122, 1.8878),
}


@pytest.mark.parametrize("k", GOLDEN)
def test_golden_table(k):
    cosine = Cosine(max=7.5, min=1, k=k)
    values = cosine.values(50)
    measured = [values[i] for i in (0, 1, 5, 10, 25, 40, 49)] + [cosine.dose(50), cosine.inverted().dose(50)]
    assert measured == pytest.approx(GOLDEN[k], abs=5.1e-5)


def test_cosine_is_the_published_schedule(published):
    """Three thousand random settings, odd ones included: max below min, warm-ups longer than the run, many cycles."""
    get_cos_sched = published.module("cf_guidance.schedules").get_cos_sched
    chance = random.Random(20221124)
    for _ in range(3000):
        n = chance.randint(1, 80)
        ours = {
            "max": chance.uniform(-5, 20),
            "min": chance.choice([chance.uniform(-5, 20), 0.15, 1.0]),
            "k": math.exp(chance.uniform(-4, 3)),
            "cycles": chance.choice([0.5, 0.0, 1.0, chance.uniform(0, 6)]),
            "warmup": chance.choice([0, 0, chance.randint(0, 15), chance.randint(0, 130)]),
            "warmup_start": chance.uniform(-2, 10),
        }
        names = ("max_val", "min_val", "k_decay", "num_cycles", "num_warmup_steps", "warmup_init_val")
        theirs = get_cos_sched(n, **dict(zip(names, ours.values(), strict=True)))
        assert max(abs(w - g) for w, g in zip(Cosine(**ours).values(n), theirs, strict=True)) < 1e-11, (n, ours)


def test_why_the_cycle_parameters_are_refused(published):
    """What the message says of them is true: within a run they change nothing, and cycle_limit=0 leaves the minimum."""
    get_cos_sched = published.module("cf_guidance.schedules").get_cos_sched
    chance = random.Random(7)
    for _ in range(200):
        n, k = chance.randint(1, 80), chance.uniform(0.1, 5)
        dead = {"cycle_mul": chance.uniform(0.2, 4), "cycle_decay": chance.uniform(0, 2)}
        assert get_cos_sched(n, k_decay=k, **dead) == pytest.approx(get_cos_sched(n, k_decay=k), abs=1e-9)
    assert get_cos_sched(20, min_val=1, cycle_limit=0) == [1] * 20
    for name in ("cycle_mul", "cycle_decay", "cycle_limit"):
        with pytest.raises(
            InputError, match=rf"^cosine has no '{name}': .*changes nothing.*\.then\(cosine\(\), at=0.5"
        ):
            Cosine(**{name: 2})


@pytest.mark.parametrize("n", [1, 2, 7, 50])
@pytest.mark.parametrize("warmup", [0, 3])
def test_the_other_shapes_are_their_formulas(n, warmup):
    def expected(rest):
        for i in range(n):
            yield 0.5 + i * (8 - 0.5) / 3 if i < warmup else 2 + 6 * rest((i - warmup) / max(1, n - warmup))

    start = {"max": 8, "min": 2, "warmup": warmup, "warmup_start": 0.5}
    assert Linear(**start).values(n) == pytest.approx(list(expected(lambda p: 1 - p)))
    assert Power(**start, power=3, k=0.5).values(n) == pytest.approx(list(expected(lambda p: (1 - p**0.5) ** 3)))
    assert Power(**start, power=1).values(n) == pytest.approx(Linear(**start).values(n))
    assert Constant(4.5).values(n) == [4.5] * n


def test_published_relatives():
    """Inverted k-decay is the powered cosine (min 0), CogVideoX's guidance (k 5, min 1); a line has its area."""
    n, g = 40, 6.0
    powered = [(1 - math.cos(math.pi * (i / n) ** 3)) / 2 * g for i in range(n)]
    assert Cosine(max=g, min=0, k=3).inverted().values(n) == pytest.approx(powered)
    cogvideox = [1 + g * (1 - math.cos(math.pi * (i / n) ** 5)) / 2 for i in range(n)]
    assert Cosine(max=1 + g, min=1, k=5).inverted().values(n) == pytest.approx(cogvideox)
    assert Linear(max=2 * g, min=0).inverted().dose(n) == pytest.approx(g * (n - 1) / n)


def test_a_table_has_a_scale_for_every_step():
    assert Table([8, 6, 4]).values(3) == [8, 6, 4]
    assert Table([8, 6, 4]).values(2) == [8, 6]
    with pytest.raises(InputError, match=r"^a list of 3 scales for 5 steps: .* add 2 or run 3 steps\.$"):
        Table([8, 6, 4]).values(5)
    with pytest.raises(InputError, match=r"^a list of 3 scales for 4 steps"):
        Table([8, 6, 4])(Step(0, 4))
    assert Table([8, 6, 4]).inverted().values(3) == [4, 6, 8]


def test_functions_are_called_with_the_step():
    assert Function(lambda step: 10 * step.progress).values(5) == [0, 2, 4, 6, 8]
    with pytest.raises(InputError, match=r"gave None at step 0: a schedule gives one number; return w\."):
        Function(lambda _: None).values(2)  # type: ignore[return-value]
    for answer in (True, np.bool_(True), "5", [5]):
        with pytest.raises(InputError, match="a schedule gives one number"):
            Function(lambda _, answer=answer: answer).values(2)
    assert Function(lambda _: np.float32(5)).values(1) == [5]  # type: ignore[arg-type,return-value]
    assert as_schedule(max) == Function(max)  # a builtin, whose arguments cannot be read
    for function in (lambda: 5, lambda step, count: 5, lambda *, step: 5):  # noqa: ARG005
        with pytest.raises(InputError, match="it is called with one Step"):
            as_schedule(function)
    with pytest.raises(InputError, match=r"w = inf at step 0 of function\(<lambda>\): w is finite"):
        Function(lambda _: math.inf).values(2)


def test_a_long_warmup_never_divides_by_zero():
    assert Cosine(warmup=10, warmup_start=0).values(5) == pytest.approx([0, 0.75, 1.5, 2.25, 3])
    assert Cosine(warmup=5)(Step(5, 5)) == 7.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(k=0), r"^cosine\(k=0\): it must be above 0; 1 is the plain shape\.$"),
        (lambda: Cosine(k=-0.3), r"^cosine\(k=-0.3\): it must be above 0"),
        (lambda: Cosine(max=math.nan), r"^cosine\(max=nan\): a finite number is needed; write one such as 7.5\.$"),
        (lambda: Constant(math.inf), r"^constant\(value=inf\): a finite number is needed"),
        (lambda: Constant("much"), r"^constant\(value='much'\): a finite number is needed"),
        (lambda: Constant(True), r"^constant\(value=True\): a finite number is needed"),
        (lambda: Constant(10**400), "a finite number is needed"),
        (lambda: Constant(), r"^constant without value: it is needed; write constant\(value=…\)\.$"),
        (lambda: Cosine(cycles=-1), r"^cosine\(cycles=-1\): it must be 0 or more"),
        (lambda: Cosine(warmup=-1), r"^cosine\(warmup=-1\): a whole number of steps is needed, 0 or more"),
        (lambda: Linear(warmup=2.5), r"^linear\(warmup=2.5\): a whole number of steps"),
        (lambda: Power(power=0), r"^power\(power=0\): it must be above 0"),
        (lambda: Linear(k=2), r"^linear has no 'k': it takes max, min, warmup, warmup_start; leave it out\.$"),
        (lambda: Cosine(max_val=9), r"^cosine has no 'max_val': .*; did you mean max\?$"),
        (lambda: Cosine(k_decay=0.3), r"did you mean k\?$"),
        (lambda: Cosine(num_steps=50), r"the run says how many steps it has; write \.values\(50\)"),
        (lambda: Cosine(7.5), r"^cosine\(7.5\): values are given by name; write cosine\(max=7.5, …\)\.$"),
        (lambda: Table([]), r"^table\(entries=\[\]\): a list has 1 to 10000 scales, this one 0"),
        (lambda: Table([1, math.nan]), r"^table\(entries\.1=nan\): a finite number is needed"),
        (lambda: Table("88"), r"^table\(entries='88'\): a list of scales is needed, one a step; write \[8, 6, 4\]\.$"),
        (lambda: Function(3), r"^function\(function=3\): a function Step -> w is needed; write lambda step"),
    ],
)
def test_bad_fields_are_one_line(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_values_are_frozen_and_hash():
    assert Cosine(k=0.3) == Cosine(max=7.5, k=0.3)
    assert len({Cosine(k=0.3), Cosine(k=0.3), Cosine(), Table([1, 2]), Table((1, 2))}) == 3
    with pytest.raises(ValueError, match="frozen"):
        Cosine().k = 2
