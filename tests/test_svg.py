"""Plots as SVG: values stand where the ticks say, texts are escaped, and nothing is imported for it."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from math import log10

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfglab.svg import Axis, Level, Line, Mark, log_ticks, path, plot, ticks

SVG = "{http://www.w3.org/2000/svg}"
EVIL = """</text><script>alert(1)</script>"&'"""


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)


def texts(text: str) -> list[str]:
    return [element.text or "" for element in parsed(text).iter(f"{SVG}text")]


def ticks_of(text: str) -> tuple[dict[float, float], dict[float, float]]:
    """(value -> x of its label, value -> y of its label), read from the figure."""
    group = next(element for element in parsed(text).iter(f"{SVG}g") if element.get("class") == "plot-ticks")
    across, up = {}, {}
    for element in group:
        value = float((element.text or "").replace("−", "-"))
        if element.get("text-anchor") == "middle":
            across[value] = float(element.get("x", ""))
        else:
            up[value] = float(element.get("y", ""))
    return across, up


def curve(text: str) -> list[tuple[float, float]]:
    group = next(element for element in parsed(text).iter(f"{SVG}g") if element.get("class") == "curve")
    numbers = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", str(group[0].get("d")))
    return [(float(x), float(y)) for x, y in numbers]


@pytest.mark.parametrize("logarithmic", [False, True])
def test_values_stand_where_the_ticks_say(logarithmic: bool) -> None:
    x, y = [1.0, 3.0, 10.0, 40.0], [2.0, 20.0, 5.0, 90.0]
    figure = plot("t", lines=[Line(y, x, key="1")], x=Axis("x"), y=Axis("y", logarithmic=logarithmic))
    across, up = ticks_of(figure)
    assert len(across) >= 3
    assert len(up) >= 3

    def between(value: float, labels: dict[float, float], shift: float, scale: bool) -> float:
        (low, first), (high, second) = min(labels.items()), max(labels.items())
        low, high, value = (log10(number) if scale else number for number in (low, high, value))
        return first + shift + (second - first) * (value - low) / (high - low)

    half_a_line = -0.36 * 10.5  # the labels' baselines are below their middle
    for (px, py), at, value in zip(curve(figure), x, y, strict=True):
        assert px == pytest.approx(between(at, across, 0, False), abs=0.02)
        assert py == pytest.approx(between(value, up, half_a_line, logarithmic), abs=0.02)


@given(st.floats(-50, 50), st.floats(1e-3, 1e6))
def test_ticks_are_round_evenly_spaced_and_inside(start: float, span: float) -> None:
    low, high = start * span, start * span + span
    found = ticks(low, high)
    assert 2 <= len(found) <= 6
    assert all(low - 1e-6 * span <= value <= high + 1e-6 * span for value in found)
    step = found[1] - found[0]
    assert f"{step:.1e}".split("e")[0] in ("1.0", "2.0", "2.5", "5.0")
    assert [value / step for value in found] == pytest.approx([round(value / step) for value in found], abs=1e-3)


def test_whole_ticks_have_no_fractions() -> None:
    assert ticks(0, 3, 9, whole=True) == [0, 1, 2, 3]
    assert ticks(0, 0.4, whole=True) == [0]


def test_logarithmic_ticks_are_decades_with_two_and_five_where_there_are_few() -> None:
    assert log_ticks(0.3, 3) == [0.5, 1, 2]
    assert log_ticks(0.001, 1000) == [0.001, 0.01, 0.1, 1, 10, 100, 1000]


def test_a_curve_is_broken_where_it_has_no_value_and_a_value_alone_is_a_dot() -> None:
    assert path([(0, 0), (1, 2), None, (3, 4), None, (5, 5), (6, 6)]) == "M0 0L1 2M3 4h0M5 5L6 6"


def test_every_text_is_escaped() -> None:
    figure = plot(
        EVIL,
        description=EVIL,
        lines=[Line([1, 2, 3], label=EVIL, key=EVIL, colour=f"red;{EVIL}", note_at=1)],
        marks=[Mark(1, 2, colour=EVIL)],
        x=Axis(EVIL),
        y=Axis(EVIL),
        labels="legend",
        width=1000,
    )
    assert "<script" not in figure
    assert parsed(figure)[0].text == EVIL
    assert texts(figure).count(EVIL) == 4  # two axes, the note and the legend
    assert [it.get("data-setting") for it in parsed(figure).iter(f"{SVG}g") if it.get("data-setting")] == [EVIL]


def test_a_figure_is_named_and_described_for_those_who_do_not_see_it() -> None:
    first, second = (parsed(plot("w", description=f"{n} curves", lines=[Line([1, 2])])) for n in (1, 2))
    for figure in (first, second):
        ids = {element.get("id"): element.text for element in figure.iter() if element.get("id")}
        assert figure.get("role") == "img"
        assert [ids[name] for name in str(figure.get("aria-labelledby")).split()] == [
            "w",
            figure[1].text,
        ]
    assert not {it.get("id") for it in first.iter()} & {it.get("id") for it in second.iter()} - {None}


def test_labels_at_the_ends_do_not_overlap_and_stay_inside() -> None:
    lines = [Line([5, 1 + index / 100], label=f"k = {index}") for index in range(8)]
    figure = parsed(plot("t", lines=lines, labels="ends", font=10))
    heights = sorted(float(it.get("y", "")) for it in figure.iter(f"{SVG}text") if (it.text or "").startswith("k = "))
    assert len(heights) == 8
    assert min(b - a for a, b in pairwise(heights)) >= 10
    assert heights[-1] <= 227
    assert heights[0] >= 0


def test_a_legend_lists_every_line_and_adds_its_own_height() -> None:
    labels = [f"schedule {index}" for index in range(12)] + ["x" * 500]
    figure = plot("t", lines=[Line([1, 2], label=label) for label in labels], labels="legend")
    assert [text for text in texts(figure) if text.startswith("schedule")] == labels[:12]
    assert texts(figure)[-1].endswith("x…")
    height = float(str(parsed(figure).get("viewBox")).split()[3])
    assert max(float(it.get("y", "")) for it in parsed(figure).iter(f"{SVG}text")) < height
    assert height > 227


def test_intervals_levels_and_bands_are_drawn_where_they_are_known() -> None:
    marks = [Mark(1, 2, 1, 3), Mark(2, 2)]
    figure = plot("t", marks=marks, levels=[Level(2, 1.5, 2.5), Level(1)])
    assert figure.count('class="plot-point"') == 2
    assert figure.count('class="plot-interval"') == 1
    assert figure.count("<rect") == 1
    assert figure.count("stroke-dasharray") == 2


def test_only_a_styled_figure_brings_colours_and_it_brings_both_themes() -> None:
    plain, styled = (plot("t", lines=[Line([1, 2])], styled=styled) for styled in (False, True))
    assert "<style" not in plain
    assert "<style" in styled
    assert "prefers-color-scheme:dark" in styled
    for variable in set(re.findall(r"var\((--\w+)\)", styled)):
        assert styled.count(f"{variable}:") == 4  # light and dark, each by the system and by the page around it


@pytest.mark.parametrize("lines", [[], [Line([])], [Line([None, None])], [Line([3.0])], [Line([3.0, 3.0])]])
def test_few_or_equal_values_make_a_figure_too(lines: list[Line]) -> None:
    figure = plot("t", lines=lines, labels="ends")
    assert "nan" not in figure
    parsed(figure)


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        plot("t", lines=[Line([1.0, float("nan")])])


def test_the_same_values_give_the_same_bytes_and_load_nothing() -> None:
    code = (
        "import sys\nfrom cfglab.svg import Line, plot\n"
        "print(plot('w', lines=[Line([7.5, 4, 1], label='cosine')], labels='legend', styled=True))\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'jinja2', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    printed = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout for _ in range(2)]
    assert printed[0] == printed[1]
    here = plot("w", lines=[Line([7.5, 4, 1], label="cosine")], labels="legend", styled=True)
    assert printed[0].decode("utf-8").strip() == here
