"""Figures: inline SVG that takes the page's colours and draws the same bytes for the same numbers."""

import xml.etree.ElementTree as ET

from cfglab.metrics.estimate import Estimate
from cfglab.report.page.svg_plots import Curve, PlotPoint, curves, scores
from cfglab.report.summary.axis import Axis

LINES = [Curve(1, [7.5, 4.0, 1.0], 0), Curve(2, [7.5, 5.0, 2.0], 16, marked=True), Curve(3, [None, 5.0, None], 32)]
BASE = Curve(0, [7.5, 7.5, 7.5], 0)
SVG = "{http://www.w3.org/2000/svg}"


def drawn(text: str) -> ET.Element:
    """Parsed as XML, `xlink` declared as matplotlib does."""
    return ET.fromstring(text)


def test_every_setting_has_its_curve_in_its_colour() -> None:
    groups = [it for it in drawn(curves("one", LINES, BASE, "k = 1")).iter(f"{SVG}g") if it.get("class") == "curve"]
    assert sorted({str(it.get("data-setting")) for it in groups}) == ["0", "1", "2", "3"]
    style = {it.get("data-setting"): str(next(it.iter(f"{SVG}path")).get("style")) for it in groups}
    assert "stroke: var(--v0)" in style["1"]
    assert "stroke: var(--v16)" in style["2"]
    assert "stroke: var(--accent)" in style["0"]
    assert "stroke-width: 3.2" in style["2"]
    assert "stroke-width: 1.5" in style["1"]
    assert sum(it.get("data-setting") == "3" for it in groups) == 2  # where guidance is on, and where it is off


def test_the_marked_curve_is_labelled() -> None:
    texts = [it.text for it in drawn(curves("one", LINES, BASE, "k = 1")).iter(f"{SVG}text")]
    assert "k = 1" in texts
    assert "k = 1" not in [it.text for it in drawn(curves("one", LINES, BASE)).iter(f"{SVG}text")]


def test_nothing_of_matplotlib_leaks_into_the_page() -> None:
    text = curves("one", LINES, BASE, "k = 1")
    assert text.startswith("<svg")
    for leak in ("<style", "<metadata", "<?xml", "<!--", "#0102", "#00fe", "DejaVu", "figure_1"):
        assert leak not in text
    assert 'viewBox="' in text


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert curves("one", LINES, BASE, "k = 1") == curves("one", LINES, BASE, "k = 1")


def test_scores_have_whiskers_only_where_there_are_intervals() -> None:
    axis = Axis("k", (0.1, 1.0, 10.0))
    with_interval = [PlotPoint(i, x, Estimate(value=0.5, low=0.4, high=0.6, n=9), i) for i, x in enumerate(axis.values)]
    without = [PlotPoint(i, x, Estimate(value=0.5, n=1), i) for i, x in enumerate(axis.values)]

    def whiskers(points: list[PlotPoint]) -> int:
        return scores("one", points, xlabel="k", ylabel="alignment", percent=True, axis=axis).count("stroke-width: 2.2")

    assert whiskers(with_interval) == 3
    assert whiskers(without) == 0


def test_the_ticks_of_an_axis_are_its_values() -> None:
    axis = Axis("k", (0.1, 1.0, 10.0))
    points = [PlotPoint(i, x, Estimate(value=0.5, low=0.4, high=0.6, n=9), i) for i, x in enumerate(axis.values)]
    texts = [
        it.text
        for it in drawn(scores("one", points, xlabel="k", ylabel="a", percent=False, axis=axis)).iter(f"{SVG}text")
    ]
    assert texts[:3] == ["0.1", "1", "10"]
    assert texts[-2:] == ["k", "a"]
