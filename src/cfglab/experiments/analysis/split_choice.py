"""Choose on one half, report on the other: the best setting of a sweep without the winner's curse."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cfglab.errors import InputError
from cfglab.experiments.analysis.matched_baseline import Equal, at_equal
from cfglab.experiments.analysis.paired import Difference
from cfglab.experiments.analysis.pairs import Pairs, rank
from cfglab.experiments.analysis.scores import ResultLike, Scores
from cfglab.experiments.storage.store import Store
from cfglab.metrics.registry import Better
from cfglab.terminal import inline


class SplitChoice(BaseModel):
    """The best setting on one half of the data and its difference from the baseline on the other half.

    Attributes:
        metric: the name of the metric.
        baseline: the name of the baseline.
        setting: the name of the chosen setting.
        split: the unit that was split: "prompts" or "seeds".
        candidates: the number of settings to choose from.
        chosen_on: the difference on the half that was used for the choice.
        reported_on: the difference on the held-out half.
        against: the matched opponent, if it is not the baseline itself.
        shares: what both halves have in common; the result makes no claim about other prompts or noises of that kind.
        both: whether prompts and seeds were both split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    baseline: str
    setting: str
    split: Literal["prompts", "seeds"]
    candidates: int
    chosen_on: Difference
    reported_on: Difference
    against: str | None = None
    shares: Literal["nothing", "prompts", "noises"] = "nothing"
    both: bool = False

    @property
    def halves(self) -> tuple[str, str]:
        """What was chosen on and what was reported on, in words."""
        if self.both:
            return "one half of the prompts with one half of the seeds", "the other halves"
        return f"one half of the {self.split}", "the other half"

    @property
    def limit(self) -> str:
        """What the result makes no claim about, in words; empty if both halves share neither prompts nor noises."""
        if self.reported_on.resampled == "seeds":
            return "for this prompt only"
        return {
            "nothing": "",
            "prompts": "both halves have the same prompts, and nothing is said about others",
            "noises": f"both halves have the same {self.reported_on.n_seeds} starting noises, and with others the "
            "choice may look worse",
        }[self.shares]

    def __str__(self) -> str:
        chosen, reported = self.chosen_on, self.reported_on
        numbers = f"{reported.difference:+.3g}"
        if reported.low is not None:
            numbers += f" [{reported.low:+.3g}, {reported.high:+.3g}], p = {reported.p:.3g}"
        limits = f"; {self.limit}" if self.limit else ""
        of = f"{reported.n_prompts} prompt{'' if reported.n_prompts == 1 else 's'}"
        choosing, reporting = self.halves
        opponent = self.against or repr(self.baseline)
        return inline(
            f"{self.metric}: '{self.setting}' less {opponent}, the best of {self.candidates} on {choosing} "
            f"({chosen.difference:+.3g} there, flattered by the choice, n = {chosen.n}); "
            f"on {reporting} {numbers} (n = {reported.n} of {of}{limits})."
        )


def best_on_split(
    source: Store | Scores | Iterable[ResultLike],
    metric: str,
    baseline: str,
    *,
    split: Literal["prompts", "seeds"] = "prompts",
    better: Better | None = None,
    equal: Equal | None = None,
    seed: int = 0,
) -> SplitChoice:
    """Choose the best setting on one half of the prompts (or seeds), report its difference on the other half.

    The halves are drawn at random by `seed` from the sorted prompts (or seeds). The reported difference is a single
    planned comparison: it needs no correction and is not flattered by the choice.

    Where all prompts share the starting noises of the seeds, halves of the prompts alone would share the noises, and
    halves of the seeds alone the prompts: a setting that was lucky with them would be praised again. From four seeds on
    the choice then sees one half of the prompts with one half of the seeds, and the report the other half of both; with
    fewer seeds the halves of the prompts share the noises, which `shares` says.

    Args:
        better: the direction, where the metric has none of its own.
        equal: choose and report at equal `dose` or `cost`, as in `compare`.

    Raises:
        InputError: as `compare`; a split with fewer than two units; a split by seeds where prompts share the noises of
            fewer than four seeds; no setting with pairs in both halves; a metric
            without a direction when `better` is not given.
    """
    pairs = Pairs.of(source, metric, baseline)
    better = better or pairs.better
    if better is None:
        raise InputError(
            f"metric '{metric}': no direction is better by itself, and a choice needs one; add --better higher or "
            "--better lower (in Python better='higher')."
        )
    halves = _halves(pairs, split, seed)
    names = pairs.settings
    opponents: Mapping[str, str] = {}
    if equal is not None:
        matched = at_equal(pairs, source, equal)
        pairs, opponents = matched.pairs, matched.opponents
        names = list(opponents)
    chosen_on = pairs.differences(names, halves.choosing)
    candidates = sorted(
        (name for name, difference in chosen_on.items() if difference.n),
        key=lambda name: rank(chosen_on[name].difference, better),
    )
    if not candidates:
        raise InputError(
            f"no setting shares a prompt and seed with '{baseline}' in the choosing half; run more {split}"
        )
    best = candidates[0]
    reported = pairs.differences([best], halves.reporting)[best]
    if not reported.n:
        raise InputError(
            f"'{best}' shares no prompt and seed with '{baseline}' in the reporting half; run more {split}"
        )
    return SplitChoice(
        metric=metric,
        baseline=baseline,
        setting=best,
        split=split,
        candidates=len(candidates),
        chosen_on=chosen_on[best],
        reported_on=reported,
        against=opponents.get(best),
        shares=halves.shares,
        both=halves.both,
    )


FEWEST_SEEDS = 4
"""Seeds from which on they can be halved where all prompts share their noises: two are left on either side."""


@dataclass(frozen=True)
class _Halves:
    """Which (prompt, seed) choose and which report, and what both have in common."""

    choosing: NDArray[np.bool_]
    reporting: NDArray[np.bool_]
    shares: Literal["nothing", "prompts", "noises"]
    both: bool


def _halves(pairs: Pairs, split: str, seed: int) -> _Halves:
    if split not in ("prompts", "seeds"):
        raise InputError(f"split '{split}' is unknown: it must be 'prompts' or 'seeds'")
    present = np.asarray(np.isfinite(pairs.scores.values).any(axis=0))
    prompts, seeds = (np.flatnonzero(present.any(axis=axis)) for axis in (1, 0))
    units = prompts if split == "prompts" else seeds
    if len(units) < 2:
        raise InputError(
            f"split '{split}' finds {len(units)} to split: choosing on one half and reporting on the other needs at "
            f"least two; run more {split}"
        )
    two_way = pairs.scores.crossed and len(prompts) > 1
    if two_way and split == "seeds" and len(seeds) < FEWEST_SEEDS:
        raise InputError(
            f"split 'seeds' finds {len(seeds)} starting noises, which all prompts share: a half of so few decides by "
            "luck; choose by prompts, or run more seeds or noise=nested"
        )
    two_way = two_way and len(seeds) >= FEWEST_SEEDS
    random = np.random.default_rng(seed)
    everywhere = np.ones(present.shape, dtype=bool)
    choosing, reporting = everywhere, everywhere
    if split == "prompts" or two_way:
        rows = _half(prompts, len(present), random)[:, None]
        choosing, reporting = choosing & rows, reporting & ~rows
    if split == "seeds" or two_way:
        columns = _half(seeds, present.shape[1], random)
        choosing, reporting = choosing & columns, reporting & ~columns
    shared: Literal["nothing", "prompts", "noises"] = "nothing"
    if not two_way and len(prompts) > 1:
        shared = "prompts" if split == "seeds" else "noises" if pairs.scores.crossed else "nothing"
    return _Halves(choosing, reporting, shared, two_way)


def _half(units: NDArray[np.intp], size: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """A random half of the units, as a mask of `size`."""
    chosen = np.zeros(size, dtype=bool)
    chosen[units[random.permutation(len(units))[: len(units) // 2]]] = True
    return chosen
