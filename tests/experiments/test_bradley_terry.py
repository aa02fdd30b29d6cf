"""Bradley-Terry strengths against published estimates and closed forms."""

from itertools import combinations
from math import log, sqrt

import numpy as np
import pytest

from cfglab.errors import InputError
from cfglab.experiments.analysis.bradley_terry import Vote, bradley_terry

TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
# Agresti, Categorical Data Analysis: the American League's East in 1987, row beat column so many times.
WINS = np.array(
    [
        [0, 7, 9, 7, 7, 9, 11],
        [6, 0, 7, 5, 11, 9, 9],
        [4, 6, 0, 7, 7, 8, 12],
        [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12],
        [4, 4, 5, 6, 6, 0, 6],
        [2, 4, 1, 3, 1, 7, 0],
    ]
)
# The table of the R package BradleyTerry2: strength over Baltimore's, and its standard error.
PUBLISHED = {
    "Boston": (1.1077, 0.3339),
    "Cleveland": (0.6839, 0.3319),
    "Detroit": (1.4364, 0.3396),
    "Milwaukee": (1.5814, 0.3433),
    "New York": (1.2476, 0.3359),
    "Toronto": (1.2945, 0.3367),
}


def votes_of(wins: np.ndarray, names: tuple[str, ...]) -> list[Vote]:
    pairs = [(i, j) for i in range(len(names)) for j in range(len(names))]
    return [(names[i], names[j], "left") for i, j in pairs for _ in range(int(wins[i, j]))]


def test_the_baseball_season_gives_the_published_strengths() -> None:
    table = bradley_terry(votes_of(WINS, TEAMS))
    strengths = {row.name: row.strength or 0.0 for row in table.rows}
    for team, (strength, _) in PUBLISHED.items():
        assert strengths[team] - strengths["Baltimore"] == pytest.approx(strength, abs=6e-4)
    assert sum(strengths.values()) == pytest.approx(0, abs=1e-12)
    assert table.rows[0].name == "Milwaukee"
    assert table.votes == 21 * 13


def test_two_items_have_the_closed_form_of_the_log_odds() -> None:
    table = bradley_terry([("a", "b", "left")] * 12 + [("b", "a", "left")] * 5)
    first, second = table.rows
    assert (first.name, first.wins, first.losses, second.wins) == ("a", 12, 5, 5)
    assert first.strength == pytest.approx(log(12 / 5) / 2)
    error = sqrt(1 / 12 + 1 / 5) / 2  # of half the log-odds
    assert first.high == pytest.approx(log(12 / 5) / 2 + 1.959963985 * error)
    assert first.low == pytest.approx(log(12 / 5) / 2 - 1.959963985 * error)
    assert table.tie_parameter == 0


def test_ties_of_two_items_are_davidsons_parameter() -> None:
    table = bradley_terry([("a", "b", "left")] * 8 + [("a", "b", "right")] * 2 + [("b", "a", "tie")] * 6)
    assert table.tie_parameter == pytest.approx(6 / sqrt(8 * 2))
    assert table.rows[0].strength == pytest.approx(log(8 / 2) / 2)
    assert table.rows[0].high == pytest.approx(log(4) / 2 + 1.959963985 * sqrt(1 / 8 + 1 / 2) / 2)
    assert [(row.wins, row.ties, row.losses) for row in table.rows] == [(8, 6, 2), (2, 6, 8)]


def test_intervals_cover_the_truth_in_about_95_of_100_simulations() -> None:
    random, truth = np.random.default_rng(7), np.array([0.6, 0.0, -0.6])
    hits = trials = 0
    for _ in range(150):
        votes: list[Vote] = []
        for i, j in combinations(range(3), 2):
            masses = np.exp([truth[i], (truth[i] + truth[j]) / 2 + log(0.5), truth[j]])
            for outcome in random.choice(3, size=40, p=masses / masses.sum()):
                votes.append((f"{i}", f"{j}", ("left", "tie", "right")[outcome]))  # noqa: PERF401
        for row in bradley_terry(votes).rows:
            assert row.low is not None
            assert row.high is not None
            hits, trials = hits + (row.low <= truth[int(row.name)] <= row.high), trials + 1
    assert 0.92 <= hits / trials <= 0.98


def test_swapping_the_sides_of_every_vote_changes_nothing() -> None:
    votes = [("a", "b", "left"), ("b", "c", "left"), ("c", "a", "left"), ("a", "b", "tie"), ("a", "c", "left")]
    swap = {"left": "right", "right": "left", "tie": "tie"}
    mirrored = [(right, left, swap[outcome]) for left, right, outcome in votes]
    original, other = bradley_terry(votes), bradley_terry(mirrored)  # type: ignore[arg-type]
    strengths = {row.name: row.strength for row in other.rows}
    assert {row.name: row.strength for row in original.rows} == pytest.approx(strengths)


@pytest.mark.parametrize(
    ("votes", "words"),
    [
        ([], "no vote yet"),
        ([("a", "b", "tie")], "every vote is a tie"),
        ([("a", "b", "left")] * 5, "won or lost every vote"),
        ([("a", "b", "left"), ("a", "b", "tie"), ("a", "c", "left"), ("b", "c", "tie")], "all their votes are ties"),
        ([("a", "b", "left"), ("a", "b", "right"), ("c", "d", "left"), ("c", "d", "right")], "never compared"),
    ],
)
def test_votes_that_determine_nothing_give_counts_and_the_reason(votes: list[Vote], words: str) -> None:
    table = bradley_terry(votes)
    assert words in table.reason
    assert all(row.strength is row.low is row.share is None for row in table.rows)
    assert sum(row.votes for row in table.rows) == 2 * len(votes)


def test_a_tie_with_the_rest_bounds_the_strength_of_a_winner() -> None:
    table = bradley_terry([("a", "b", "left"), ("a", "b", "tie"), ("b", "c", "left"), ("c", "b", "left")])
    assert table.reason == ""
    assert all(abs(row.strength or 0) < 10 for row in table.rows)


@pytest.mark.parametrize("vote", [("a", "a", "left"), ("a", "b", "both")])
def test_a_vote_that_is_none_is_refused_in_one_line(vote: Vote) -> None:
    with pytest.raises(InputError, match=r"^(a vote on 'a'|the outcome 'both').*\.$"):
        bradley_terry([vote])
