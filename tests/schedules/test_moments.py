"""A number that says when: an int is a step, a float is a fraction of the run, 1.0 is the whole run."""

import pytest

from cfglab.errors import InputError
from cfglab.schedules import Constant, Cosine, Linear, Schedule, Table, as_schedule, parse
from cfglab.schedules.algebra import Then, WarmedUp
from cfglab.schedules.fields import boundary
from cfglab.schedules.published.named import cutoff, late_start


def test_one_is_the_first_step_and_one_point_zero_the_end_of_the_run() -> None:
    for at, values in ((1, [7.5, 1, 1, 1]), (1.0, [7.5] * 4), (2, [7.5, 7.5, 1, 1]), (0.5, [7.5, 7.5, 1, 1])):
        for schedule in (Constant(7.5).then(1, at=at), parse(f"constant(7.5).then(1, at={at})")):
            assert schedule.values(4) == values


@pytest.mark.parametrize("at", [1, 1.0, 2, 0.5])
def test_a_moment_survives_text_python_and_json(at: float) -> None:
    for schedule in (Constant(7.5).then(1, at=at), Constant(7.5).then(1, at=at).reversed()):
        back = [parse(str(schedule)), Schedule.from_json(schedule.to_json())]
        back.append(eval(repr(schedule), {"Constant": Constant}))
        assert [it.values(4) for it in back] == [schedule.values(4)] * 3
        assert back == [schedule] * 3


def test_a_step_is_not_equal_to_a_fraction() -> None:
    assert Constant(7.5).then(1, at=1) != Constant(7.5).then(1, at=1.0)
    assert Constant(7.5).then(1, at=1).reversed() != Constant(7.5).then(1, at=1.0).reversed()
    assert len({Constant(7.5).then(1, at=1), Constant(7.5).then(1, at=1.0)}) == 2
    step, whole = (Linear(max=4, min=2).then(9, at=at).matched_to(3) for at in (1, 1.0))
    assert step.values(4) != whole.values(4)  # the factor of one is not that of the other


def test_a_warm_up_over_the_whole_run() -> None:
    schedule = parse("constant(5).warmed_up(fraction=1.0)")
    assert schedule.values(4) == [1, 2, 3, 4]
    assert str(schedule) == "constant(5).warmed_up(fraction=1.0)"
    assert parse(str(schedule)) == schedule == Schedule.from_json(schedule.to_json())


@pytest.mark.parametrize(
    "text",
    [
        "constant(7.5).then(1, at=10.0)",
        "constant(7.5).then(1, at=1.5)",
        "constant(7.5).then(1, at=0.0)",
        "constant(7.5).warmed_up(1.0)",
        "constant(7.5).warmed_up(steps=5.0)",
        "constant(7.5).warmed_up(fraction=1)",
        "constant(7.5).inside(steps=(0.0, 1.0))",
        "constant(7.5).inside(steps=(0, 5.0))",
        "cosine(warmup=1.0)",
        "linear(warmup=0.1)",
        "cutoff(w=7.5, at=1)",
        "late_start(w=7.5, at=1)",
        "cutoff(w=7.5, at=2.0)",
    ],
)
def test_what_could_be_either_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"step|fraction|window"):
        parse(text)


def test_published_windows_take_steps_as_well() -> None:
    assert cutoff(w=5, at=2).values(4) == [5, 5, 1, 1] == cutoff(w=5, at=0.5).values(4)
    assert late_start(w=5, at=3).values(4) == [1, 1, 1, 5]
    assert late_start(w=5, at=0).values(2) == [5, 5] == cutoff(w=5, at=1.0).values(2)


def test_numbers_of_numpy_are_steps_and_fractions_too() -> None:
    numpy = pytest.importorskip("numpy")
    assert Constant(7.5).then(1, at=numpy.int64(1)) == Constant(7.5).then(1, at=1)
    assert Constant(7.5).then(1, at=numpy.float64(1)) == Constant(7.5).then(1, at=1.0)
    assert Cosine(warmup=numpy.int32(3)) == Cosine(warmup=3)


def test_older_json_means_what_it_meant() -> None:
    line = '{"kind":"then","first":{"kind":"constant","value":7.5},"second":{"kind":"constant","value":1.0},"at":1}'
    assert Schedule.from_json(line).values(3) == [7.5, 1, 1]


def test_the_first_step_at_or_after_a_fraction() -> None:
    for count in (1, 2, 3, 7, 10, 49, 50, 100, 333):
        for moment in (
            1e-9,
            0.1,
            0.2,
            0.3,
            1 / 3,
            0.5,
            0.7,
            0.999999,
            1.0,
            *(index / count for index in range(1, count)),
        ):
            assert boundary(moment, count) == next((i for i in range(count) if i / count >= moment), count)


def test_every_field_that_takes_both_says_so() -> None:
    assert Then.moments == ("at",)
    assert WarmedUp.moments == ("over",)
    assert as_schedule({"kind": "warmed_up", "base": {"kind": "table", "entries": [3, 3]}, "over": 1}) == Table(
        [3, 3]
    ).warmed_up(1)
