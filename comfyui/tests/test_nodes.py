"""The nodes themselves: what they give, and what they refuse."""

import sys
import types
from typing import Any

import pytest
import torch
from comfy.model_base import ModelType

from cfglab import parse
from cfglab.errors import InputError

from .models import patcher, sample


@pytest.fixture(scope="module")
def nodes() -> Any:
    import cfglab_pack.nodes

    return cfglab_pack.nodes


def test_a_schedule_gives_one_w_a_step_and_its_image(nodes: Any) -> None:
    text = "cosine(max=7.5, min=1, k=0.3)"
    w, image = nodes.ScheduleNode.execute(text, 12).args
    assert w == parse(text).values(12)
    assert image.shape == (1, 320, 512, 3)
    assert 0 <= float(image.min()) < float(image.max()) <= 1


@pytest.mark.parametrize(("kind", "on"), [(ModelType.EPS, [False, True, True]), (ModelType.FLOW, [False, True, False])])
def test_sigmas_mean_what_the_model_says(nodes: Any, kind: ModelType, on: list[bool]) -> None:
    sigmas = torch.tensor([1.0, 0.6, 0.3, 0.0])
    w, image = nodes.ScheduleNode.execute("constant(5).inside(sigma=(0.5, 1.6))", 99, sigmas, patcher(kind)).args
    expected = {ModelType.EPS: [5.0, 5.0, 1.0], ModelType.FLOW: [1.0, 5.0, 1.0]}[kind]
    assert w == expected
    assert image.shape == (1, 320, 1024, 3)
    assert len(on) == len(w)


@pytest.mark.parametrize(
    "curve",
    [
        None,
        {"points": [(0, 1), (0.5, 0.5), (1, 0)]},
        [(1, 0), (0, 1), (0.5, 0.5)],
        types.SimpleNamespace(interp=lambda x: 1 - x),
    ],
)
def test_a_curve_becomes_a_schedule_between_min_and_max(nodes: Any, curve: Any) -> None:
    text, w, _ = nodes.CurveNode.execute("0:1, 0.5:0.5, 1:0", 4, 1.0, 9.0, curve).args
    assert w == [9.0, 7.0, 5.0, 3.0]
    assert parse(text).values(4) == w


@pytest.mark.parametrize("points", ["", "0:1, x:2", "0;1", "1"])
def test_points_that_are_none_are_refused_before_anything_runs(nodes: Any, points: str) -> None:
    message = nodes.CurveNode.validate_inputs(points)
    assert "a curve is points x:y" in message
    assert "\n" not in message


def test_a_list_repeats_the_latent_with_the_same_noise(nodes: Any) -> None:
    latent = {"samples": torch.zeros(2, 4, 16, 16)}
    model, batch, count = nodes.GuidanceListNode.execute(patcher(ModelType.EPS), latent, "5\n\n7.5 | apg()\n").args
    assert (batch["samples"].shape[0], batch["batch_index"], count) == (4, [0, 1, 0, 1], 2)
    assert len(latent["samples"]) == 2
    assert [str(guidance) for guidance in model.model_options["transformer_options"]["cfglab"].guidances] == [
        "5",
        "7.5 | apg()",
    ]


def test_a_trace_is_read_after_the_run_also_behind_another_patch(nodes: Any) -> None:
    (model,) = nodes.GuidanceNode.execute(patcher(ModelType.EPS), "7.5").args
    with pytest.raises(InputError, match="a MODEL whose guidance has not run"):
        nodes.TraceNode.execute(model, None)
    sample(model.clone(), steps=3)
    image, table = nodes.TraceNode.execute(model, None).args
    assert image.shape == (1, 320, 1536, 3)
    assert len(table.splitlines()) == 6


def test_a_trace_is_that_of_the_run_which_made_the_latent(nodes: Any) -> None:
    (model,) = nodes.GuidanceNode.execute(patcher(ModelType.EPS), "7.5").args
    first = sample(model, steps=3)
    second = sample(model, sampler="heun", steps=2, denoise=0.5, latent=first)
    titles = [nodes.TraceNode.execute(model, {"samples": latent}).args[1] for latent in (first, second, first + 1)]
    assert titles[0].startswith("run 1 of this MODEL: euler, 3 steps\n")
    assert len(titles[0].splitlines()) == 6
    assert titles[1].startswith("run 2 of this MODEL: heun, 2 steps\n")
    assert titles[2] == titles[1]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("GuidanceNode", "7.5\n5 | apg()", "7.5"),
        ("GuidanceNode", "7.5\n| apg()", ""),
        ("GuidanceListNode", "7.5\n5 | apg()\n", ""),
        ("GuidanceListNode", " \n", "an empty list of guidances"),
        ("ScheduleNode", "7.5 | apg()", "apg"),
        ("ScheduleNode", "cosine(max=7.5, min=1)", ""),
    ],
)
def test_the_line_while_typing_is_that_of_the_node(nodes: Any, name: str, text: str, words: str) -> None:
    from cfglab_pack.texts import fault_of

    node = getattr(nodes, name)
    fault = fault_of(node.GET_SCHEMA().node_id, text)
    assert node.validate_inputs(text) == (fault or True)
    assert words in fault
    assert bool(words) == bool(fault)


def test_a_tuned_file_is_taken_from_the_input_folder_alone(
    nodes: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from .workflows import TUNED

    folder = tmp_path / "input"
    folder.mkdir()
    (folder / "tuned.json").write_text(TUNED)
    (tmp_path / "secret.json").write_text(TUNED)
    monkeypatch.setattr(sys.modules["folder_paths"], "get_input_directory", lambda: str(folder))
    assert nodes.TunedNode.execute("tuned.json").args == ("cosine(max=6, min=1.5, k=0.5) | rescale(strength=0.5)",)
    with pytest.raises(InputError, match=r"secret\.json"):
        nodes.TunedNode.execute("../secret.json")


def test_a_tuned_file_that_is_overwritten_is_read_again(
    nodes: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from .workflows import TUNED

    monkeypatch.setattr(sys.modules["folder_paths"], "get_input_directory", lambda: str(tmp_path))
    (tmp_path / "tuned.json").write_text(TUNED)
    before = nodes.TunedNode.fingerprint_inputs("tuned.json")
    assert nodes.TunedNode.fingerprint_inputs(file="tuned.json") == before
    (tmp_path / "tuned.json").write_text(TUNED.replace("6", "7"))
    assert (
        len({before, nodes.TunedNode.fingerprint_inputs("tuned.json"), nodes.TunedNode.fingerprint_inputs("no")}) == 3
    )


def test_every_node_has_a_schema_a_help_page_and_a_name_of_its_own(nodes: Any) -> None:
    from .conftest import PACK

    names = [node.GET_SCHEMA().node_id for node in nodes.NODES]
    assert len(set(names)) == len(names) == 7
    assert {path.stem for path in (PACK / "web" / "docs").iterdir()} == set(names)
