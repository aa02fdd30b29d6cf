"""What the judge says beside what the prompt asked."""

from typing import NamedTuple

import pytest

from cfglab.metrics.alignment import alignment, by_composition, prompt_alignment
from cfglab.metrics.registry import METRICS
from cfglab.scenes.vocabulary import Scene, caption, triples


class Read(NamedTuple):
    a: str | None
    relation: str | None = None
    b: str | None = None
    background: str | None = None


RIDING = Scene(a="astronaut", relation="riding", b="horse")
BESIDE = Scene(a="frog", relation="next to", b="mushroom", background="green")
ALONE = Scene(a="cat")


def parts(scene: Scene, read: Read) -> dict[str, float]:
    found = alignment(scene, read)
    return {name.removeprefix("alignment").removeprefix("_") or "all": value for name, value in found.items()}


@pytest.mark.parametrize(
    ("asked", "read", "expected"),
    [
        (RIDING, Read("astronaut", "riding", "horse", "pink"), {"all": 1, "a": 1, "b": 1, "relation": 1}),
        (RIDING, Read("horse", "riding", "astronaut"), {"all": 0, "a": 0, "b": 0, "relation": 1}),
        (RIDING, Read("astronaut", "above", "horse"), {"all": 0, "a": 1, "b": 1, "relation": 0}),
        (RIDING, Read("horse", "above", "astronaut"), {"all": 0, "a": 0, "b": 0, "relation": 0}),
        (RIDING, Read("horse", "next to", "astronaut"), {"all": 0, "a": 1, "b": 1, "relation": 0}),
        (RIDING, Read("astronaut"), {"all": 0, "a": 1, "b": 0, "relation": 0}),
        (RIDING, Read(None), {"all": 0, "a": 0, "b": 0, "relation": 0}),
        (
            BESIDE,
            Read("frog", "next to", "mushroom", "green"),
            {"all": 1, "a": 1, "b": 1, "relation": 1, "background": 1},
        ),
        (
            BESIDE,
            Read("mushroom", "next to", "frog", "green"),
            {"all": 1, "a": 1, "b": 1, "relation": 1, "background": 1},
        ),
        (
            BESIDE,
            Read("mushroom", "next to", "cat", "green"),
            {"all": 0, "a": 0, "b": 1, "relation": 1, "background": 1},
        ),
        (BESIDE, Read("mushroom", "above", "frog", None), {"all": 0, "a": 1, "b": 1, "relation": 0, "background": 0}),
        (ALONE, Read("cat", None, None, "blue"), {"all": 1, "a": 1}),
        (ALONE, Read("cat", None, "dog"), {"all": 0, "a": 1}),
        (ALONE, Read("cat", "riding", "dog"), {"all": 0, "a": 1}),
        (ALONE, Read("cat", "riding"), {"all": 0, "a": 1}),
        (ALONE, Read("dog"), {"all": 0, "a": 0}),
        (ALONE, Read(None), {"all": 0, "a": 0}),
    ],
)
def test_parts(asked: Scene, read: Read, expected: dict[str, int]) -> None:
    assert parts(asked, read) == expected


def test_a_scene_read_as_itself_is_right_and_read_as_any_other_is_not() -> None:
    scenes = triples()[::23]
    for asked in scenes:
        for drawn in scenes:
            right = alignment(asked, Read(drawn.a, drawn.relation, drawn.b))["alignment"]
            assert right == float(asked.triple == drawn.triple)


def test_prompts_of_another_world_are_not_judged() -> None:
    assert prompt_alignment("a photograph of a quiet city at night", Read("cat")) == {}
    assert prompt_alignment(caption(RIDING), Read("astronaut", "riding", "horse"))["alignment"] == 1.0


def test_every_part_is_registered() -> None:
    parts = set(alignment(BESIDE, Read(None))) | {"alignment_seen", "alignment_unseen"}
    assert parts == {name for name in METRICS if name.startswith("alignment")}


def test_alignment_once_more_by_what_training_showed() -> None:
    seen = next(scene for scene in triples(("riding",)) if not scene.held_out)
    assert RIDING.held_out
    assert by_composition(seen, 1.0) == {"alignment_seen": 1.0}
    assert by_composition(RIDING, 0.0) == {"alignment_unseen": 0.0}
    assert by_composition(Scene(a="cat"), 1.0) == {}
    assert all(name == metric.name and metric.says.endswith(".") for name, metric in METRICS.items())
