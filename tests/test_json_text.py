"""JSON from outside: each key once, within limits."""

import pytest

from cfglab import limits
from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.json_text import read_json
from cfglab.schedules import Schedule, as_schedule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is given twice"),
        ('{"a": NaN}', "NaN: a finite number is needed"),
        ("[-Infinity]", "a finite number is needed"),
        ("[" + "9" * 5000 + "]", "a number of 5,000 digits; at most 400"),
        ("[" * 100_000, "deep"),
        ("[" * 150 + "]" * 150, "more than 100 deep"),
        ("[" + "0," * limits.DOCUMENT_NODES + "0]", "more than 100,000 values"),
        ('"' + "x" * limits.DOCUMENT_BYTES + '"', "bytes; at most"),
        ("{", "no JSON at line 1, column 2"),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_refused_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_json(text)
    for read in (Schedule.from_json, Guidance.from_json):
        with pytest.raises(InputError) as refused:
            read(text)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"transforms": None},
        {"transforms": "apg()"},
        {"transforms": 7},
        {"transforms": [None]},
        {"transforms": [{"kind": []}]},
        {"transforms": [{"kind": "apg", 7: 1}]},
        {"transforms": [{"kind": "apg"}] * 20_000},
        {"schedule": None},
        {"schedule": {"kind": ["constant"]}},
        {"schedule": {"kind": "constant", "value": None}},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_a_guidance_of_wrong_types_is_refused_in_one_line(fields: dict) -> None:
    with pytest.raises(InputError) as refused:
        Guidance(**{"schedule": 7.5, **fields})
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1_500


def test_an_object_inside_itself_and_a_list_without_an_end_are_refused() -> None:
    loop: dict = {"kind": "inverted"}
    loop["base"] = loop
    with pytest.raises(InputError, match="more than 100 deep"):
        as_schedule(loop)
    with pytest.raises(InputError, match="a list has 1 to 10000 scales, this one more"):
        as_schedule(iter(int, 1))


def test_more_schedules_inside_schedules_than_can_be_read_back_are_refused() -> None:
    schedule = as_schedule("cosine()")
    for _ in range(limits.LEVELS - 1):
        schedule = schedule.inverted(1, 7.5)
    assert Schedule.from_json(schedule.to_json()) == schedule
    assert as_schedule(str(schedule)) == schedule
    with pytest.raises(InputError, match="more than 48 deep"):
        schedule.inverted(1, 7.5)
