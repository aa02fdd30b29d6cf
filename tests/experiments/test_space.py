"""A guidance with gaps: what its placeholders mean, and what is refused."""

import pytest

from cfglab.errors import InputError
from cfglab.experiments.tuning.search_space import SearchSpace
from cfglab.guidance import Guidance
from cfglab.schedules import Constant, Cosine
from tests.fuzz.readers import deadline


def test_placeholders_become_parameters_and_values_a_guidance() -> None:
    space = SearchSpace.of(
        "cosine(max={max:1..6}, min=1, k={k:0.2..5:log}).inverted() | prediction_norm(strength={s:0..1})", 20
    )
    assert [(it.name, it.low, it.high, it.log, it.whole) for it in space.parameters] == [
        ("max", 1, 6, False, False),
        ("k", 0.2, 5, True, False),
        ("s", 0, 1, False, False),
    ]
    found = space.guidance({"max": 3.14159, "k": 0.5, "s": 0.25})
    assert found.schedule == Cosine(max=3.142, min=1, k=0.5).inverted()
    assert str(found) == "cosine(max=3.142, min=1, k=0.5).inverted() | prediction_norm(strength=0.25)"
    assert Guidance.model_validate_json(found.model_dump_json()) == found


def test_a_name_that_comes_again_has_one_value() -> None:
    space = SearchSpace.of("cosine(max={w:1..6}, min=1).then({w}, at=0.5)", 10)
    assert len(space.parameters) == 1
    assert str(space.guidance({"w": 2.0})) == "cosine(max=2, min=1).then(2, at=0.5)"


def test_knots_are_joined_by_straight_lines_over_the_steps() -> None:
    space = SearchSpace.of("{w:knots(3):0..6}", 5)
    assert [(it.name, it.low, it.high) for it in space.parameters] == [("w0", 0, 6), ("w1", 0, 6), ("w2", 0, 6)]
    values = space.guidance({"w0": 1.0, "w1": 3.0, "w2": 2.0}).schedule.values(5)
    assert values == [1, 2, 3, 2.5, 2]
    line = SearchSpace.of("{w:knots(2):0..6}", 4).guidance({"w0": 0, "w1": 6})
    assert line.schedule.values(4) == [0, 2, 4, 6]


def test_whole_numbers_and_choices() -> None:
    space = SearchSpace.of("constant({w:1..6}).warmed_up(steps={n:1..8:int}) | {norm:full_norm|update_norm}", 10)
    assert [(it.whole, it.choices) for it in space.parameters] == [
        (False, ()),
        (True, ()),
        (False, ("full_norm", "update_norm")),
    ]
    found = space.guidance({"w": 2.5, "n": 3, "norm": "update_norm"})
    assert found.schedule == Constant(2.5).warmed_up(steps=3)
    assert [type(it).__name__ for it in found.transforms] == ["UpdateNorm"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cosine(max=7.5, min=1)", "has no placeholder, so there is nothing to tune; write {k:0.2..5}"),
        ("constant({w})", "'{w}' in the guidance to tune: a placeholder has a name and a range"),
        ("constant({1..6})", "'{1..6}' in the guidance to tune: a placeholder has a name"),
        ("constant({w:1-6})", "'{w:1-6}' in the guidance to tune cannot be read; write {k:0.2..5}"),
        ("constant({w:6..1})", "'{w:6..1}': a range runs upwards; write {w:1..6}"),
        ("constant({w:0..6:log})", "'{w:0..6:log}': a logarithmic range is above 0; start it at 0.1"),
        ("constant({w:0.5..6:int})", "'{w:0.5..6:int}': whole numbers have whole ends; write {w:0..6:int}"),
        ("{w:knots(1):0..6}", "'{w:knots(1):0..6}': knots are 2 to 50, with a range; write {w:knots(5):1..6}"),
        ("{w:knots(3)}", "knots are 2 to 50, with a range"),
        ("{w:1..2} | {n:full_norm|full_norm}", "choices are different words"),
        ("constant({w:1..6}).then({w:1..2}, at=0.5)", "w was given a range before; repeat it as {w}"),
        ("cosin(max={w:1..6}, min=1)", "did you mean cosine?"),
        ("{w:1..6} | {n:full_norm|update_nrm}", "did you mean update_norm?"),
        ("cosine(max=2, min=1, k={k:-1..5})", "it must be above 0"),
    ],
)
def test_what_is_no_search_space(text: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        SearchSpace.of(text, 10)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "constant({w:" + "1" * 4_000 + ".." + "1" * 4_000 + "x})",
        "constant({w:" + "1" * 9_000 + "})",
        "constant({w:1.." + "2" * 9_000 + "e})",
        "{w:knots(" + "1" * 9_000 + "):1..2}",
        "{" * 9_000,
        "{w:1..2" * 1_000,
        "{" + "a" * 9_000 + ":1..2}",
        "{w:1..2}" * 200,
        "1x1" + "{w:1..2}" + "1+1x1" * 1_500 + "a",
        "{w:" + "|".join(f"c{i}" for i in range(500)) + "}",
        "7 " * 200_000,
        "{n:1..9e300:int}",
        "{w:٣..٤}",
    ],
    ids=lambda text: text[:24],
)
def test_placeholders_are_read_in_a_time_like_their_length(text: str) -> None:
    with deadline(), pytest.raises(InputError) as refused:
        SearchSpace.of(text, 10)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1_500


def test_a_range_of_fractions_ends_with_the_whole_run_and_not_with_step_one() -> None:
    space = SearchSpace.of("constant({w:1..6}).then(1, at={at:0.5..1})", 4)
    assert space.guidance({"w": 6.0, "at": 1.0}).schedule.values(4) == [6, 6, 6, 6]
    assert space.guidance({"w": 6.0, "at": 0.5}).schedule.values(4) == [6, 6, 1, 1]
    whole = SearchSpace.of("constant({w:1..6}).then(1, at={at:1..123456:int})", 4)
    assert whole.guidance({"w": 6.0, "at": 1}).schedule.values(4) == [6, 1, 1, 1]
    assert str(whole.guidance({"w": 6.0, "at": 123456})) == "constant(6).then(1, at=123456)"
