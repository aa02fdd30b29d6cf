"""Strengths from pairwise choices: the Bradley-Terry model with ties after Davidson, by maximum likelihood.

`P(i over j) = p_i / (p_i + p_j + nu sqrt(p_i p_j))` and `P(tie) = nu sqrt(p_i p_j) / (p_i + p_j + nu sqrt(p_i p_j))`,
with `p = exp(s)` and the strengths `s` centred on 0. Without ties nu is 0, the model of Bradley and Terry. The
intervals are Wald intervals from the observed information. They treat votes as independent, which votes of one person
on the same images are not quite.
"""

from collections.abc import Iterable
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.optimize import linprog, minimize
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, ndtri

from cfglab.errors import InputError

FloatArray = NDArray[np.float64]
Outcome = Literal["left", "right", "tie"]
Vote = tuple[str, str, Outcome]
"""The name on the left, the name on the right, and which of them was chosen."""


class Strength(BaseModel):
    """One row of the table.

    Attributes:
        name: what was compared.
        wins: votes that chose it.
        ties: votes that chose neither.
        losses: votes that chose the other one.
        strength: the natural logarithm of its odds against an item of average strength; None if the votes do not
            determine it.
        low: the lower end of the 95 % interval of `strength`.
        high: the upper end of the 95 % interval of `strength`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    wins: int
    ties: int
    losses: int
    strength: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def votes(self) -> int:
        """The number of votes on this item."""
        return self.wins + self.ties + self.losses

    @property
    def share(self) -> float | None:
        """How often it is chosen over an item of average strength, ties left out, 0 to 1; None without a strength."""
        return None if self.strength is None else float(expit(self.strength))


class BradleyTerry(BaseModel):
    """The fitted model.

    Attributes:
        rows: the items, the strongest first; items without a strength last.
        tie_parameter: nu, 0 or more; None if the votes determine no strengths.
        votes: the number of votes.
        reason: why there are no strengths; empty if there are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: tuple[Strength, ...]
    tie_parameter: float | None
    votes: int
    reason: str = ""


def bradley_terry(votes: Iterable[Vote], *, level: float = 0.95) -> BradleyTerry:
    """Fit strengths to pairwise choices.

    The maximum likelihood estimate is finite only if no strengths explain every vote ever better the further apart they
    are, as where an item won every vote. Otherwise the table has the counts and the reason.

    Args:
        votes: (left, right, outcome) of each vote; the sides do not matter to the model.
        level: the coverage of the intervals, above 0 and below 1.

    Returns:
        The strengths with their intervals.

    Raises:
        InputError: an outcome is not "left", "right" or "tie", or an item is compared with itself.

    Reference:
        Bradley and Terry, Biometrika 39 (1952); Davidson, J. Amer. Statist. Assoc. 65 (1970).

    Examples:
        >>> table = bradley_terry([("a", "b", "left")] * 3 + [("a", "b", "right")])
        >>> [(row.name, round(row.strength, 3)) for row in table.rows]
        [('a', 0.549), ('b', -0.549)]
    """
    names, wins, ties = _counts(votes)
    design, table = _design(wins, ties)
    reason = _undetermined(wins, ties) or _unbounded(design, table)
    count = int(wins.sum() + ties.sum() / 2)
    rows = [
        Strength(name=name, wins=int(wins[i].sum()), ties=int(ties[i].sum()), losses=int(wins[:, i].sum()))
        for i, name in enumerate(names)
    ]
    if reason:
        ordered = sorted(rows, key=lambda row: (row.losses - row.wins, row.name))
        return BradleyTerry(rows=tuple(ordered), tie_parameter=None, votes=count, reason=reason)
    strengths, errors, nu = _fit(design, table, len(names))
    half = ndtri(0.5 + level / 2) * errors
    rows = [
        row.model_copy(update={"strength": float(s), "low": float(s - h), "high": float(s + h)})
        for row, s, h in zip(rows, strengths, half, strict=True)
    ]
    ordered = sorted(rows, key=lambda row: -(row.strength or 0.0))
    return BradleyTerry(rows=tuple(ordered), tie_parameter=nu, votes=count)


def _counts(votes: Iterable[Vote]) -> tuple[list[str], FloatArray, FloatArray]:
    """The names in order of appearance, wins[i, j] of i over j, and ties[i, j] = ties[j, i]."""
    listed = list(votes)
    names = list(dict.fromkeys(name for left, right, _ in listed for name in (left, right)))
    index = {name: i for i, name in enumerate(names)}
    wins, ties = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)))
    for left, right, outcome in listed:
        if left == right:
            raise InputError(f"a vote on {left!r} and itself: two different items are compared; leave it out.")
        i, j = index[left], index[right]
        if outcome == "left":
            wins[i, j] += 1
        elif outcome == "right":
            wins[j, i] += 1
        elif outcome == "tie":
            ties[i, j] += 1
            ties[j, i] += 1
        else:
            raise InputError(f"the outcome {outcome!r} of a vote: it is left, right or tie; write one of them.")
    return names, wins, ties


def _undetermined(wins: FloatArray, ties: FloatArray) -> str:
    """Why the likelihood has no maximum at finite strengths; empty if it has one."""
    if len(wins) < 2:
        return "there is no vote yet"
    if not wins.any():
        return "every vote is a tie, so only the strengths' equality is known"
    groups, _ = connected_components(wins + ties, directed=False)
    if groups > 1:
        return "some items were never compared, not even through others"
    return ""


def _design(wins: FloatArray, ties: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The design matrix (pairs, outcomes, parameters) and the counts (pairs, outcomes) of the pairs with votes.

    The linear predictors of left, tie and right are s_left, (s_left + s_right) / 2 + log nu, and s_right. The strength
    of the last item is 0 here; log nu is the last parameter, and absent like the outcome where there are no ties.
    """
    count, tied = len(wins), bool(ties.any())
    pairs = [(i, j) for i, j in combinations(range(count), 2) if wins[i, j] + wins[j, i] + ties[i, j]]
    design = np.zeros((len(pairs), 3, count + 1))
    for row, (i, j) in enumerate(pairs):
        design[row, 0, i] = design[row, 2, j] = 1
        design[row, 1, [i, j, count]] = 0.5, 0.5, 1
    counts = np.array([[wins[i, j], ties[i, j], wins[j, i]] for i, j in pairs]).reshape(-1, 3)
    outcomes = np.array([True, tied, True])
    parameters = [index for index in range(count + tied) if index != count - 1]
    return design[:, outcomes][:, :, parameters], counts[:, outcomes]


def _unbounded(design: FloatArray, table: FloatArray) -> str:
    """Whether the likelihood rises for ever in some direction: one in which no outcome of a pair gains on one that was
    voted for. A linear program finds it."""
    rows = np.concatenate(
        [design[pair, chosen] - np.delete(design[pair], chosen, axis=0) for pair, chosen in np.argwhere(table > 0)]
    )
    best = linprog(-rows.sum(axis=0), A_ub=-rows, b_ub=np.zeros(len(rows)), bounds=(-1, 1))
    if best.fun is not None and best.fun < -1e-9:
        return "some items won or lost every vote against the rest, or all their votes are ties"
    return ""


def _fit(design: FloatArray, table: FloatArray, count: int) -> tuple[FloatArray, FloatArray, float]:
    """Strengths of `count` items that sum to 0, their standard errors, and nu."""
    totals = table.sum(axis=1)

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        predictors = design @ parameters
        top = predictors.max(axis=1, keepdims=True)
        normalizers = top[:, 0] + np.log(np.exp(predictors - top).sum(axis=1))
        chances = np.exp(predictors - normalizers[:, None])
        value = (totals * normalizers).sum() - (table * predictors).sum()
        gradient = np.einsum("po,pok->k", totals[:, None] * chances - table, design)
        return float(value), gradient

    def information(parameters: FloatArray) -> FloatArray:
        predictors = design @ parameters
        chances = np.exp(predictors - predictors.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        means = np.einsum("po,pok->pk", chances, design)
        second = np.einsum("p,po,pok,pol->kl", totals, chances, design, design)
        return np.asarray(second - np.einsum("p,pk,pl->kl", totals, means, means))

    fitted = minimize(loss, np.zeros(design.shape[2]), jac=True, method="BFGS", options={"gtol": 1e-10}).x
    for _ in range(20):  # Newton steps: BFGS stops near the maximum, these end at it
        step = np.linalg.solve(information(fitted), loss(fitted)[1])
        fitted = fitted - step
        if np.abs(step).max() < 1e-13:
            break
    covariance = np.linalg.inv(information(fitted))
    centre = _centring(count)
    strengths = centre @ fitted[: count - 1]
    errors = np.sqrt(np.diag(centre @ covariance[: count - 1, : count - 1] @ centre.T))
    return strengths, errors, float(np.exp(fitted[-1])) if design.shape[1] == 3 else 0.0


def _centring(count: int) -> FloatArray:
    """The matrix from all strengths but the last, which is 0, to all strengths with mean 0."""
    padded: FloatArray = np.vstack([np.eye(count - 1), np.zeros(count - 1)])
    return padded - padded.mean(axis=0)
