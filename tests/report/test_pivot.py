"""Axes of any number, as the settings state them."""

from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.report.summary.pivot import pivot

HEAD = "name: x\nprompts: [a cat, a dog]\nbaseline: {name: base, guidance: 3}\n"


def made(groups: str) -> Experiment:
    return Experiment.from_yaml(f"{HEAD}{groups}\n")


def setting(name: str, group: str = "g") -> Setting:
    return Setting(name=name, group=group, title="", guidance="3")  # type: ignore[arg-type]


def test_one_and_one_point_zero_are_two_values_only_where_an_axis_has_both() -> None:
    it = made(
        """groups:
  - {name: a, guidance: "constant(3).inside(steps=({n}, 9))", axes: {n: [0, 1]}}
  - {name: b, guidance: "cosine(max=3, k={n})", axes: {n: [1.0, 2]}}"""
    )
    assert [axis.values for axis in pivot(it.settings, 1).axes if axis.name == "n"] == [("0", "1", "2")]
    both = made("groups:\n  - {name: a, guidance: 'cosine(max=3, k={n})', axes: {n: [1, 1.0]}}")
    assert [axis.values for axis in pivot(both.settings, 1).axes if axis.name == "n"] == [("1", "1.0")]


def test_axes_come_from_the_settings_and_not_from_their_names() -> None:
    stated = [
        Setting(name=f"nothing in the name {k}", group="g", title="", guidance=3, axes={"k": k})  # type: ignore[arg-type]
        for k in (3, 0.5)
    ]
    found = pivot([setting("base"), *stated], 1)
    assert [(axis.name, axis.values) for axis in found.axes[1:]] == [("k", ("0.5", "3"))]
    assert found.at == ((-1, -1), (0, 1), (1, 0))


def test_three_axes_of_two_groups() -> None:
    it = made(
        """groups:
  - {name: cosine, guidance: "cosine(max={w}, min={m}, k={k})", axes: {w: [10, 3], m: [0, 1], k: [1, 0.3, 3]}}
  - {name: linear, guidance: "linear(max={w}, min={m})", axes: {w: [3, 5], m: [0]}}"""
    )
    found = pivot(it.settings, 2)
    values = {axis.name: axis.values for axis in found.axes}
    assert list(values) == ["setting", "group", "w", "m", "k"]
    assert (values["w"], values["m"], values["k"]) == (("3", "5", "10"), ("0", "1"), ("0.3", "1", "3"))
    assert values["group"] == ("cosine", "linear")
    assert found.at[0] == (-1,) * 5  # the baseline stands on no axis
    for one, place in zip(it.settings[1:], found.at[1:], strict=True):
        told = {name: f"{value}" for name, value in one.axes.items()}
        assert found.axes[0].values[place[0]] == one.title
        for number, axis in enumerate(found.axes[1:], 1):
            expected = one.group if axis.name == "group" else told.get(axis.name)
            assert (axis.values[place[number]] if place[number] >= 0 else None) == expected
    assert (found.rows, found.columns) == ("group", "w")


def test_the_first_look() -> None:
    one = "  - {name: a, guidance: '{w}', axes: {w: [1, 2, 3]}}"
    two = "  - {name: a, guidance: 'cosine(max={w}, k={k})', axes: {w: [2, 3], k: [1, 2, 3]}}"
    other = "  - {name: b, guidance: 'linear(max={w})', axes: {w: [2, 3]}}"
    plain = "  - {name: c, guidance: 7}\n  - {name: d, guidance: 9}"

    def looks(groups: str, prompts: int) -> tuple[str, str]:
        found = pivot(made(f"groups:\n{groups}").settings, prompts)
        return found.rows, found.columns

    assert looks(one, 2) == ("prompt", "w")
    assert looks(one, 1) == ("seed", "w")
    assert looks(two, 2) == ("w", "k")
    assert looks(f"{one}\n{other}", 2) == ("group", "w")
    assert looks(plain, 1) == ("seed", "setting")
    apart = "  - {name: b, guidance: 'linear(max={m})', axes: {m: [2, 3, 4, 5]}}"
    assert looks(f"{one}\n{apart}", 2) == ("prompt", "m")  # no setting has both w and m


def test_an_axis_may_not_take_the_name_of_another_thing() -> None:
    it = made("groups:\n  - {name: a, guidance: '{seed}', axes: {seed: [1, 2]}}")
    assert [axis.name for axis in pivot(it.settings, 1).axes] == ["setting"]


def test_a_baseline_alone() -> None:
    found = pivot(made("").settings, 1)
    assert [axis.values for axis in found.axes] == [()]
    assert found.at == ((-1,),)
