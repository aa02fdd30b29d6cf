"""The two sentences say what the statistics say, and what they leave open."""

import re
from pathlib import Path

import pytest

from cfglab.experiments.spec.experiment import Experiment
from cfglab.experiments.spec.setting import Setting
from cfglab.experiments.storage.store import Store
from cfglab.report.summary.tables import build
from cfglab.report.summary.verdict import Verdict, held_back, verdict
from tests.report.runs import experiment, make

PROMPTS = [
    "a cat",
    "a dog",
    "a car",
    "a sun",
    "a rose",
    "a frog",
    "a cake",
    "a horse",
    "a house",
    "a moon",
    "a tree",
    "a fish",
]
ONE_K = {"groups.0.axes.k": [1], "groups.1.axes.k": [1]}


def scores(best: float, other: float, base: float) -> object:
    """Alignment of prompt i is right where i / 12 is below the setting's level."""
    level = {"k-decay k=1": best, "inverted k=1": other, "constant": base}

    def score(setting: Setting, prompt: str, _: int) -> dict[str, float]:
        return {"alignment": float(PROMPTS.index(prompt) < level[setting.name] * len(PROMPTS))}

    return score


def of(tmp_path: Path, **levels: float) -> tuple[Verdict, str]:
    run = Experiment.preset("k-decay", prompts=PROMPTS, seeds="0..1", set=ONE_K)
    folder = make(tmp_path / "run", run, score=scores(**levels))  # type: ignore[arg-type]
    with Store.open(folder) as store:
        tables = build(store)
    return verdict(tables), held_back(tables)


def plain(text: str) -> str:
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_a_difference_that_was_found(tmp_path: Path) -> None:
    said, held = of(tmp_path, best=1.0, other=0.2, base=0.3)
    assert re.fullmatch(
        r"“k = 1” of k-decay, the best of 2 settings, scores 100 % against 33.3 % for the baseline “constant, 7.5” on "
        r"alignment, a difference in its favour \(\+67 points, 95 % interval \+\d+ to \+\d+ points, p = 0.0\d+ after "
        r"Holm over 2; 24 images a setting over 12 prompts\)\.",
        plain(said.shows),
    )
    assert plain(said.hides) == (
        "They do not show that this holds beyond these 12 prompts and one model, nor whether the shape of the curve "
        "matters or only its amount (dose 4.32 against 7.50); and the best of many settings, chosen by the "
        "same numbers, looks better than it is."
    )
    assert plain(held).startswith(
        "Chosen on one half of the prompts and tested on the other half, “k = 1” of k-decay scores +"
    )


def test_a_choice_on_seeds_of_one_prompt_says_its_limit(tmp_path: Path) -> None:
    run = Experiment.preset("k-decay", prompts=["a cat"], seeds="0..11", set=ONE_K)
    folder = make(tmp_path / "run", run, score=lambda s, _, seed: {"alignment": (s.name == "k-decay k=1") * seed / 12})
    with Store.open(folder) as store:
        held = plain(held_back(build(store)))
    assert held.startswith("Chosen on one half of the seeds and tested on the other half, ")
    assert held.endswith("6 pairs: this number is not biased by the choice, for this prompt only.")


def test_halves_of_prompts_and_seeds_are_both_named(tmp_path: Path) -> None:
    run = Experiment.preset("k-decay", prompts=PROMPTS, seeds="0..3", noise="crossed", set=ONE_K)
    folder = make(tmp_path / "run", run, score=scores(best=1.0, other=0.2, base=0.3))  # type: ignore[arg-type]
    with Store.open(folder) as store:
        held = plain(held_back(build(store)))
    assert held.startswith(
        "Chosen on one half of the prompts with one half of the seeds and tested on the other halves, "
    )


def test_no_difference_found_is_an_answer(tmp_path: Path) -> None:
    shows = plain(of(tmp_path, best=0.55, other=0.2, base=0.45)[0].shows)
    assert shows.startswith("No difference found in favour of any setting: “k = 1” of k-decay")
    assert "p = 1.00 after Holm over 2" in shows
    assert re.search(r"where differences under about \d+ points would mostly be missed", shows)


def test_the_best_of_bad_ones_is_not_praised(tmp_path: Path) -> None:
    shows = plain(of(tmp_path, best=0.2, other=0.1, base=1.0)[0].shows)
    assert shows.startswith("Nothing beats the baseline: “k = 1” of k-decay")
    assert "a difference against it (−75 points" in shows
    assert shows.endswith("and 2 of the 2 settings are worse than the baseline.")


def test_pairs_that_are_all_alike_have_no_interval(tmp_path: Path) -> None:
    shows = plain(of(tmp_path, best=1.0, other=1.0, base=1.0)[0].shows)
    assert shows.endswith("the pairs do not differ among each other, so there is no interval.")


def test_too_few_to_find_anything_is_said(tmp_path: Path) -> None:
    with Store.open(make(tmp_path / "run", experiment(seeds="0..3"))) as store:
        shows = plain(verdict(build(store)).shows)
    assert "4 images are too few to find any after Holm" in shows


def test_one_picture_is_a_description(tmp_path: Path) -> None:
    with Store.open(make(tmp_path / "run", experiment(seeds=3), chance=lambda _: 1.0)) as store:
        said = verdict(build(store))
    assert "first of 6 equals among 6 settings" in plain(said.shows)
    assert said.shows.endswith("one image each, which describes these images and allows no interval and no test.")
    assert "beyond one prompt and one model" in said.hides


def test_without_alignment_the_sentence_says_what_was_not_measured(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", experiment(), score=lambda *cell: {"clipped_share": cell[2] / 100})
    with Store.open(folder) as store:
        said = verdict(build(store))
    assert "on clipped share (lower is better)" in said.shows
    assert "nor whether the images show what was asked for, which was not measured" in said.hides


@pytest.mark.parametrize(
    ("score", "stop", "words"),
    [
        ({"saturation": 0.5}, None, "the numbers do not rank the settings"),
        ({"alignment": 1.0}, 0, "No image is finished yet"),
    ],
)
def test_nothing_to_rank(tmp_path: Path, score: dict[str, float], stop: int | None, words: str) -> None:
    with Store.open(make(tmp_path / "run", experiment(seeds="0..1"), score=lambda *_: score, stop=stop)) as store:
        assert words in verdict(build(store)).shows


def test_a_baseline_that_failed(tmp_path: Path) -> None:
    with Store.open(make(tmp_path / "run", experiment(seeds="0..1"), fail=(0, 1))) as store:
        assert "The baseline “constant, 7.5” has no finished image with a score" in verdict(build(store)).shows


def test_it_is_two_sentences(tmp_path: Path) -> None:
    for number, levels in enumerate(((1.0, 0.2, 0.3), (0.5, 0.5, 0.5), (0.1, 0.1, 1.0))):
        said = of(tmp_path / str(number), **dict(zip(("best", "other", "base"), levels, strict=True)))[0]
        assert [len(re.findall(r"\.(\s|$)", text)) for text in (said.shows, said.hides)] == [1, 1]


def test_doses_under_different_transforms_are_not_compared(tmp_path: Path) -> None:
    run = Experiment.preset("part5", seeds="0..1")
    with Store.open(make(tmp_path / "run", run, score=lambda *_: {"alignment": 1.0})) as store:
        assert "dose" not in verdict(build(store)).hides
