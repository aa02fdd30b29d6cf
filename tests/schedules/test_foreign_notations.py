"""What other programs mean by a text is not read as something else; nothing takes longer than its length says."""

from contextlib import suppress

import pytest

from cfglab.errors import InputError
from cfglab.guidance import Guidance, parse_guidance
from cfglab.schedules import from_invokeai, from_sd_cpp, parse
from tests.fuzz.readers import deadline

REFUSED = {
    "1-10": "looks like a range",
    "10-1": "looks like a range",
    "1 - 10": "looks like a range",
    "[1-3, 4]": "looks like a range",
    "cosine(max=1-10)": "looks like a range",
    "7,5": "a comma between numbers makes a list",
    "8, 6, 4": "a comma between numbers makes a list",
    "7.5,": "a comma between numbers makes a list",
    "constant(3).then((7, 5), at=2)": "a comma between numbers makes a list",
    "10x8+6": "every part of a list is steps x scale",
    "6+10x8": "every part of a list is steps x scale",
    "2*10x8": "every part of a list is steps x scale",
    "0x1F": "is not written as a schedule is",
    "0b11": "numbers are decimal",
    "1_000": "numbers are decimal",
    "cosine(max=0xA)": "numbers are decimal",
    "--1": "is not written as a schedule is",
    "10--1": "is not written as a schedule is",
    "- -1": "is not written as a schedule is",
    "+-1": "is not written as a schedule is",
    "1e400": "a finite number is needed",
    "7.5:1": "is not written as a schedule is",
    "0.5@3": "only numbers, lists",
    "50%": "is not written as a schedule is",
    "1..10": "is not written as a schedule is",
    "1-5 (+2)": "only numbers, lists",
    "1-10 [5]": "only numbers, lists",
    "7.5 to 1": "is not written as a schedule is",
    "７.５": "is not written as a schedule is",
    "٣x4": "is not written as a schedule is",
    "0:(7.5), 10:(5)": "is not written as a schedule is",
    "7.5 # was 8\n9": "is not written as a schedule is",
    "5.inside(progress=(0, 0.5))": "write constant(5).inside(…)",
    "12.then(3, at=2)": "write constant(12).then(…)",
    "5 | apg()": "leave out the first bar and what follows",
    "linear(max=7 | 3)": "leave out the first bar and what follows",
    "cfg_skip(w=5, mode='erly', ratio=0.7)": "did you mean early?",
    "linear(max='7')": "numbers without quotes",
}


@pytest.mark.parametrize("text", REFUSED)
def test_other_notations_are_refused(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(text)
    assert REFUSED[text] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_arithmetic_with_room_around_it_stays() -> None:
    assert str(parse("cosine(max=2 * 4 - 1)")) == "cosine(max=7, min=1)"
    assert str(parse("cosine(max=10 - 1)")) == "cosine(max=9, min=1)"
    assert parse("constant(1) - 10").values(1) == [-9]
    assert parse("(10x8) + 6").values(10) == [14] * 10
    assert parse("linear() - -1").values(1) == [8.5]


@pytest.mark.parametrize("text", ["1_0x3", "٣x4", "0xAx2", "nanx3", "infx3", "3x-1", "3x3+", "7x" + "9" * 5000])
def test_lists_of_stable_diffusion_cpp_are_decimal(text: str) -> None:
    with pytest.raises(InputError, match="is no part of a guidance_schedule"):
        from_sd_cpp(text)


@pytest.mark.parametrize(
    "text", ["[NaN]", "[1e999]", "[[7]]", "[true]", '["7"]', "[" * 9999, "7,5", "null", '{"a": 1}']
)
def test_lists_of_invokeai_are_numbers(text: str) -> None:
    with pytest.raises(InputError) as refused:
        from_invokeai(text)
    assert len(str(refused.value)) < 400


SIZES = {
    "transforms": "7" + " | apg()" * 20_000,
    "bars in quotes": "7 | apg(prompt='" + "|" * 400_000 + "')",
    "quotes that never end": "7 | " + "'\\" * 200_000,
    "fields": "cosine(" + ", ".join(f"a{index}=1" for index in range(20_000)) + ")",
    "fields of a transform": "7 | apg(" + ", ".join(f"a{index}=1" for index in range(20_000)) + ")",
    "one name": "a" * 400_000 + "()",
    "a list that ends wrongly": "1x11+" * 100_000 + "1x11a",
    "a list of one number": "1x" + "1" * 400_000 + "a",
    "room": "1x1" + " " * 400_000 + "x",
    "digits": "9" * 400_000,
    "a sum": "1+" * 200_000 + "1",
    "brackets": "[" * 400_000,
    "products": "*".join(["9" * 300] * 1_000),
    "commas": "1," * 200_000,
    "calls": "cosine()+" * 40_000 + "1",
    "words": "cosine()" + ".reversed()" * 40_000,
}


@pytest.mark.parametrize("name", SIZES)
def test_large_text_is_refused_in_a_time_like_its_length(name: str) -> None:
    with deadline(), pytest.raises(InputError) as refused:
        parse_guidance(SIZES[name])
    assert len(str(refused.value)) < 1_500
    with pytest.raises(InputError):
        Guidance(SIZES[name])


def test_bars_in_quotes_divide_nothing_however_many_they_are() -> None:
    prompt = "a | b" * 50_000
    with deadline():
        guidance = parse_guidance(f"7 | perp_neg(prompt='{prompt}')")
    assert guidance.transforms[0].prompt == prompt  # type: ignore[attr-defined]


def test_a_field_given_twice_is_refused_everywhere() -> None:
    for text in ("cosine(k=1, k=2)", "7 | apg(eta=0.1, eta=0.2)"):
        with pytest.raises(InputError, match="twice"):
            parse_guidance(text)


def test_python_says_nothing_of_its_own_about_a_text(recwarn: pytest.WarningsRecorder) -> None:
    for text in ("1if 1else 2", "7 | perp_neg(prompt='a \\d')", "5 (2)"):
        with suppress(InputError):
            parse_guidance(text)
    assert not recwarn.list
