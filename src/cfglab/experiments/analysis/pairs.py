"""What a run says about one metric, laid out for pairing: every setting less one baseline, image by image."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from cfglab.errors import InputError
from cfglab.experiments.analysis.paired import Difference, differences, means
from cfglab.experiments.analysis.scores import ResultLike, Scores
from cfglab.experiments.storage.store import Store
from cfglab.metrics.estimate import Estimate
from cfglab.metrics.registry import METRICS, Better, sign

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """One metric of a run against one baseline; `settings` are all others, in the order of the results.

    `against` is what each setting is compared with, (settings, prompts, seeds): the baseline's own values unless
    another reference was put in their place.
    """

    scores: Scores
    baseline: str
    against: FloatArray

    @classmethod
    def of(cls, source: Store | Scores | Iterable[ResultLike], metric: str, baseline: str) -> "Pairs":
        """
        Raises:
            InputError: a metric that the results do not hold or that is no metric of single images, a baseline that
                is no setting of theirs, two results for one (setting, prompt, seed).
        """
        scores = Scores.of(source, metric)
        refuse_unknown_setting(baseline, scores.settings)
        _refuse_unknown_metric(metric, scores.measured)
        own = scores.values[scores.settings.index(baseline)]
        return cls(scores, baseline, np.broadcast_to(own, scores.values.shape))

    @property
    def metric(self) -> str:
        return self.scores.metric

    @property
    def settings(self) -> list[str]:
        return [name for name in self.scores.settings if name != self.baseline]

    @property
    def better(self) -> Better | None:
        """The metric's direction; None where it has none or is not known here."""
        return METRICS[self.metric].better if self.metric in METRICS else None

    def differences(
        self, settings: Iterable[str] | None = None, keep: NDArray[np.bool_] | None = None
    ) -> dict[str, Difference]:
        """Settings (all, if not named) less what they are compared with, over the (prompt, seed) where `keep`,
        (prompts, seeds), holds. A pair with a failed or missing side is dropped and counted."""
        names = self.settings if settings is None else list(settings)
        rows = [self.scores.settings.index(name) for name in names]
        base = self.scores.settings.index(self.baseline)
        here = np.ones(self.against.shape[1:], dtype=bool) if keep is None else keep
        mine, other = self.scores.values[rows], self.against[rows]
        alone = np.isfinite(mine) ^ np.isfinite(other)
        lost = self.scores.failed[rows] | (self.scores.failed[base] & ~np.isfinite(other)) | alone
        gaps = np.where(here, mine - other, np.nan)
        dropped = (lost & here).sum(axis=(1, 2)).tolist()
        return dict(zip(names, differences(gaps, dropped, crossed=self.scores.crossed), strict=True))

    def baseline_mean(self) -> Estimate | None:
        """The baseline over all of its images."""
        own = self.scores.values[[self.scores.settings.index(self.baseline)]]
        return means(own, crossed=self.scores.crossed)[0]

    def mean_over_pairs(self, setting: str) -> float | None:
        """The mean of a setting over its pairs."""
        row = self.scores.settings.index(setting)
        mine = self.scores.values[row][np.isfinite(self.against[row])]
        mine = mine[np.isfinite(mine)]
        return float(mine.mean()) if mine.size else None


def rank(difference: float | None, better: Better | None) -> float:
    """Sort key that puts the best difference first (the largest where no direction is better), a missing one last."""
    if difference is None:
        return float("inf")
    return -sign(better) * difference


def refuse_unknown_setting(baseline: str, settings: Iterable[str]) -> None:
    """Raises InputError, with the nearest name, for a baseline that is no setting."""
    names = list(settings)
    if baseline not in names:
        raise InputError(f"baseline '{baseline}' is no setting of this run{_nearest(baseline, names)}")


def _refuse_unknown_metric(metric: str, measured: Iterable[str]) -> None:
    measured = set(measured)
    if metric in measured:
        return
    if metric in METRICS and METRICS[metric].of != "image":
        raise InputError(
            f"metric '{metric}' belongs to a whole set of images, not to one, so it cannot be paired by prompt and "
            f"seed; compare a store's settings in it without --choose and --equal. Metrics of images: "
            f"{join_names(measured)}"
        )
    if metric in METRICS and METRICS[metric].judge:
        raise InputError(f"metric '{metric}' was not measured in this run; cfglab score RUN {metric} measures it")
    if metric in METRICS:
        raise InputError(f"metric '{metric}' was not measured in this run; name one that was: {join_names(measured)}")
    raise InputError(f"metric '{metric}' is unknown{_nearest(metric, sorted(measured))}")


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{hint} Known: {join_names(known)}"


def join_names(names: Iterable[str], most: int = 12) -> str:
    """Names in alphabetical order, the first twelve of them."""
    names = sorted(names)
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
