"""Paired statistics for pictures that share prompt and seed.

What is resampled is the *cluster*: the prompt, because two pictures of one prompt are not independent and a claim
about a setting is a claim about prompts. With a single prompt the cluster is the picture, and every number then
speaks about that prompt only. With a single picture there is no interval and no p, and no interval either where
all clusters are exactly alike: sixteen right pictures of sixteen do not make 100 % certain.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cfglab.experiments import resampling
from cfglab.experiments.resampling import DRAWS
from cfglab.experiments.resampling import smallest_p as smallest_p
from cfglab.metrics.estimate import Estimate

FloatArray = NDArray[np.float64]
Key = tuple[str, int]  # prompt, seed


class Difference(BaseModel):
    """Mean of a - b over pairs, its 95 % interval, and what the data could have shown.

    Attributes:
        low, high: the interval; None where the spread is unknown, with one cluster or with clusters all alike.
        n_prompts: prompts with at least one pair.
        n: pairs.
        dropped: (prompt, seed) that only one side has.
        resampled: what the interval and p treat as independent; None with a single pair.
        p: two-sided, from sign flips of whole clusters; None with a single cluster.
        smallest_detectable: the true difference that a test at the 5 % level (before any correction) would find in
            80 of 100 such experiments, (t(.975) + t(.8)) standard errors; None where the spread is unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_prompts: int
    n: int
    dropped: int = 0
    resampled: Literal["prompts", "seeds"] | None
    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    smallest_detectable: float | None


def paired(
    values_a: Mapping[Key, float], values_b: Mapping[Key, float], *, draws: int = DRAWS, seed: int = 0
) -> Difference:
    """The difference a - b over the (prompt, seed) that both sides have; values that are not finite count as missing.

    `mean` weights pairs alike. `draws` and `seed` belong to the bootstrap and the Monte Carlo permutations; the same
    seed gives the same numbers.
    """
    grid = Grid({*values_a, *values_b})
    a, b = grid.of(values_a), grid.of(values_b)
    dropped = np.logical_xor(np.isfinite(a), np.isfinite(b)).sum()
    return differences((a - b)[None], [int(dropped)], draws=draws, seed=seed)[0]


def mean_interval(values: Mapping[Key, float], *, draws: int = DRAWS, seed: int = 0) -> Estimate | None:
    """Mean over pictures with its 95 % interval, clusters as in `paired`; None without any finite value."""
    return means(Grid(values).of(values)[None], draws=draws, seed=seed)[0]


def differences(values: FloatArray, dropped: Sequence[int], *, draws: int = DRAWS, seed: int = 0) -> list[Difference]:
    """What `paired` says of each setting, all at once: `values` are a - b, (settings, prompts, seeds), NaN where there
    is no pair; `dropped` is counted by the caller."""
    found = []
    for setting, moments in enumerate(_moments(values, draws, seed, test=True)):
        pairs = np.isfinite(values[setting])
        found.append(
            Difference(
                n_prompts=int(pairs.any(axis=1).sum()),
                n=int(pairs.sum()),
                dropped=dropped[setting],
                resampled=_resampled(pairs),
                **moments,
            )
        )
    return found


def means(values: FloatArray, *, draws: int = DRAWS, seed: int = 0) -> list[Estimate | None]:
    """`mean_interval` of each setting, all at once: `values` (settings, prompts, seeds), NaN where missing."""
    counts = np.isfinite(values).sum(axis=(1, 2))
    return [
        None if it["mean"] is None else Estimate(value=it["mean"], low=it["low"], high=it["high"], n=int(count))
        for it, count in zip(_moments(values, draws, seed, test=False), counts, strict=True)
    ]


def resampled(keys: Iterable[Key]) -> Literal["prompts", "seeds"] | None:
    """What counts as independent among these pictures: several prompts, else seeds; None for one picture."""
    keys = set(keys)
    return _resampled(np.isfinite(Grid(keys).of(dict.fromkeys(keys, 0.0)))) if keys else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given: the family-wise error stays below the level whatever the
    dependence between tests (Holm, Scand. J. Statist. 6, 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in corrected]


class Grid:
    """Prompts × seeds, each sorted: where every (prompt, seed) of some results has its place."""

    def __init__(self, keys: Iterable[Key]) -> None:
        keys = set(keys)
        self.prompts = {prompt: i for i, prompt in enumerate(sorted({prompt for prompt, _ in keys}))}
        self.seeds = {seed: i for i, seed in enumerate(sorted({seed for _, seed in keys}))}

    def of(self, values: Mapping[Key, float]) -> FloatArray:
        """The values as (prompts, seeds), NaN where there is none or it is not finite."""
        array = np.full((len(self.prompts), len(self.seeds)), np.nan)
        for (prompt, seed), value in values.items():
            array[self.prompts[prompt], self.seeds[seed]] = value
        array[~np.isfinite(array)] = np.nan
        return array


def _resampled(there: NDArray[np.bool_]) -> Literal["prompts", "seeds"] | None:
    if there.any(axis=1).sum() > 1:
        return "prompts"
    return "seeds" if there.sum() > 1 else None


def _clusters(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sum and count of the values of each cluster of one setting: its prompts, or the pictures of its one prompt."""
    there = np.isfinite(values)
    if there.any(axis=1).sum() <= 1:
        pictures = values[there]
        return pictures, np.ones(len(pictures))
    counts = there.sum(axis=1)
    sums = np.where(there, values, 0.0).sum(axis=1)
    return sums[counts > 0], counts[counts > 0].astype(np.float64)


def _moments(values: FloatArray, draws: int, seed: int, *, test: bool) -> list[dict[str, float | None]]:
    """mean, low and high of each setting, and p and smallest_detectable where a difference is tested."""
    names = ("mean", "low", "high", *(("p", "smallest_detectable") if test else ()))
    found: list[dict[str, float | None]] = [dict.fromkeys(names) for _ in values]
    alike: dict[int, list[int]] = {}  # number of clusters -> settings
    clusters = [_clusters(one) for one in values]
    for setting, (sums, _) in enumerate(clusters):
        alike.setdefault(len(sums), []).append(setting)
    for groups, settings in alike.items():
        if not groups:
            continue
        sums = np.stack([clusters[setting][0] for setting in settings])
        counts = np.stack([clusters[setting][1] for setting in settings])
        columns = {"mean": resampling.mean(sums, counts)}
        columns["low"], columns["high"] = resampling.interval(sums, counts, draws, seed).T
        if test and groups > 1:
            columns["p"] = resampling.sign_flip_p(sums, draws, seed)
            columns["smallest_detectable"] = resampling.smallest_detectable(sums, counts)
        for name, column in columns.items():
            for setting, value in zip(settings, column.tolist(), strict=True):
                found[setting][name] = value if np.isfinite(value) else None
    return found
