"""The parts of the playground that need no browser and no model: controls, links, forms, sweeps, votes."""

import doctest
import importlib
import json
from pathlib import Path

import pytest
import yaml

from cfglab.errors import CfglabError, InputError
from cfglab.experiments.spec.experiment import Experiment
from cfglab.guidance import APG, TRANSFORMS, Guidance, parse_guidance
from cfglab.schedules import PUBLISHED, SHAPES
from cfglab.ui import markup, votes
from cfglab.ui.catalogue import Control, compose, methods
from cfglab.ui.engine import ImageRequest, explained
from cfglab.ui.links import PageState, from_query, to_query
from cfglab.ui.sweep import Jobs, SweepForm, experiment_of, read_axes, scaled
from cfglab.ui.take_away import FORMS, taken
from cfglab.viewer.web import listen

EVIL = """<img src=x onerror=alert(1)>"'<script>alert(2)</script>"""


@pytest.mark.parametrize("name", ["ui.links", "ui.sweep", "experiments.analysis.bradley_terry"])
def test_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"cfglab.{name}"))
    assert (result.failed, result.attempted > 0) == (0, True)


def control(method: str, field: str) -> Control:
    return next(control for control in methods()[method].controls if control.name == field)


def test_every_shape_constructor_and_transform_is_a_method_with_all_its_fields() -> None:
    methods.cache_clear()
    assert set(methods()) == {*SHAPES, *PUBLISHED, *TRANSFORMS}
    for kind, transform in TRANSFORMS.items():
        assert [item.name for item in methods()[kind].controls] == [
            name for name in transform.model_fields if name != "kind"
        ]
        assert transform.card is None or methods()[kind].formula == transform.card.formula


def own_methods() -> list[str]:
    """The names of cfglab's own methods, without those that other tests define."""
    methods.cache_clear()
    sources = {**SHAPES, **PUBLISHED, **TRANSFORMS}
    return sorted(name for name in methods() if sources[name].__module__.startswith("cfglab."))


@pytest.mark.parametrize("name", own_methods())
def test_the_ends_and_the_default_of_every_slider_are_values_that_the_field_takes(name: str) -> None:
    method = methods()[name]
    needed = {"skip_layers": {"layers": "mid"}, "autoguidance": {"skip": "mid"}, "table": {"entries": "[8, 6]"}}
    needed["dng"] = {"max": 0.99}  # prior is at most max
    if name == "ideogram4":  # it knows two numbers of steps only
        return
    for item in method.controls:
        if item.kind != "slider" or item.name in (
            "start",
            "stop",
            "tau1",
            "tau2",
            "t_min",
            "t_max",
            "at",
        ):  # checked against each other
            continue
        for value in (item.low, item.default, item.high):
            compose("7.5", method, {**needed.get(name, {}), item.name: value})


def test_bounds_are_those_of_the_fields() -> None:
    assert (control("apg", "eta").low, control("apg", "eta").high) == (0, 1)
    assert (control("apg", "momentum").low, control("apg", "momentum").high) == (-0.99, 0.99)
    assert control("apg", "momentum").default == -0.5
    assert control("apg", "as_in").choices == ("paper", "diffusers", "comfyui", "ace_step")
    assert control("cosine", "k").low > 0
    assert control("wang_linear", "w0").required


def test_a_method_replaces_the_schedule_or_the_transform_of_its_kind() -> None:
    text = compose("7.5 | apg(eta=0.5) | rescale()", methods()["apg"], {"norm_threshold": 15.0})
    assert parse_guidance(text) == Guidance("7.5 | apg(norm_threshold=15) | rescale()")
    assert compose(text, methods()["cosine"], {"k": 0.3}).startswith("cosine(max=7.5, min=1, k=0.3) | apg(")
    assert parse_guidance(compose("not a guidance", methods()["apg"], {})) == Guidance(7.5, [APG()])
    assert compose("5", methods()["seg"], {"sigma": "", "s": 2.0}) == "5 | seg(s=2)"  # an empty box is no value


def test_a_prompt_in_a_field_cannot_leave_its_quotes() -> None:
    text = compose("7.5", methods()["perp_neg"], {"prompt": "a' | apg() | b\"|"})
    (transform,) = parse_guidance(text).transforms
    assert transform.prompt == "a' | apg() | b\"|"  # type: ignore[attr-defined]


def test_a_link_restores_the_state_it_was_made_from() -> None:
    from urllib.parse import parse_qsl

    state = PageState("a cat & <dog> #1", "cosine(max=7.5, min=1, k=0.3) | apg(norm_threshold=15)", 7, 30, "euler")
    assert from_query(dict(parse_qsl(to_query(state)[1:])), PageState()) == state


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"guidance": "7.5 | app()"}, "no transform 'app'"),
        ({"guidance": "9" * 5000}, "more than 4,000 characters"),
        ({"steps": "1e9"}, "a whole number"),
        ({"steps": "9999"}, "at most 150"),
        ({"seed": "-1"}, "a whole number"),
        ({"seed": str(2**64)}, "2^64 - 1"),
        ({"sampler": "eula"}, "did you mean euler"),
    ],
)
def test_a_bad_link_is_one_clear_line(query: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as fault:
        from_query(query, PageState())
    assert words in str(fault.value)
    assert "\n" not in str(fault.value)


def test_every_form_reads_back_as_the_same_guidance() -> None:
    state = PageState("a cat", "cosine(max=7.5)|apg( )", 3, 25, "euler")
    guidance = parse_guidance(state.guidance)
    assert parse_guidance(taken("Text", state, "scenes")) == guidance
    assert parse_guidance(taken("ComfyUI", state, "scenes")) == guidance
    assert Guidance.from_json(taken("JSON", state, "scenes")) == guidance
    experiment = Experiment.from_yaml(taken("YAML", state, "scenes"))
    assert experiment.settings[1].guidance == guidance
    assert (experiment.seeds, experiment.steps, experiment.sampler) == ((3,), 25, "euler")
    link = taken("Link", state, "scenes", "http://127.0.0.1:7860/?prompt=old")
    assert link.startswith("http://127.0.0.1:7860/?prompt=a+cat&")
    compile(taken("Python", PageState('it\'s a "cat"\n'), "scenes"), "form", "exec")
    assert set(FORMS) == {"Text", "Python", "JSON", "YAML", "ComfyUI", "Link"}


def test_axes_are_read_from_the_text_and_become_the_settings() -> None:
    form = SweepForm("cosine(max={w:3, 7.5}, k={k:0.3,1}) | rescale(strength={w2:0.5})", "a cat\n\n a dog ", "0..1")
    experiment = experiment_of(form, "scenes")
    assert [str(setting.guidance) for setting in experiment.settings[1:3]] == [
        "cosine(max=3, min=1, k=0.3) | rescale(strength=0.5)",
        "cosine(max=3, min=1) | rescale(strength=0.5)",
    ]
    assert (len(experiment.settings), experiment.prompts, experiment.seeds) == (5, ("a cat", "a dog"), (0, 1))
    assert read_axes(scaled("[8, 6] | apg()"))[1] == {"scale": [0.5, 1, 1.5]}


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (SweepForm("7.5", "a cat"), "a sweep has an axis"),
        (SweepForm("{w}", "a cat"), "has no values"),
        (SweepForm("{w:1,2} | rescale(strength={w:3})", "a cat"), "two lists of values"),
        (SweepForm("{w:1,2}", "  "), "without a prompt"),
        (SweepForm("{w:1,2}", "@/etc/passwd"), "names a file"),
        (SweepForm("{w:1,2}", "a cat", "0..999"), "at most 400"),
        (SweepForm("{w:1,2}", "a cat", name="../up"), "folder"),
        (SweepForm("{w:1,two}", "a cat"), "two"),
        (SweepForm(f"{{w:1,{'9' * 5000}}}", "a cat"), "a finite number is needed"),
    ],
)
def test_a_sweep_that_cannot_be_is_one_clear_line(form: SweepForm, words: str) -> None:
    with pytest.raises(InputError) as fault:
        experiment_of(form, "scenes")
    assert words in str(fault.value)


def test_only_run_folders_directly_in_the_folder_of_runs_can_be_opened(tmp_path: Path) -> None:
    from cfglab.ui.engine import Engine

    for folder in ("runs/good", "runs/empty", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("runs/good", "outside"):
        (tmp_path / folder / "results.sqlite").touch()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "outside")
    jobs = Jobs(Engine(), tmp_path / "runs")
    assert jobs.names() == ["good"]
    for name in ("../outside", "link", "empty", "", ".", "good/../../outside", str(tmp_path / "outside")):
        with pytest.raises(InputError, match="no such run"):
            jobs.folder(name)


def test_votes_are_appended_and_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "new" / "votes.jsonl"
    facts = {"blind": True, "prompt": "a\ncat", "seed": 1, "steps": 20, "sampler": "lms", "model": "scenes"}
    for outcome in ("left", "left", "right", "tie"):
        votes.add_vote(
            path, votes.StoredVote.model_validate({"left": "7.5", "right": "1", "outcome": outcome, **facts})
        )
    lines = path.read_text().splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["left", "left", "right", "tie"]
    assert [(row.name, row.wins, row.ties) for row in votes.table(path).rows] == [("7.5", 2, 1), ("1", 1, 1)]
    path.write_text("\n".join([*lines, "{}"]))
    with pytest.raises(InputError, match="line 5 is no vote"):
        votes.read_votes(path)


def test_text_from_outside_is_escaped_everywhere() -> None:
    from cfglab.experiments.analysis.bradley_terry import bradley_terry

    pieces = [
        markup.error(EVIL),
        markup.checked(EVIL, 20),
        markup.pair_view("u", "u", (EVIL, EVIL), blind=False),
        markup.strip(["u"], [EVIL]),
        markup.curve([(EVIL, [1.0, 2.0]), ("b", [1.0, 2.0])]),
        markup.votes_table(bradley_terry([(EVIL, "b", "left"), (EVIL, "b", "right")])),
    ]
    for piece in pieces:
        assert "<script" not in piece
        assert "<img src=x" not in piece


def test_what_an_image_may_be_is_checked_before_the_model_is_asked() -> None:
    with pytest.raises(InputError, match="every step needs its own"):
        ImageRequest("a cat", (parse_guidance("[8, 6]"),), steps=3)
    ImageRequest("a cat", (parse_guidance("cfg_plus_plus(lam=0.6)"),), steps=3)  # needs the noise levels of a run


def test_whatever_goes_wrong_is_one_line() -> None:
    assert "does not fit" in str(explained(RuntimeError("CUDA out of memory. Tried\nto allocate")))
    assert str(explained(InputError("as it is."))) == "as it is."
    assert "\n" not in str(explained(ValueError("a\nb")))


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with listen("127.0.0.1", 0) as taken_port, pytest.raises(InputError, match=r"--port \d+ on 127.0.0.1: cannot be"):
        listen("127.0.0.1", taken_port.getsockname()[1])
    with pytest.raises(InputError, match="0 to 65535"):
        listen("127.0.0.1", 70_000)
    with pytest.raises(CfglabError, match="no address of this computer"):
        listen("nowhere.invalid", 0)


def test_the_space_asks_for_the_playground_and_names_gradios_version() -> None:
    space = Path(__file__).parents[2] / "space"
    _, front, _ = (space / "README.md").read_text().split("---", 2)
    facts = yaml.safe_load(front)
    assert (facts["sdk"], facts["app_file"]) == ("gradio", "app.py")
    pinned = next(line for line in (space.parent / "constraints.txt").read_text().splitlines() if "gradio==" in line)
    assert facts["sdk_version"] == pinned.partition("==")[2]
    assert "cfglab[ui]" in (space / "requirements.txt").read_text()
