"""The axis of a group comes from the axes of its settings, else from their guidance."""

import pytest

from cfglab.experiments.spec.setting import Setting
from cfglab.report.summary.axis import SHADES, Axis, axis_of


def setting(name: str, guidance: str, **axes: float | str) -> Setting:
    return Setting(name=name, group="g", title="", guidance=guidance, axes=axes or None)  # type: ignore[arg-type]


def test_the_axis_is_the_one_that_the_settings_state() -> None:
    group = [setting(f"matched {k}", f"cosine(max={5 + k}, min=1, k={k})", k=k) for k in (0.3, 1, 3)]
    assert axis_of(group) == Axis("k", (0.3, 1.0, 3.0))


def test_an_axis_of_text_beside_numbers_is_a_second_axis() -> None:
    shapes = ("cosine", "linear")
    group = [setting(f"{shape} {w}", f"{shape}(max={w})", shape=shape, w=w) for shape in shapes for w in (3, 5)]
    assert axis_of(group) is None


def test_the_axis_is_read_from_the_guidance_where_settings_state_none() -> None:
    group = [setting(name, f"cosine(max=7.5, min={low})") for name, low in (("low", 1), ("high", 4.5))]
    assert axis_of(group) == Axis("min", (1.0, 4.5))


@pytest.mark.parametrize(
    "group",
    [
        [setting("g k=1", "7", k=1)],
        [setting("a", "7", k=1, max=7), setting("b", "8", k=2, max=8)],
        [setting("one", "7"), setting("other", "cosine(max=7)")],
        [setting("one", "7 | prediction_norm()"), setting("other", "7 | update_norm()")],
    ],
    ids=["one setting", "two axes", "two shapes", "two transforms"],
)
def test_no_axis(group: list[Setting]) -> None:
    assert axis_of(group) is None


def test_one_is_marked_else_the_middle() -> None:
    assert Axis("k", (0.1, 1.0, 5.0, 7.0)).marked == 1
    assert Axis("max", (9.0, 3.0, 5.0)).marked == 5


def test_shades_follow_the_value_on_a_logarithmic_scale_where_sizes_differ() -> None:
    axis = Axis("k", (0.1, 1.0, 10.0))
    assert axis.logarithmic
    assert axis.shades() == (0, (SHADES - 1) // 2, SHADES - 1)
    linear = Axis("min", (0.0, 1.0, 4.0))
    assert not linear.logarithmic
    assert linear.shades() == (0, (SHADES - 1) // 4, SHADES - 1)
