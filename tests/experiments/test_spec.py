"""Experiments: from YAML and back, templates, changes by dotted path, and what is refused in one line."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cfglab.errors import InputError
from cfglab.experiments.execution.run import run
from cfglab.experiments.spec.difference import describe_difference
from cfglab.experiments.spec.experiment import Experiment, preset_names, read_assignments
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.store import Store
from cfglab.guidance import Composed, Guidance
from cfglab.report import report
from cfglab.schedules import Function
from tests.experiments.examples import SMALL


def test_axes_are_a_product_and_templates_are_filled() -> None:
    experiment = Experiment.from_yaml(
        SMALL.replace("k={k})", "k={k}, min={low})")
        .replace("min=1, ", "")
        .replace("[0.3, 1]}", "[0.3, 1.0], low: [1, 2]}")
    )
    assert [setting.name for setting in experiment.settings] == [
        "constant",
        *("falling k=0.3, low=1", "falling k=0.3, low=2", "falling k=1, low=1", "falling k=1, low=2"),
    ]
    assert experiment.settings[2].title == "k = 0.3"
    assert str(experiment.settings[2].guidance) == "cosine(max=7.5, min=2, k=0.3)"
    assert experiment.settings[0] == experiment.baseline
    assert experiment.baseline.group == "baseline"


def test_constants_fill_baseline_groups_and_settings() -> None:
    text = SMALL.replace("baseline:", "constants: {best: 3, n: 2}\nbaseline:").replace('"7.5"', '"{best}"')
    listed = {"name": "b", "guidance": "{best} | apg()", "best_of": "{n}", "title": "{n} of {best}"}
    experiment = Experiment.from_yaml(
        text, set={"constants.best": 4, "settings": [listed], "baseline.best_of": "{n}", "noise": "nested"}
    )
    assert str(experiment.baseline.guidance) == "4"
    setting = experiment.settings[1]
    assert (str(setting.guidance), setting.best_of, setting.title) == ("4 | apg()", 2, "2 of 4")
    assert experiment.baseline.best_of == 2


@pytest.mark.parametrize("name", preset_names())
def test_presets_read_and_survive_the_round_trip(name: str) -> None:
    experiment = Experiment.preset(name)
    assert experiment.name == name
    assert experiment.question.endswith("?")
    assert Experiment.from_yaml(experiment.to_yaml()) == experiment
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment
    assert len(experiment.prompts) * len(experiment.seeds) >= 16


def test_the_sweep_has_the_published_numbers() -> None:
    experiment = Experiment.preset("k-decay")
    means = {setting.name: round(setting.guidance.schedule.dose(50), 4) for setting in experiment.settings}
    assert len(means) == 21
    assert means["constant"] == 7.5
    assert (means["k-decay k=0.1"], means["k-decay k=5"]) == (1.3344, 6.6122)
    assert (means["inverted k=0.1"], means["inverted k=5"]) == (7.1656, 1.8878)


def test_part_one_changes_one_parameter_at_a_time_and_warms_up_from_zero() -> None:
    experiment = Experiment.preset("part1")
    assert len(experiment.settings) == 2 + 9
    warm = experiment.setting("warm-up warmup=10").guidance.schedule.values(50)
    assert warm[0] == 0
    assert warm[10] == 7.5


def test_equal_dose_is_equal_and_what_cannot_be_matched_is_left_out_with_the_reason() -> None:
    experiment = Experiment.preset("k-decay-equal-dose")
    for setting in experiment.settings:
        assert setting.guidance.schedule.dose(50) == pytest.approx(4)
    assert [left.name for left in experiment.left_out] == [
        *(f"k-decay k={k}" for k in (0.1, 0.2, 0.3)),
        "inverted k=5",
    ]
    assert "beyond the limit 15" in experiment.left_out[0].reason
    with pytest.raises(InputError, match=r"it would reach w = 137\.1"):
        Experiment.preset("k-decay-equal-dose", set={"baseline.guidance": "cosine(k=0.1).matched_to(8)"})


def test_fields_and_dotted_paths_change_a_preset() -> None:
    experiment = Experiment.preset(
        "k-decay",
        prompts=("a", "b"),
        seeds="3..4",
        steps=20,
        negative=None,
        set={"groups.0.axes.k": [0.3, 1], "groups.inverted.axes.k": 2, "baseline.title": "base", "width": 128},
    )
    assert experiment.prompts == ("a", "b")
    assert experiment.seeds == (3, 4)
    assert (experiment.steps, experiment.width, experiment.negative) == (20, 128, "")
    assert [s.name for s in experiment.settings] == ["constant", "k-decay k=0.3", "k-decay k=1", "inverted k=2"]
    assert experiment.baseline.title == "base"
    assert Experiment.preset("k-decay").steps == 50  # the preset itself is untouched


def test_assignments_are_yaml() -> None:
    assert read_assignments(["steps=20", "groups.0.axes.k=[0.3, 1]", "negative=a = b"]) == {
        "steps": 20,
        "groups.0.axes.k": [0.3, 1],
        "negative": "a = b",
    }
    with pytest.raises(InputError, match=r"--set steps: write field=value"):
        read_assignments(["steps"])
    with pytest.raises(InputError, match="the value is no YAML"):
        read_assignments(["steps=[1"])


def test_the_id_is_of_the_content_and_not_of_the_title() -> None:
    one = Experiment.from_yaml(SMALL)
    assert len(one.id) == 64
    assert one.id == Experiment.from_yaml(SMALL, question="Another?", title="Another").id
    others = {"seeds": "0..2", "steps": 4, "prompts": ["a cat"], "negative": "blur", "sampler": "euler", "model": "m"}
    ids = {Experiment.from_yaml(SMALL, **{field: value}).id for field, value in others.items()}
    ids.add(Experiment.from_yaml(SMALL, set={"groups.0.axes.k": [0.3, 1, 2]}).id)
    ids.add(Experiment.from_yaml(SMALL, set={"baseline.guidance": "7.4"}).id)
    assert len(ids | {one.id}) == len(others) + 3


def test_what_differs_between_two_experiments_is_named() -> None:
    one = Experiment.from_yaml(SMALL)
    assert describe_difference(one, Experiment.preset("scale")) == "the experiment 'small', not 'scale'"
    assert (
        describe_difference(one, Experiment.from_yaml(SMALL, seeds=5))
        == "the experiment 'small' with seeds 0..1, not 5"
    )
    assert "other settings" in describe_difference(one, Experiment.from_yaml(SMALL, set={"groups.0.axes.k": 2}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps 0: a run has at least one step"),
        ({"steps": "many"}, "steps: 'many': input should be a valid integer"),
        ({"stepz": 5}, "there is no field 'stepz'; .* did you mean steps?"),
        ({"dtype": "float8"}, "dtype: 'float8': input should be 'float32', 'float16' or 'bfloat16'"),
        ({"sampler": "lmx"}, "sampler 'lmx': there are .* did you mean lms?"),
        ({"width": 100}, "width 100: a size is a multiple of 8"),
        ({"prompts": []}, "prompts: there are none; give at least one"),
        ({"prompts": ["a", "a"]}, "prompts: 'a' is there twice"),
        ({"seeds": [1, 1]}, "seeds: 1 is there twice"),
        ({"seeds": "7..3"}, "seeds '7..3': a range runs upwards"),
        ({"seeds": -1}, "seeds -1: a seed is a whole number, 0 or more"),
        ({"groups.0.axes.q": [1]}, "there is no field 'q'; there are k;"),
        ({"groups.1.axes.k": [1]}, "there is no '1'; there is 0 falling;"),
        ({"groups.fallin.axes.k": [1]}, "there is no 'fallin'; there is 0 falling; did you mean falling?"),
        ({"groups.0.guidanc": "3"}, "there is no field 'guidanc'; .* did you mean guidance?"),
        ({"constants.w": 3}, "constants is not in this experiment yet; set constants as a whole"),
        ({"steps.count": 3}, "steps is one value with nothing below it; set steps itself"),
        ({"groups.0.axes.k": []}, "groups.falling.axes.k: has no values"),
        ({"groups.0.axes.k": [0.3, 0]}, r"setting 'falling k=0': .*k=0.*above 0"),
        ({"groups.0.axes.k": ["nan"]}, "setting 'falling k=nan'"),
        ({"groups.0.axes.k": [1, 1]}, "settings: 'falling k=1' is there twice"),
        ({"groups.0.guidance": "cosin(k={k})"}, "setting 'falling k=0.3': .*cosine"),
        ({"groups.0.guidance": "{q}"}, r"groups.falling.guidance: \{q\} is no axis of this group; it has k;"),
        ({"baseline.guidance": "10x2"}, "a list of 10 scales for 11 steps"),
        ({"baseline.name": "real"}, "setting 'real': results keep that name"),
        ({"groups": "all"}, "groups: 'all': input should be a valid list"),
        ({"groups.0.guidance": "5"}, r"groups.falling.axes.k: no \{k\} is in its guidance, best_of or early"),
        ({"prompts": ["a", 1984]}, "prompts.1: 1984: input should be a valid string"),
        ({"prompts": 1984}, "prompts: 1984: input should be a valid string or list"),
        ({"arguments": {"a": {"b": 1}}}, "arguments.a: .*input should be a valid boolean, integer, number, string or"),
        ({"baseline.guidance": {"w": 1}}, "baseline.guidance: .*boolean, integer, number, string or tuple"),
        ({"baseline.name": " a"}, "baseline.name: ' a': a name is one line of text"),
        ({"baseline.name": ""}, "baseline.name: '': a name is one line of text"),
        ({"settings": [{"name": "a\nb", "guidance": 5}]}, r"settings.0.name: 'a\\nb': a name is one line of text"),
        ({"settings": [5]}, "settings.0: 5: a mapping of fields such as `name:` is needed"),
        ({"settings": [{"name": "a", "guidance": "linear(max=7", "min=1)": None}]}, "a comma ends a value; put text"),
    ],
)
def test_bad_experiments_are_refused_in_one_line(changes: dict[str, object], words: str) -> None:
    if "baseline.guidance" in changes:
        changes = {**changes, "steps": 11}
    with pytest.raises(InputError, match=words) as caught:
        Experiment.from_yaml(SMALL, set=changes)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_unknown_presets_and_unreadable_files() -> None:
    with pytest.raises(InputError, match=r"'k-deacy' is no preset; there are .* did you mean k-decay?"):
        Experiment.preset("k-deacy")
    with pytest.raises(InputError, match=r"none\.yaml: the file cannot be read \(No such file"):
        Experiment.from_yaml("none.yaml")
    with pytest.raises(InputError, match="no YAML at line 3, column 6"):
        Experiment.from_yaml("name: x\nprompts: [a\nseeds: 3}")
    with pytest.raises(InputError, match="an experiment is a mapping of fields"):
        Experiment.from_yaml("just words")
    with pytest.raises(InputError, match="baseline: is missing; write it, as a preset does"):
        Experiment.from_yaml("name: x\nprompts: [a]")


def test_settings_and_experiments_in_python() -> None:
    base = Setting(name="base", group="baseline", title="base", guidance=3)
    other = Setting(name="other", group="other", title="other", guidance="cosine(max=3) | prediction_norm()")
    experiment = Experiment(name="own", prompts=("a cat",), seeds=(0,), baseline=base, settings=(base, other))
    assert experiment.setting("other") == other
    assert Experiment.from_yaml(experiment.to_yaml()) == experiment
    with pytest.raises(InputError, match=r"'othr' is no setting of own: did you mean other?"):
        experiment.setting("othr")
    with pytest.raises(InputError, match="the baseline is the first of them"):
        Experiment(name="own", prompts=("a cat",), seeds=(0,), baseline=base, settings=(other, base))


def _setting(guidance: Any) -> Setting:
    return Setting(name="a", group="a", title="a", guidance=guidance)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda folder: run("k-decay", folder),
            "experiment 'k-decay': an Experiment is needed",
        ),
        (lambda _: run(Experiment.from_yaml(SMALL), None), "path None: it is a NoneType, and a path is text"),
        (lambda _: Store.open(5), "path 5: it is a int, and a path is text"),
        (lambda _: Store.create("", Experiment.from_yaml(SMALL)), "path '': it is empty"),
        (lambda _: report(5), "path 5: it is a int"),
        (lambda _: Setting(name="a", guidance=3), "setting 'a': group: is missing"),
        (lambda _: Setting(name="a", group="a", title="a", guidance=3, best_off=2), "there is no field 'best_off'"),
        (lambda _: _setting(lambda step: 7.5 - step.progress), "setting 'a': the function '<lambda>' cannot be stored"),
        (lambda _: _setting(Guidance(Function(max).inside(progress=(0, 0.5)))), "the function 'max' cannot be stored"),
        (lambda _: _setting(Guidance(3, [Composed(prompt="\ud800")])), "it cannot be stored as JSON"),
    ],
)
def test_values_of_another_kind_in_python_are_one_line(tmp_path: Path, make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        make(tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_home_folder_is_found_in_python_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Store.create("~/run", Experiment.from_yaml(SMALL)).close()
    assert (tmp_path / "run" / "results.sqlite").is_file()
    assert not (tmp_path / "~").exists()


def test_reading_and_planning_load_no_torch() -> None:
    code = (
        "import sys, cfglab.experiments, cfglab.experiments.scoring.scorer; from cfglab.experiments import Experiment;"
        "Experiment.preset('k-decay'); print(sorted({'torch', 'diffusers', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("steps: 7:30", r"steps: '7:30': .*a number in base 60 in YAML 1\.1"),
        ("steps: 010", r"steps: '010': .*a number in base 8"),
        ("steps: 0o10", "steps: '0o10'"),
        ("steps: 1_000", "steps: '1_000'"),
        ("steps: yes", "steps: 'yes'"),
        ("steps: true", "steps: True: a whole number is needed"),
        ("steps: 1e30", "steps: 1e\\+30"),
        ("steps: 20000", "steps 20000: a run has at most 10000 steps"),
        ("steps: 2001-99-99", "steps: '2001-99-99'"),
        ("steps: 0x", "steps: '0x'"),
        ("compile: on", "compile: 'on': .*is true in YAML 1\\.1"),
        ("seeds: 007", "seeds: '007'"),
        ("seeds: [1, 0b11]", "seeds .0b11.: a seed is a whole number"),
        ("width: 1_024", "width: '1_024'"),
        ("width: 1000000000", "at most 4096 pixels"),
        ("constants: {a: 010}", "constants.a: '010'"),
        ("baseline: {guidance: 7:30}", "baseline.guidance: '7:30'"),
        ("baseline: {guidance: [8, [6]]}", "a list here is a list of scales"),
        ("baseline: {guidance: []}", "a list here is a list of scales"),
        ("baseline: {guidance: .nan}", "a finite number is needed"),
        ("baseline: {guidance: 1-10}", "looks like a range"),
        ("name: again", "line 10: 'name' is given twice, first on line 2"),
    ],
)
def test_yaml_that_is_unclear_or_beyond_a_limit_is_refused_in_one_line(line: str, words: str) -> None:
    field = line.partition(":")[0]
    kept = [other for other in SMALL.splitlines() if field == "name" or not other.startswith(f"{field}:")]
    with pytest.raises(InputError, match=words) as refused:
        Experiment.from_yaml("\n".join([*kept, line, ""]))
    assert "\n" not in str(refused.value)


def test_words_of_yaml_1_1_are_text_where_text_is_meant() -> None:
    experiment = Experiment.from_yaml(SMALL, set=read_assignments(["negative=no", "prompts=[on, 7:30, 010x]"]))
    assert (experiment.negative, experiment.prompts) == ("no", ("on", "7:30", "010x"))
    assert Experiment.from_yaml(experiment.to_yaml()) == experiment


def test_a_list_of_scales_stands_wherever_a_schedule_does() -> None:
    expected = (8.0, 6.0, 4.5)
    by_set = Experiment.from_yaml(SMALL, set=read_assignments(["baseline.guidance=[8, 6, 4.5]"]))
    by_yaml = Experiment.from_yaml(SMALL.replace('"7.5"', "[8, 6, 4.5]"))
    in_python = Setting(name="a", group="a", title="a", guidance=[8, 6, 4.5])
    as_axis = Experiment.from_yaml(
        SMALL.replace("cosine(max=7.5, min=1, k={k})", "{k}"), set={"groups.0.axes.k": [[8, 6, 4.5], 2]}
    )
    as_constant = Experiment.from_yaml(
        SMALL.replace('"7.5"', '"{w}"').replace("baseline:", "constants: {w: [8, 6, 4.5]}\nbaseline:")
    )
    for setting in (by_set.baseline, by_yaml.baseline, in_python, as_axis.settings[1], as_constant.baseline):
        assert setting.guidance.schedule.entries == expected  # type: ignore[attr-defined]
    assert as_axis.settings[1].name == "falling k=[8, 6, 4.5]"


def test_axis_values_are_run_and_named_exactly() -> None:
    values = [0.1 + 0.2, 0.3, 1.0000000000000002, 1 / 3, 0.333333333333, 123456789.125, 1e-13]
    experiment = Experiment.from_yaml(SMALL, set={"groups.0.axes.k": values})
    assert [setting.guidance.schedule.k for setting in experiment.settings[1:]] == values  # type: ignore[attr-defined]
    assert len({setting.name for setting in experiment.settings}) == 1 + len(values)
    moments = Experiment.from_yaml(
        SMALL.replace("cosine(max=7.5, min=1, k={k})", "constant(3).then(1, at={k})"), set={"groups.0.axes.k": [1, 1.0]}
    )
    assert [setting.guidance.schedule.values(3) for setting in moments.settings[1:]] == [[3, 1, 1], [3, 3, 3]]
    assert [setting.name for setting in moments.settings[1:]] == ["falling k=1", "falling k=1.0"]


def test_prompts_of_a_file_are_read_beside_the_yaml_and_never_drawn_as_text(tmp_path, monkeypatch) -> None:
    (tmp_path / "more.txt").write_text("a dog\n\na cow\n")
    file = tmp_path / "mine.yaml"
    file.write_text(SMALL.replace("prompts: [", "prompts: ['@more.txt', "))
    assert Experiment.from_yaml(file).prompts[:2] == ("a dog", "a cow")
    assert Experiment.from_yaml(str(file)).prompts[:2] == ("a dog", "a cow")
    with pytest.raises(InputError, match=r"prompts .@more\.txt.: the file cannot be read"):
        Experiment.from_yaml(SMALL, prompts="@more.txt")
    monkeypatch.chdir(tmp_path)
    by_set = Experiment.from_yaml(SMALL, set=read_assignments(["prompts=@more.txt"]))
    assert by_set.prompts == ("a dog", "a cow") == Experiment.from_yaml(SMALL, prompts=["@more.txt"]).prompts
    with pytest.raises(InputError, match="@ names a file of prompts"):
        Experiment(**{**{name: getattr(by_set, name) for name in Experiment.model_fields}, "prompts": ("@x",)})


def test_a_value_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'steps' is given twice"):
        read_assignments(["steps=20", " steps=30"])
    with pytest.raises(InputError, match="steps: is given twice, as a field and in --set"):
        Experiment.from_yaml(SMALL, steps=20, set={"steps": 30})
    with pytest.raises(InputError, match=r"groups\.falling\.axes\.k: is a constant as well"):
        Experiment.from_yaml(SMALL, set={"constants": {"k": 3}})


def test_what_is_no_ordinary_file_or_too_large_is_not_read(tmp_path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match="not a file"):
        Experiment.from_yaml(tmp_path / "pipe.yaml")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(InputError, match="bytes, and at most"):
        Experiment.from_yaml(tmp_path / "large.yaml")


def test_grids_beyond_the_limits_are_refused_before_they_are_written_out() -> None:
    axes = {name: list(range(1, 101)) for name in "abc"}
    with pytest.raises(InputError, match="at most 10,000 settings"):
        Experiment.from_yaml(SMALL, set={"groups.0.axes": axes})
    with pytest.raises(InputError, match="1,000,000 settings times steps"):
        Experiment.from_yaml(SMALL, set={"groups.0.axes.k": list(range(1, 200)), "steps": 9999})


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("g k=0.3", {"k": 0.3}),
        ("g k=0.3, w=2", {"k": 0.3, "w": 2}),
        ("g shape=cosine(max=7.5, min=linear(1, 2)), w=2", {"shape": "cosine(max=7.5, min=linear(1, 2))", "w": 2}),
        ("g list=[1, 2], w=2", {"list": "[1, 2]", "w": 2}),
        ("g w=inf", {"w": "inf"}),
        ("g", {}),
        ("a name of its own", {}),
        ("k=1 and more, by hand", {}),
    ],
)
def test_a_setting_that_was_stored_without_axes_has_those_of_its_name(name: str, axes: dict[str, object]) -> None:
    stored = {"name": name, "group": "g", "title": "", "guidance": 3}
    assert Setting.model_validate(stored).axes == axes
    assert "axes" not in Setting.model_validate(stored).model_dump()


def test_axes_that_a_name_does_not_state_are_stored_and_change_no_id() -> None:
    text = "name: x\nprompts: [a cat]\nbaseline: {name: base, guidance: 3}\n"
    group = "groups: [{name: g, guidance: '{w}', axes: {w: [[3, 2], [4, 1]]}}]\nsteps: 2\n"
    of = Experiment.from_yaml(text + group)
    assert [setting.axes for setting in of.settings] == [{}, {"w": (3, 2)}, {"w": (4, 1)}]
    assert Experiment.from_yaml(of.to_yaml()) == of == Experiment.model_validate_json(of.model_dump_json())
    older = of.model_dump_json(exclude={"settings": {"__all__": {"axes"}}})
    assert '"axes"' not in older
    assert Experiment.model_validate_json(older).settings[1].axes == {"w": "[3, 2]"}
    assert Experiment.model_validate_json(older).id == of.id
