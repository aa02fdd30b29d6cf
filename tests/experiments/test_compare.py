"""The comparison of a run: rows, corrections, words."""

import re
from typing import NamedTuple

import numpy as np
import pytest

from cfglab.errors import InputError
from cfglab.experiments.analysis.compare import best_on_split, compare, table
from cfglab.experiments.analysis.paired import holm, paired
from cfglab.experiments.spec.starting_noise import torch_seed


class Result(NamedTuple):
    setting: str
    prompt: str
    seed: int
    metrics: dict[str, float]
    status: str = "done"
    torch_seed: int | None = None


def run(
    lifts: dict[str, float],
    prompts: int = 20,
    seeds: int = 4,
    noise: float = 0.3,
    metric: str = "alignment",
    draw: int = 0,
    crossed: bool = False,
) -> list[Result]:
    """Every prompt has starting noises of its own, unless they are crossed."""
    random = np.random.default_rng(draw)
    shared = random.normal(size=(prompts, seeds))
    return [
        Result(
            setting,
            f"prompt {i}",
            j,
            {metric: float(shared[i, j] + lift + noise * random.normal())},
            torch_seed=torch_seed(j, i, "crossed" if crossed else "nested"),
        )
        for setting, lift in lifts.items()
        for i in range(prompts)
        for j in range(seeds)
    ]


def of(results: list[Result], setting: str, metric: str = "alignment") -> dict[tuple[str, int], float]:
    return {(r.prompt, r.seed): r.metrics[metric] for r in results if r.setting == setting and r.status == "done"}


def test_rows_are_the_paired_differences_best_first() -> None:
    results = run({"low": -0.5, "constant": 0.0, "high": 0.4, "same": 0.0})
    found = compare(results, "alignment", "constant")
    assert [row.setting for row in found.rows] == ["high", "same", "low"]
    expected = {name: paired(of(results, name), of(results, "constant")) for name in ("high", "same", "low")}
    corrected = holm([expected[row.setting].p or 0 for row in found.rows])
    for row, p_holm in zip(found.rows, corrected, strict=True):
        difference = expected[row.setting]
        numbers = (difference.difference, difference.low, difference.high, difference.p)
        assert (row.difference, row.low, row.high, row.p) == pytest.approx(numbers)
        assert row.p_holm == pytest.approx(p_holm)
        assert (row.n, row.n_prompts, row.dropped) == (80, 20, 0)
        assert row.mean == pytest.approx(np.mean(list(of(results, row.setting).values())))
    assert found.baseline_mean is not None
    assert found.baseline_mean.value == pytest.approx(np.mean(list(of(results, "constant").values())))


def test_lower_is_better_for_the_clipped_share_and_saturation_has_no_better() -> None:
    lifts = {"constant": 0.0, "more": 0.3, "less": -0.3}
    clipped = compare(run(lifts, metric="clipped_share"), "clipped_share", "constant")
    assert (clipped.better, [row.setting for row in clipped.rows]) == ("lower", ["less", "more"])
    saturation = compare(run(lifts, metric="saturation"), "saturation", "constant")
    assert (saturation.better, [row.setting for row in saturation.rows]) == (None, ["more", "less"])
    assert "no direction is better by itself" in saturation.note
    own = compare(run(lifts, metric="my score"), "my score", "constant")
    assert own.better is None


def test_failed_pictures_drop_their_pair_and_are_counted() -> None:
    results = run({"constant": 0.0, "high": 0.4})
    results[3] = results[3]._replace(status="failed", metrics={})
    results[80] = results[80]._replace(status="failed", metrics={})
    results[85] = results[85]._replace(metrics={"alignment": float("nan")})
    for both in (10, 90):  # one image that failed on both sides is one pair lost
        results[both] = results[both]._replace(status="failed", metrics={})
    row = compare(results, "alignment", "constant").rows[0]
    assert (row.n, row.dropped) == (76, 4)
    kept = of(results, "high").keys() & of(results, "constant").keys() - {(results[85].prompt, results[85].seed)}
    assert row.mean == pytest.approx(np.mean([of(results, "high")[key] for key in kept]))
    assert "Up to 4 pairs a setting were dropped" in compare(results, "alignment", "constant").note


def test_a_part_that_prompts_do_not_state_is_not_a_dropped_pair() -> None:
    results = run({"constant": 0.0, "high": 0.4})
    for i, result in enumerate(results):
        if result.prompt == "prompt 0":
            results[i] = result._replace(metrics={"contrast": 0.1})
    row = compare(results, "alignment", "constant").rows[0]
    assert (row.n, row.n_prompts, row.dropped) == (76, 19, 0)


def test_a_setting_that_failed_altogether_comes_last_without_numbers() -> None:
    results = run({"constant": 0.0, "high": 0.4})
    results += [result._replace(setting="broken", status="failed", metrics={}) for result in results[:80]]
    found = compare(results, "alignment", "constant")
    broken = found.rows[-1]
    assert (broken.setting, broken.n, broken.dropped, broken.mean, broken.p_holm) == ("broken", 0, 80, None, None)
    assert found.rows[0].p_holm == found.rows[0].p  # a family of one
    assert re.search(r"broken +0 +- +- +- +- +- +-", str(found))


def test_the_note_says_what_was_done() -> None:
    note = compare(run({"constant": 0.0, "a": 0.0, "b": 0.1}), "alignment", "constant").note
    for words in (
        "alignment (share; higher is better): each setting less 'constant', paired by prompt and seed",
        "80 pairs of 20 prompts",
        "take prompts, not images, as a random sample",
        "family of these 2 comparisons",
        "winner's curse",
        "80 of 100 experiments",
    ):
        assert words in note
    assert "cannot fall below" not in note


def test_the_note_on_one_prompt_few_prompts_and_one_picture() -> None:
    lifts = {"constant": 0.0, "a": 0.0}
    seeds = compare(run(lifts, prompts=1, seeds=16), "alignment", "constant")
    assert "For this prompt only: seeds are taken as a random sample" in seeds.note
    assert seeds.rows[0].low is not None
    few = compare(run(lifts, prompts=4), "alignment", "constant")
    assert "With 4 prompts p cannot fall below 0.12, too large for 1 test at 0.05" in few.note
    single = compare(run(lifts, prompts=1, seeds=1), "alignment", "constant")
    assert single.rows[0].low is single.rows[0].p is None
    assert "With one pair there is no interval and no p" in single.note
    only = compare(run({"constant": 0.0}), "alignment", "constant")
    assert only.rows == ()
    assert only.note == "'constant' is the only setting: there is nothing to compare it with."


def test_the_table_is_aligned_text() -> None:
    found = compare(run({"constant": 0.0, "k-decay k=0.3": 0.4, "b": -1.0}), "alignment", "constant")
    lines = str(found).split("\n")
    assert lines[0].split("  ")[0] == "setting"
    end = lines[0].index(" n ") + 2
    assert [line[end - 2 : end] for line in lines[1:4]] == ["80", "80", "80"]
    assert [row[0] for row in table(found)] == ["setting", "constant (baseline)", "k-decay k=0.3", "b"]
    assert table(found)[2][3].startswith("+0.")
    assert table(found)[3][3].startswith("-")
    assert re.fullmatch(r"\[[+-][\d.]+, [+-][\d.]+\]", table(found)[2][4])
    assert table(found)[2][5] == "<0.001"
    assert lines[4] == ""
    assert lines[5] == found.note


@pytest.mark.parametrize(
    ("metric", "baseline", "words"),
    [
        ("alignmnt", "constant", "metric 'alignmnt' is unknown; did you mean 'alignment'? Known: alignment"),
        ("zzz", "constant", "metric 'zzz' is unknown; Known: alignment"),
        ("contrast", "constant", "metric 'contrast' was not measured in this run; name one that was: alignment"),
        ("kid", "constant", "metric 'kid' belongs to a whole set of images"),
        (
            "alignment",
            "konstant",
            "baseline 'konstant' is no setting of this run; did you mean 'constant'? Known: a, constant",
        ),
    ],
)
def test_refusals(metric: str, baseline: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        compare(run({"constant": 0.0, "a": 0.0}), metric, baseline)


def test_two_results_for_one_picture_are_refused() -> None:
    results = run({"constant": 0.0, "a": 0.0})
    with pytest.raises(InputError, match="'a' has two results for prompt 'prompt 19', seed 3: pairs need one"):
        compare([*results, results[-1]], "alignment", "constant")


@pytest.mark.parametrize("split", ["prompts", "seeds"])
def test_the_choice_and_the_report_share_no_prompt_or_no_seed(split: str) -> None:
    lifts = {"constant": 0.0, "a": 0.1, "best": 0.6}
    results = run(lifts)
    found = best_on_split(results, "alignment", "constant", split=split)
    assert (found.setting, found.candidates) == ("best", 2)
    assert found.chosen_on.n == found.reported_on.n == 40
    both = paired(of(results, "best"), of(results, "constant")).difference
    assert ((found.chosen_on.difference or 0) + (found.reported_on.difference or 0)) / 2 == pytest.approx(both)
    prompts = 10 if split == "prompts" else 20
    assert found.chosen_on.n_prompts == found.reported_on.n_prompts == prompts
    shuffled = [results[i] for i in np.random.default_rng(3).permutation(len(results))]
    assert best_on_split(shuffled, "alignment", "constant", split=split) == found
    assert best_on_split(results, "alignment", "constant", split=split, seed=5) != found
    assert f"'best' less 'constant', the best of 2 on one half of the {split}" in str(found)
    assert "flattered by the choice" in str(found)


def test_the_other_half_is_free_of_the_winners_curse() -> None:
    """Twenty settings that do nothing: the best of them looks good where it was chosen and not where it was not."""
    lifts = {"constant": 0.0, **{f"s{i}": 0.0 for i in range(20)}}
    chosen, reported = [], []
    for draw in range(40):
        found = best_on_split(run(lifts, prompts=12, seeds=1, draw=draw), "alignment", "constant")
        chosen.append(found.chosen_on.difference)
        reported.append(found.reported_on.difference)
    error = np.std(reported) / np.sqrt(40)
    assert np.mean(chosen) > 5 * error
    assert abs(np.mean(reported)) < 3 * error


def test_what_a_split_needs() -> None:
    lifts = {"constant": 0.0, "a": 0.1, "b": 0.2}
    with pytest.raises(InputError, match=r"split 'prompts' finds 1 to split: .* needs at least two; run more prompts"):
        best_on_split(run(lifts, prompts=1), "alignment", "constant")
    with pytest.raises(InputError, match=r"metric 'saturation': no direction .*; add --better higher"):
        best_on_split(run(lifts, metric="saturation"), "saturation", "constant")
    low = best_on_split(run(lifts, metric="saturation"), "saturation", "constant", better="lower")
    assert low.setting == "a"
    with pytest.raises(InputError, match="split 'halves' is unknown: it must be 'prompts' or 'seeds'"):
        best_on_split(run(lifts), "alignment", "constant", split="halves")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no setting shares a prompt and seed with 'constant' in the choosing half"):
        best_on_split(run({"constant": 0.0}), "alignment", "constant")
    one = best_on_split(run(lifts, prompts=1), "alignment", "constant", split="seeds")
    assert "for this prompt only" in str(one)


def lucky(draw: int, prompts: int = 24, seeds: int = 8, settings: int = 12) -> list[Result]:
    """Crossed noises; settings that do nothing on average, but suit some noises and some prompts better than others."""
    random = np.random.default_rng(draw)
    results = [Result("constant", f"prompt {i}", j, {"alignment": 0.0}) for i in range(prompts) for j in range(seeds)]
    for k in range(settings):
        of_prompt, of_seed = random.normal(size=prompts), random.normal(size=seeds)
        results += [
            Result(f"s{k}", f"prompt {i}", j, {"alignment": of_prompt[i] + of_seed[j] + random.normal()})
            for i in range(prompts)
            for j in range(seeds)
        ]
    return results


@pytest.mark.parametrize("split", ["prompts", "seeds"])
def test_a_choice_on_a_half_is_not_flattered_by_noises_or_prompts_that_both_halves_share(split: str) -> None:
    found = [best_on_split(lucky(draw), "alignment", "constant", split=split) for draw in range(60)]
    reported = [one.reported_on.difference or 0 for one in found]
    assert np.mean([one.chosen_on.difference or 0 for one in found]) > 0.4
    assert abs(np.mean(reported)) < 3 * np.std(reported) / np.sqrt(60)
    assert (found[0].shares, found[0].chosen_on.n, found[0].reported_on.n) == ("nothing", 12 * 4, 12 * 4)
    assert np.mean([one.reported_on.p is not None and one.reported_on.p < 0.05 for one in found]) <= 0.1


def test_too_few_crossed_seeds_are_not_halved_and_prompts_that_share_them_say_so() -> None:
    results = run({"constant": 0.0, "a": 0.1}, seeds=3, crossed=True)
    with pytest.raises(
        InputError, match=r"split 'seeds' finds 3 starting noises, which all prompts share: .*; choose by"
    ):
        best_on_split(results, "alignment", "constant", split="seeds")
    found = best_on_split(results, "alignment", "constant")
    assert (found.shares, found.reported_on.n) == ("noises", 30)
    assert "both halves have the same 3 starting noises" in str(found)
    own = best_on_split(run({"constant": 0.0, "a": 0.1}, seeds=3), "alignment", "constant", split="seeds")
    assert own.shares == "prompts"
    assert "both halves have the same prompts, and nothing is said about others" in str(own)


def test_a_choice_names_the_halves_of_both_where_both_were_split() -> None:
    found = best_on_split(run({"constant": 0.0, "a": 0.1}, crossed=True), "alignment", "constant")
    assert found.both
    assert "the best of 1 on one half of the prompts with one half of the seeds (" in str(found)
    assert "; on the other halves +" in str(found)


def test_differences_without_a_spread_are_not_in_the_degrees_of_freedom() -> None:
    results = run({"constant": 0.0, "a": 0.1}, crossed=True)
    equal = [it._replace(setting="b") for it in results if it.setting == "constant"]
    note = compare([*results, *equal], "alignment", "constant").note
    assert re.search(r"Student's t with \d+ degrees? of freedom", note)
    assert re.search(r"say as much as [\d.]+ independent ones", note)
    note = compare([it for it in [*results, *equal] if it.setting != "a"], "alignment", "constant").note
    assert "freedom" not in note
    assert "independent" not in note
    assert "No interval: no setting's difference varies between its pairs." in note


def test_the_note_and_the_table_say_whose_the_variance_is_and_how_many_noises_there_are() -> None:
    lifts = {"constant": 0.0, "a": 0.1}
    crossed = compare(run(lifts, crossed=True), "alignment", "constant")
    assert "effectively 20 prompts and 4 noises" in crossed.note
    assert "take prompts and starting noises as random samples" in crossed.note
    (row,) = crossed.rows
    assert row.variance is not None
    assert row.variance.seeds is not None
    assert row.variance.prompts + row.variance.seeds + row.variance.rest == pytest.approx(1)
    assert re.search(r"prompts/seeds/rest", str(crossed))
    shares = [round(100 * it) for it in (row.variance.prompts, row.variance.seeds, row.variance.rest)]
    assert f"{shares[0]}/{shares[1]}/{shares[2]} %" in str(crossed)
    own = compare(run(lifts), "alignment", "constant")
    assert "effectively 20 prompts and 80 noises" in own.note
    assert own.rows[0].variance is not None
    assert own.rows[0].variance.seeds is None
    one_seed = compare(run(lifts, seeds=1, crossed=True), "alignment", "constant")
    assert "For this one starting noise only" in one_seed.note


def test_where_few_prompts_move_the_note_says_that_interval_and_p_disagree() -> None:
    results = [Result("constant", f"prompt {i}", j, {"alignment": 0.0}) for i in range(48) for j in range(4)]
    moved = {(i, i % 4) for i in range(5)}
    results += [
        Result("a", f"prompt {i}", j, {"alignment": float((i, j) in moved)}, torch_seed=4 * i + j)
        for i in range(48)
        for j in range(4)
    ]
    results = [one._replace(torch_seed=4 * int(one.prompt.split()[1]) + one.seed) for one in results]
    note = compare(results, "alignment", "constant").note
    assert "'a': 5 of its 192 pairs differ, in 5 prompts; interval and p (0.062) disagree about 0." in note
    assert "trust p where few prompts move" in note
