"""Choose on one half, report on the other: the best setting of a sweep without the winner's curse."""

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cfglab.errors import InputError
from cfglab.experiments.equal import Equal, at_equal
from cfglab.experiments.pairs import Better, Pairs, rank
from cfglab.experiments.scores import ResultLike, Scores
from cfglab.experiments.statistics import Difference
from cfglab.experiments.store import Store
from cfglab.terminal import inline


class SplitChoice(BaseModel):
    """The setting that was best on one half (`chosen_on`), and its difference on the other half, `reported_on`.

    `against` names the fair opponent where that is not the baseline itself.
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

    def __str__(self) -> str:
        chosen, reported = self.chosen_on, self.reported_on
        said = f"{reported.mean:+.3g}"
        if reported.low is not None:
            said += f" [{reported.low:+.3g}, {reported.high:+.3g}], p = {reported.p:.3g}"
        only = "; for this prompt only, seeds are resampled" if reported.resampled == "seeds" else ""
        other = self.against or repr(self.baseline)
        return inline(
            f"{self.metric}: '{self.setting}' less {other}, the best of {self.candidates} on one half of the "
            f"{self.split} ({chosen.mean:+.3g} there, flattered by the choice, n = {chosen.n}); "
            f"on the other half {said} (n = {reported.n} of {reported.n_prompts} prompts{only})."
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

    Args:
        better: the direction, where the metric has none of its own.
        equal: choose and report at equal `dose` or `cost`, as in `compare`.

    Raises:
        InputError: as `compare`; a split with fewer than two units; no setting with pairs in both halves; a metric
            without a direction when `better` is not given.
    """
    pairs = Pairs.of(source, metric, baseline)
    better = better or pairs.better
    if better is None:
        raise InputError(f"metric '{metric}' has no better direction; say which: better='higher' or better='lower'")
    first = _first_half(pairs, split, seed)
    names = pairs.settings
    opponents: Mapping[str, str] = {}
    if equal is not None:
        fair = at_equal(pairs, source, equal)
        pairs, opponents = fair.pairs, fair.opponents
        names = list(opponents)
    chosen_on = pairs.differences(names, first)
    candidates = sorted(
        (name for name, difference in chosen_on.items() if difference.n),
        key=lambda name: rank(chosen_on[name].mean, better),
    )
    if not candidates:
        raise InputError(
            f"no setting shares a prompt and seed with '{baseline}' in the choosing half; run more {split}"
        )
    best = candidates[0]
    reported = pairs.differences([best], ~first)[best]
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
    )


def _first_half(pairs: Pairs, split: str, seed: int) -> NDArray[np.bool_]:
    """Which (prompt, seed) belong to the choosing half; only prompts or seeds with a value are dealt out."""
    if split not in ("prompts", "seeds"):
        raise InputError(f"split '{split}' is unknown: it must be 'prompts' or 'seeds'")
    axis = 0 if split == "prompts" else 1
    there = np.isfinite(np.moveaxis(pairs.scores.values, axis + 1, 1)).any(axis=0)
    units = np.flatnonzero(there.any(axis=-1))
    if len(units) < 2:
        raise InputError(
            f"split '{split}' finds {len(units)} to split: choosing on one half and reporting on the other needs at "
            f"least two; run more {split}"
        )
    order = np.random.default_rng(seed).permutation(len(units))
    chosen = np.zeros(np.shape(there), dtype=bool)
    chosen[units[order[: len(units) // 2]]] = True
    return np.moveaxis(chosen, 0, axis)
