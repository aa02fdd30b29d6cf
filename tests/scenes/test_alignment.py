"""What a classifier finds in an image beside what the prompt states."""

from dataclasses import replace
from typing import Any

import pytest

from cfglab.metrics.registry import METRICS
from cfglab.scenes.alignment import alignment, by_composition, prompt_alignment
from cfglab.scenes.vocabulary import Scene, SceneLabels, caption, triples

RIDING = Scene("astronaut", "riding", "horse")
BESIDE = Scene("frog", "next to", "mushroom", "green")
COLOURED = Scene("car", "and", "balloon", colour_a="red", colour_b="blue")
ALONE = Scene("cat")
THREE = Scene("fish", count=3, colour_a="yellow")


def found(a: str | None = None, arranged: str | None = None, b: str | None = None, **further: Any) -> SceneLabels:
    count = None if b else 1
    return SceneLabels(**{"whole": True, "a": a, "arranged": arranged, "b": b, "count": count, **further})


def parts(scene: Scene, labels: SceneLabels) -> dict[str, float]:
    values = alignment(scene, labels)
    return {name.removeprefix("alignment").removeprefix("_") or "all": value for name, value in values.items()}


TWO = {"whole": 1, "a": 1, "b": 1, "relation": 1}


@pytest.mark.parametrize(
    ("stated", "labels", "expected"),
    [
        (RIDING, found("astronaut", "riding", "horse", background="pink"), {"all": 1, **TWO}),
        (RIDING, found("astronaut", "riding", "horse", whole=False), {"all": 0, **TWO, "whole": 0}),
        (RIDING, found("horse", "riding", "astronaut"), {"all": 0, **TWO, "a": 0, "b": 0}),
        (RIDING, found("astronaut", "above", "horse"), {"all": 0, **TWO, "relation": 0}),
        (RIDING, found("horse", "above", "astronaut"), {"all": 0, **TWO, "a": 0, "b": 0, "relation": 0}),
        (RIDING, found("horse", "beside", "astronaut"), {"all": 0, **TWO, "relation": 0}),
        (RIDING, found("astronaut"), {"all": 0, **TWO, "b": 0, "relation": 0}),
        (RIDING, found(), {"all": 0, "whole": 1, "a": 0, "b": 0, "relation": 0}),
        (BESIDE, found("frog", "beside", "mushroom", background="green"), {"all": 1, **TWO, "background": 1}),
        (BESIDE, found("mushroom", "beside", "frog", background="green"), {"all": 1, **TWO, "background": 1}),
        (BESIDE, found("mushroom", "beside", "cat", background="green"), {"all": 0, **TWO, "a": 0, "background": 1}),
        (BESIDE, found("mushroom", "above", "frog"), {"all": 0, **TWO, "relation": 0, "background": 0}),
        (
            BESIDE,
            found("frog", "apart", "mushroom", background="green"),
            {"all": 0, **TWO, "relation": 0, "background": 1},
        ),
        (COLOURED, found("car", "apart", "balloon", colour_a="red", colour_b="blue"), {"all": 1, **TWO, "colours": 1}),
        (COLOURED, found("balloon", "above", "car", colour_a="blue", colour_b="red"), {"all": 1, **TWO, "colours": 1}),
        (COLOURED, found("car", "apart", "balloon", colour_a="blue", colour_b="red"), {"all": 0, **TWO, "colours": 0}),
        (COLOURED, found("car", "apart", "balloon", colour_a="red"), {"all": 0, **TWO, "colours": 0}),
        (
            COLOURED,
            found("car", None, "balloon", colour_a="red", colour_b="blue"),
            {"all": 0, **TWO, "relation": 0, "colours": 1},
        ),
        (ALONE, found("cat", background="blue"), {"all": 1, "whole": 1, "a": 1}),
        (ALONE, found("cat", count=2), {"all": 0, "whole": 1, "a": 1}),
        (ALONE, found("cat", "beside", "dog"), {"all": 0, "whole": 1, "a": 1}),
        (ALONE, found("cat", count=None), {"all": 0, "whole": 1, "a": 1}),
        (ALONE, found("dog"), {"all": 0, "whole": 1, "a": 0}),
        (THREE, found("fish", count=3, colour_a="yellow"), {"all": 1, "whole": 1, "a": 1, "count": 1, "colours": 1}),
        (THREE, found("fish", count=2, colour_a="yellow"), {"all": 0, "whole": 1, "a": 1, "count": 0, "colours": 1}),
        (THREE, found("fish", count=3, colour_a="red"), {"all": 0, "whole": 1, "a": 1, "count": 1, "colours": 0}),
        (
            THREE,
            found("fish", "beside", "fish", colour_a="yellow"),
            {"all": 0, "whole": 1, "a": 1, "count": 0, "colours": 1},
        ),
    ],
)
def test_parts(stated: Scene, labels: SceneLabels, expected: dict[str, int]) -> None:
    assert parts(stated, labels) == expected


def test_two_side_by_side_are_matched_in_the_better_order_with_their_colours() -> None:
    stated = Scene("car", "next to", "balloon", colour_a="red", colour_b="blue")
    labels = found("balloon", "beside", "car", colour_a="blue", colour_b="red")
    assert alignment(stated, labels)["alignment"] == 1
    assert alignment(replace(stated, colour_b="red"), labels)["alignment"] == 0


def test_a_scene_is_found_as_itself_and_not_as_any_other() -> None:
    arranged = {None: None, "riding": "riding", "next to": "beside", "above": "above"}
    scenes = triples((None, "riding", "next to", "above"))[::37]
    for stated in scenes:
        for drawn in scenes:
            aligned = alignment(stated, found(drawn.a, arranged[drawn.relation], drawn.b))["alignment"]
            assert aligned == float(stated.triple == drawn.triple)


def test_prompts_of_another_world_are_not_judged() -> None:
    assert prompt_alignment("a photograph of a quiet city at night", found("cat")) == {}
    assert prompt_alignment(caption(RIDING), found("astronaut", "riding", "horse"))["alignment"] == 1.0


def test_every_part_is_registered() -> None:
    keys = {*alignment(replace(BESIDE, b="car", colour_b="red"), found()), *alignment(THREE, found())}
    keys |= {"alignment_seen", "alignment_unseen"}
    assert keys == {name for name in METRICS if name.startswith("alignment")}
    assert all(name == metric.name and metric.says.endswith(".") for name, metric in METRICS.items())


def test_alignment_once_more_by_what_training_showed() -> None:
    seen = next(scene for scene in triples(("riding",)) if not scene.held_out)
    counts = [Scene(name, count=2) for name in ("cat", "dog", "car", "sun", "moon", "tree", "house", "apple", "frog")]
    assert RIDING.held_out
    assert by_composition(seen, 1.0) == {"alignment_seen": 1.0}
    assert by_composition(RIDING, 0.0) == {"alignment_unseen": 0.0}
    assert by_composition(Scene("cat"), 1.0) == {}
    assert all(by_composition(scene, 1.0) for scene in counts)
