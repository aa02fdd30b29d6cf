"""Numbers as people read them."""

import pytest

from cfglab.report.formatting import count, gap, gap_span, p_value, shown, span


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.875, "share", "87.5\N{NARROW NO-BREAK SPACE}%"),
        (1.0, "share", "100\N{NARROW NO-BREAK SPACE}%"),
        (0.0, "share", "0\N{NARROW NO-BREAK SPACE}%"),
        (0.0686, "share", "6.9\N{NARROW NO-BREAK SPACE}%"),
        (4.315, "dose", "4.32"),
        (7.5, "dose", "7.50"),
        (0.38251, "0 to 1", "0.383"),
        (12345.6, "", "12346"),
        (1e30, "dose", "1e+30"),
        (-1.2345e12, "", "−1.23e+12"),
        (-0.00012, "squared MMD", "−0.00012"),
        (None, "share", "–"),
    ],
)
def test_shown(value: float | None, unit: str, text: str) -> None:
    assert shown(value, unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.625, "share", "+62\N{NARROW NO-BREAK SPACE}points"),
        (-0.0281, "share", "−2.8\N{NARROW NO-BREAK SPACE}points"),
        (-1.0, "share", "−100\N{NARROW NO-BREAK SPACE}points"),
        (0.0, "share", "0\N{NARROW NO-BREAK SPACE}points"),
        (0.0123, "", "+0.012"),
        (None, "", "–"),
    ],
)
def test_gap(value: float | None, unit: str, text: str) -> None:
    assert gap(value, unit) == text


def test_intervals_say_their_unit_once() -> None:
    assert span(0.0625, 0.5, "share") == "6.2 to 50\N{NARROW NO-BREAK SPACE}%"
    assert gap_span(-0.1, 0.3, "share") == "−10 to +30\N{NARROW NO-BREAK SPACE}points"
    assert span(None, None, "share") == gap_span(None, None) == ""


def test_p_is_never_nought() -> None:
    assert [p_value(p) for p in (None, 0.0, 0.0009, 0.0391, 0.1, 1.0)] == [
        "–",
        "< 0.001",
        "< 0.001",
        "0.039",
        "0.10",
        "1.00",
    ]


def test_counts() -> None:
    assert count(1, "image") == "1\N{NARROW NO-BREAK SPACE}image"
    assert count(1024, "image") == "1,024\N{NARROW NO-BREAK SPACE}images"
