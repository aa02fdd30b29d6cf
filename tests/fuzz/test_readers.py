"""Whatever a reader is given, it reads or refuses in one line, within its time. The long form is in tests/torture."""

import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.readers import PIECES, READERS, TooSlow, check, deadline, long, spoiled, spoiled_json

few = settings(max_examples=50, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
JSON = ("schedule json", "guidance json", "objects", "record")


@pytest.mark.parametrize("name", READERS)
def test_good_input_is_read(name: str) -> None:
    reader, good = READERS[name]
    for text in good:
        with deadline():
            reader(text)


@pytest.mark.parametrize("name", READERS)
@few
@given(choose=st.randoms())
def test_spoiled_input_is_read_or_refused_in_one_line(name: str, choose: random.Random) -> None:
    spoil = choose.choice((spoiled, spoiled_json)) if name in JSON else spoiled
    check(name, spoil(choose.choice(READERS[name][1]), choose))


@pytest.mark.parametrize("name", READERS)
@few
@given(text=st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_pieces_are_read_or_refused_in_one_line(name: str, text: str) -> None:
    check(name, text)


@pytest.mark.parametrize("name", READERS)
def test_any_piece_again_and_again_is_read_in_time(name: str) -> None:
    choose = random.Random(name)
    for piece in choose.sample(PIECES, 12):
        good = choose.choice(READERS[name][1])
        at = choose.randint(0, len(good))
        check(name, long(piece, 20_000))
        check(name, long(piece, 20_000, good[:at], good[at:]))


@pytest.mark.parametrize("digits", ["9" * 5_000, "0" * 5_000 + "7"], ids=["nines", "zeros"])
@pytest.mark.parametrize("name", READERS)
def test_a_number_of_more_digits_than_python_reads_is_read_or_refused_in_one_line(name: str, digits: str) -> None:
    for good in READERS[name][1]:
        for number in re.finditer("[0-9]+", good):
            check(name, good[: number.start()] + digits + good[number.end() :])


def test_the_clock_stops_a_reader() -> None:
    def for_ever() -> None:
        with deadline(0.05):
            while True:
                pass

    with pytest.raises(TooSlow):
        for_ever()
