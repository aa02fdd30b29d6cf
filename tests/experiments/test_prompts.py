"""Prompt sets, files of prompts, seeds."""

from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from cfglab.errors import InputError
from cfglab.experiments.spec.prompts import expand_prompts, prompt_set, read_prompts, read_seeds, write_seeds
from cfglab.scenes.vocabulary import BACKGROUNDS, RELATIONS, read_caption


def test_a_set_is_half_seen_half_held_out_with_every_relation_and_every_background() -> None:
    scenes = [read_caption(prompt) for prompt in prompt_set("scenes:64")]
    assert all(scene is not None for scene in scenes)
    known = [scene for scene in scenes if scene is not None]
    assert [scene.held_out for scene in known] == [False, True] * 32
    assert len({replace(scene, background=None) for scene in known}) == 64, "they differ in more than the background"
    kinds = Counter((scene.held_out, scene.relation, scene.background is not None) for scene in known)
    assert set(kinds) == set(product((False, True), RELATIONS, (False, True)))
    assert set(kinds.values()) == {4}
    assert Counter(scene.background for scene in known) == {None: 32, **dict.fromkeys(BACKGROUNDS, 4)}
    for scene in known:
        coloured = scene.relation == "and"
        assert (scene.colour_a is not None, scene.colour_b is not None) == (coloured, coloured)


def test_a_set_is_always_the_same_and_short_ones_begin_long_ones() -> None:
    assert prompt_set("scenes:64")[:16] == prompt_set("scenes:16")
    assert prompt_set("scenes:3") == (
        "a photograph of a rocket riding a dog",
        "a photograph of a bird riding a robot",
        "a photograph of a tree next to a balloon on a white background",
    )
    assert expand_prompts(["a cat", "scenes:1"]) == ("a cat", "a photograph of a rocket riding a dog")


def test_a_set_ends_where_a_kind_has_no_further_composition() -> None:
    assert len(set(prompt_set("scenes:371"))) == 371
    with pytest.raises(InputError, match=r"'scenes:372': there are only 371 such compositions; ask for scenes:371"):
        prompt_set("scenes:372")


@pytest.mark.parametrize("text", ["scenes:", "scenes:many", "scenes:0", "scenes:9999"])
def test_impossible_sets_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"scenes:\d|scenes:N"):
        prompt_set(text)


def test_prompts_from_files(tmp_path: Path) -> None:
    file = tmp_path / "more.txt"
    file.write_text("a dog\n\n  a frog \n", encoding="utf-8")
    assert read_prompts(["a cat", f"@{file}"]) == ("a cat", "a dog", "a frog")
    file.write_text("\n")
    with pytest.raises(InputError, match="holds no prompt; write one a line"):
        read_prompts([f"@{file}"])
    file.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_prompts([f"@{file}"])
    with pytest.raises(InputError, match="No such file"):
        read_prompts([f"@{tmp_path / 'none.txt'}"])


def test_seeds_both_ways() -> None:
    assert read_seeds("0..3") == (0, 1, 2, 3)
    assert read_seeds(7) == read_seeds("7") == (7,)
    assert read_seeds([1, "4..5", 9]) == (1, 4, 5, 9)
    for seeds in ((7,), (0, 1, 2), (1, 4, 5)):
        assert read_seeds(write_seeds(seeds)) == seeds
    for bad in ("7..", "a", True, 1.5, -3, "5..2", "0..999999"):
        with pytest.raises(InputError, match=r"seeds .*; write"):
            read_seeds(bad)
